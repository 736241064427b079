"""Scaling activations by the style equals convolving with weights modulated picture by picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import gradient
from torch import Tensor

from tempcons.models.stylegan2 import ModulatedConv2d, as_products, convolved, doubled, kernel_energy


def modulated_weights(layer: ModulatedConv2d, x: Tensor, w: Tensor) -> Tensor:
    """Each picture convolved with weights of its own (Karras et al. 2020, Section 2.2)."""
    pictures = []
    for picture, style in zip(x, layer.modulation(w), strict=True):
        weight = layer.scale * layer.weight[0] * style[None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.upsample:
            made = layer.blur(F.conv_transpose2d(picture[None], weight.transpose(0, 1), stride=2))
        else:
            made = F.conv2d(picture[None], weight, padding=layer.padding)
        pictures.append(made)
    return torch.cat(pictures)


@pytest.mark.parametrize("size", [4, 7, 9])
@pytest.mark.parametrize(
    ("kernel", "demodulate", "upsample"), [(3, True, False), (3, True, True), (1, False, False)]
)
def test_equals_modulated_weights(kernel, demodulate, upsample, size):
    """Small maps, which are convolved by matrix products, and larger ones."""
    layer = ModulatedConv2d(6, 5, kernel, 8, demodulate, upsample)
    x, w = torch.randn(3, 6, size, size), torch.randn(3, 8, requires_grad=True)
    ours, wanted = layer(x, w), modulated_weights(layer, x, w)
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(ours)
    by_us, by_weights = (torch.autograd.grad(made, (w, layer.weight), upstream) for made in (ours, wanted))
    for one, other in zip(by_us, by_weights, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


def test_small_maps_are_matrix_products_and_the_same():
    x, weight = torch.randn(2, 6, 4, 4), torch.randn(5, 6, 3, 3)
    assert as_products(x, weight, 16) and not as_products(x, weight, 15)
    assert not as_products(x.contiguous(memory_format=torch.channels_last), weight, 16)
    torch.testing.assert_close(convolved(x, weight, 1), F.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)
    plain = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    torch.testing.assert_close(doubled(x, weight), plain, rtol=1e-5, atol=1e-5)


def test_energy_of_kernels_has_its_gradient():
    weight = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(kernel_energy(weight), weight.square().sum(dim=(2, 3)))
    assert torch.autograd.gradcheck(kernel_energy, weight)
    assert torch.autograd.gradgradcheck(kernel_energy, weight)


def test_energy_of_kernels_is_exact_under_autocast():
    weight = torch.randn(3, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        energy = kernel_energy(weight)
    assert energy.dtype == torch.float32
    torch.testing.assert_close(energy, weight.square().sum(dim=(2, 3)))


def test_no_weight_gradient_where_only_codes_are_trained():
    layer = ModulatedConv2d(6, 5, 3, 8).requires_grad_(False)
    w = torch.randn(2, 8, requires_grad=True)
    layer(torch.randn(2, 6, 7, 7), w).square().sum().backward()
    assert gradient(w).abs().sum() > 0
    assert all(parameter.grad is None for parameter in layer.parameters())
