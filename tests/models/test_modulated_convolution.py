"""Scaling activations by the style equals convolving with weights modulated picture by picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import gradient
from torch import Tensor

from tempcons.models.stylegan2 import ModulatedConv2d


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


@pytest.mark.parametrize(
    ("kernel", "demodulate", "upsample"), [(3, True, False), (3, True, True), (1, False, False)]
)
def test_equals_modulated_weights(kernel, demodulate, upsample):
    layer = ModulatedConv2d(6, 5, kernel, 8, demodulate, upsample).requires_grad_(False)
    x, w = torch.randn(3, 6, 7, 7), torch.randn(3, 8, requires_grad=True)
    ours, wanted = layer(x, w), modulated_weights(layer, x, w)
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(ours)
    [by_us], [by_weights] = (torch.autograd.grad(made, w, upstream) for made in (ours, wanted))
    assert (by_us - by_weights).norm() < 1e-5 * by_weights.norm()


def test_no_weight_gradient_where_only_codes_are_trained():
    layer = ModulatedConv2d(6, 5, 3, 8).requires_grad_(False)
    w = torch.randn(2, 8, requires_grad=True)
    layer(torch.randn(2, 6, 7, 7), w).square().sum().backward()
    assert gradient(w).abs().sum() > 0
    assert all(parameter.grad is None for parameter in layer.parameters())
