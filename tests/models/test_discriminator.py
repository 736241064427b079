"""The discriminator's blur and strided convolution in one: what a GPU computes is what a CPU does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tempcons.models.discriminator import DownConv, halved_at_once
from tempcons.models.stylegan2 import filter2d


@pytest.mark.parametrize("kernel", [1, 3])
def test_blurred_weights_equal_a_blur_before_the_convolution(kernel):
    layer = DownConv(5, 7, kernel, down=True).double()
    x = torch.randn(2, 5, 8, 8, dtype=torch.double)
    weight = layer.weight * layer.scale
    blurred = filter2d(x, layer.resample_filter, kernel // 2 + 1)
    at_once = halved_at_once(x, weight, layer.resample_filter)
    torch.testing.assert_close(at_once, F.conv2d(blurred, weight, stride=2))
    assert at_once.shape == (2, 7, 4, 4)
    plain = layer(x) / layer.gain
    assert layer.bias is not None
    wanted = F.leaky_relu(at_once + layer.bias[:, None, None], 0.2) * 2**0.5
    torch.testing.assert_close(plain, wanted)
