"""Convolutions by fewer products: the plain convolution and its gradient, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tempcons.models.fixed_convolution import TOGETHER, FixedConvolution, transforms

KERNELS = [(3, 3), (1, 5), (5, 1), (1, 1)]


@pytest.mark.parametrize("taps", [3, 5])
def test_transforms_give_the_correlation(taps):
    outputs = TOGETHER[taps]
    at, weights, values = transforms(outputs, taps)
    random = np.random.default_rng(taps)
    kernel, inputs = random.standard_normal(taps), random.standard_normal(outputs + taps - 1)
    wanted = np.correlate(inputs, kernel, "valid")
    np.testing.assert_allclose(at @ ((weights @ kernel) * (values @ inputs)), wanted, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (9, 11)])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_equals_the_plain_convolution(kernel, size):
    weight, bias = 0.1 * torch.randn(6, 5, *kernel), torch.randn(6)
    x = torch.randn(2, 5, *size, requires_grad=True)
    made = FixedConvolution(weight, bias)(x)
    padding = (kernel[0] // 2, kernel[1] // 2)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)
    torch.testing.assert_close(made.double(), wanted, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(made)
    [ours] = torch.autograd.grad(made, x, upstream)
    [plain] = torch.autograd.grad(wanted, x, upstream.double())
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_other_precisions_are_left_to_the_library():
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 8, 8)
    double = FixedConvolution(weight.double())(x.double())
    assert torch.equal(double, F.conv2d(x.double(), weight.double(), padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert FixedConvolution(weight)(x).dtype == torch.bfloat16
