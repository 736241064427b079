"""StyleGAN2-ADA's discriminator (residual architecture), in NVIDIA's parameter names.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import check_shape
from tempcons.models.stylegan2 import (
    ACTIVATION_GAIN,
    LEAKY_SLOPE,
    EqualLinear,
    blur_kernel,
    filter2d,
)

RESIDUAL_GAIN = math.sqrt(0.5)


def blurred_weight(weight: Tensor, kernel: Tensor) -> Tensor:
    """Weights (O, C, r, r) convolved with a symmetric (4, 4) kernel: (O, C, r + 3, r + 3).

    A convolution with these is the blur and the convolution after it.
    """
    taps = weight.shape[-1]
    units = torch.eye(taps * taps, device=weight.device, dtype=kernel.dtype).view(-1, 1, taps, taps)
    spread = F.conv2d(units, kernel[None, None], padding=kernel.shape[-1] - 1)
    wide = weight.flatten(2) @ spread.flatten(1).to(weight.dtype)
    return wide.view(*weight.shape[:2], *spread.shape[2:])


def halved_at_once(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) features blurred, then convolved with (O, C, k, k) of stride 2, at once.

    For a GPU: convolutions of each channel by itself are slow there, and the second derivative, which the
    gradient penalty takes, goes through them channel by channel.
    """
    return F.conv2d(x, blurred_weight(weight, kernel), stride=2, padding=weight.shape[-1] // 2 + 1)


class DownConv(nn.Module):
    """Equalised convolution, after a low-pass filter where it halves the size.

    Args:
        activate: leaky ReLU with its gain, then the clamp.
        gain: factor of the output (and of the clamp), the square root of one half in residual sums.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("resample_filter", blur_kernel())
        self.scale = 1.0 / math.sqrt(in_channels * kernel**2)
        self.padding, self.down, self.activate = kernel // 2, down, activate
        self.gain, self.clamp = gain, clamp

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if not self.down:
            x = F.conv2d(x, weight, padding=self.padding)
        elif x.is_cuda:
            x = halved_at_once(x, weight, self.resample_filter)
        else:
            x = F.conv2d(filter2d(x, self.resample_filter, self.padding + 1), weight, stride=2)
        if self.bias is not None:
            x = x + self.bias[:, None, None]
        x = F.leaky_relu(x, LEAKY_SLOPE) * (ACTIVATION_GAIN * self.gain) if self.activate else x * self.gain
        return x if self.clamp is None else x.clamp(-self.clamp * self.gain, self.clamp * self.gain)


class DiscriminatorBlock(nn.Module):
    """Two convolutions beside a linear shortcut, half the size after."""

    resample_filter: Tensor

    def __init__(self, hidden: int, out: int, first: bool, clamp: float | None) -> None:
        super().__init__()
        self.register_buffer("resample_filter", blur_kernel())
        self.fromrgb = DownConv(3, hidden, 1, clamp=clamp) if first else None
        self.conv0 = DownConv(hidden, hidden, 3, clamp=clamp)
        self.conv1 = DownConv(hidden, out, 3, down=True, gain=RESIDUAL_GAIN, clamp=clamp)
        self.skip = DownConv(hidden, out, 1, down=True, bias=False, activate=False, gain=RESIDUAL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        return self.skip(x) + self.conv1(self.conv0(x))


def batch_deviation(x: Tensor, group: int) -> Tensor:
    """Append the standard deviation over groups of the batch as one more feature map."""
    batch, _, height, width = x.shape
    groups = x.reshape(min(group, batch), -1, *x.shape[1:])
    variance = groups.var(dim=0, correction=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    maps = deviation.repeat(groups.shape[0]).view(batch, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([x, maps], dim=1)


class Epilogue(nn.Module):
    """The 4x4 end: deviation over the batch, one convolution, two linear layers."""

    def __init__(self, channels: int, group: int, clamp: float | None) -> None:
        super().__init__()
        self.group = group
        self.conv = DownConv(channels + 1, channels, 3, clamp=clamp)
        self.fc = EqualLinear(channels * 16, channels, activate=True)
        self.out = EqualLinear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.conv(batch_deviation(x, self.group)).flatten(1)))


class Discriminator(nn.Module):
    """(B, 3, S, S) pictures to (B, 1) logits.

    Args:
        size: side S of the pictures.
        channels: feature maps per resolution, from ``size`` down to 4.
        conv_clamp: bound of the activations.
        group: pictures per group of the deviation over the batch; it divides the batch.
    """

    def __init__(
        self, size: int, channels: dict[int, int], conv_clamp: float | None = None, group: int = 4
    ) -> None:
        super().__init__()
        self.size = size
        self.resolutions = [2**k for k in range(size.bit_length() - 1, 2, -1)]
        for resolution in self.resolutions:
            hidden, out = channels[resolution], channels[resolution // 2]
            block = DiscriminatorBlock(hidden, out, resolution == size, conv_clamp)
            self.add_module(f"b{resolution}", block)
        self.b4 = Epilogue(channels[4], group, conv_clamp)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits.

        Raises:
            ValueError: pictures of another size.
        """
        check_shape(pictures, (None, 3, self.size, self.size), "pictures of the discriminator")
        x = pictures
        for resolution in self.resolutions:
            x = self.get_submodule(f"b{resolution}")(x)
        return self.b4(x)
