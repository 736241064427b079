"""StyleGAN2 generator, one class behind every checkpoint layout.

Parameter names and shapes are those of the widely used PyTorch port (rosinality), so official
``g_ema`` dictionaries load as they are. NVIDIA's layout is converted at load time
(:mod:`tempcons.weights.convert`).

Convention
    Pictures (B, 3, H, W) nominally in [-1, 1], not clamped. W+ codes (B, L, D) with
    L = 2 log2(size) - 2. Row 0 drives ``conv1``, row 1 ``to_rgb1`` and the first convolution of
    the next block, and so on: block k uses rows 2k+1, 2k+2 and, for its RGB output, 2k+3.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ACTIVATION_GAIN = math.sqrt(2.0)
LEAKY_SLOPE = 0.2
DEMODULATION_EPS = 1e-8
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)
# Positions of feature maps up to which a CPU convolves faster by matrix products.
SMALL_PLAIN, SMALL_TRANSPOSED = 16, 64


def num_layers(size: int) -> int:
    """Number of W+ rows of a generator of ``size`` pixels: 18 at 1024, 12 at 128."""
    return 2 * int(math.log2(size)) - 2


def default_channels(channel_multiplier: int = 2) -> dict[int, int]:
    """Feature maps per resolution of the official networks."""
    return {
        4: 512,
        8: 512,
        16: 512,
        32: 512,
        64: 256 * channel_multiplier,
        128: 128 * channel_multiplier,
        256: 64 * channel_multiplier,
        512: 32 * channel_multiplier,
        1024: 16 * channel_multiplier,
    }


def blur_kernel(gain: float = 1.0) -> Tensor:
    """Separable [1, 3, 3, 1] low-pass filter as a (4, 4) kernel that sums to ``gain``."""
    taps = torch.tensor(BLUR_TAPS)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * gain


def filter2d(x: Tensor, kernel: Tensor, padding: int = 0) -> Tensor:
    """Convolve each channel of (B, C, H, W) with a (k, k) kernel, zeros around (true convolution)."""
    channels = x.shape[1]
    weight = kernel.flip(0, 1).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, padding=padding, groups=channels)


def upsample2(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size: zeros between pixels, then ``kernel`` (which carries the gain of 4)."""
    b, c, h, w = x.shape
    zeros = x.new_zeros(b, c, h, 2, w, 2)
    zeros[:, :, :, 0, :, 0] = x
    padded = F.pad(zeros.view(b, c, 2 * h, 2 * w), (2, 1, 2, 1))
    return filter2d(padded, kernel)


class PixelNorm(nn.Module):
    """Scale each vector along dimension 1 to unit root mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; ``activate`` adds leaky ReLU and its gain."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_dim,), float(bias_init)))
        self.scale = lr_mul / math.sqrt(in_dim)
        self.lr_mul = lr_mul
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return F.leaky_relu(out, LEAKY_SLOPE) * ACTIVATION_GAIN if self.activate else out


class Blur(nn.Module):
    """Low-pass filter after a transposed convolution; carries the gain of the zero insertion."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return filter2d(x, self.kernel, padding=1)


class Upsample(nn.Module):
    """Twice the size for the RGB skip connection."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return upsample2(x, self.kernel)


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are modulated (and demodulated) by a style.

    The style scales the activations before and after an ordinary convolution, which equals
    modulating the weights picture by picture but needs no grouped convolution, and no weight
    gradient where only codes are trained.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int,
        style_dim: int,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channel, in_channel, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, in_channel, bias_init=1.0)
        if upsample:
            self.blur = Blur()
        self.scale = 1.0 / math.sqrt(in_channel * kernel_size**2)
        self.padding = kernel_size // 2
        self.demodulate = demodulate
        self.upsample = upsample

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        """(B, C, H, W) features and (B, D) codes to (B, C', H', W') ones, times ``gain`` if demodulated."""
        # The style carries the weights' scale too: it is small where the weights are millions of numbers.
        style = self.modulation(w) * self.scale
        # Not [0], whose gradient is a copy amid zeros.
        weight = self.weight.squeeze(0)
        x = x * style[:, :, None, None].to(x.dtype)
        x = self.blur(doubled(x, weight)) if self.upsample else convolved(x, weight, self.padding)
        if self.demodulate:
            energy = kernel_energy(weight)
            factor = gain * torch.rsqrt(F.linear(style.square(), energy) + DEMODULATION_EPS)
            x = x * factor[:, :, None, None].to(x.dtype)
        return x


def convolved(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(B, C, H, W) features convolved with kernels (O, C, k, k)."""
    if not as_products(x, weight, SMALL_PLAIN):
        return F.conv2d(x, weight, padding=padding)
    batch, _, height, width = x.shape
    columns = F.unfold(x, weight.shape[-1], padding=padding).transpose(0, 1).flatten(1)
    return (weight.flatten(1) @ columns).view(-1, batch, height, width).transpose(0, 1)


def doubled(x: Tensor, weight: Tensor) -> Tensor:
    """(B, C, H, W) features through a transposed convolution of stride 2 with kernels (O, C, 3, 3)."""
    if not as_products(x, weight, SMALL_TRANSPOSED):
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    batch, channels, height, width = x.shape
    kernels = weight.flatten(2).transpose(1, 2).reshape(-1, channels)
    columns = (kernels @ x.transpose(0, 1).reshape(channels, -1)).view(-1, batch, height * width)
    return F.fold(columns.transpose(0, 1), (2 * height + 1, 2 * width + 1), weight.shape[-1], stride=2)


def as_products(x: Tensor, weight: Tensor, largest: int) -> bool:
    """Whether a 3x3 convolution is one matrix product: on a CPU that is faster on small maps.

    The weights are what takes time there, and a convolution brings them into another order first.
    """
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
    small = weight.shape[-1] == 3 and x.shape[-2] * x.shape[-1] <= largest
    return on_cpu and small and len(x) > 1 and not x.is_contiguous(memory_format=torch.channels_last)


class KernelEnergy(torch.autograd.Function):
    """Squared length of every kernel, and its gradient in one pass over the weights each."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        kernels = weight.flatten(2).square()
        # As precise as the weights: a sum is so under autocast, a product is not.
        with torch.autocast(weight.device.type, enabled=False):
            return kernels @ kernels.new_ones(kernels.shape[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        [weight] = ctx.saved_tensors
        return weight * (2 * gradient)[:, :, None, None]


def kernel_energy(weight: Tensor) -> Tensor:
    """(O, C) sums of squares of kernels (O, C, k, k)."""
    return KernelEnergy.apply(weight)


class NoiseInjection(nn.Module):
    """The strength of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class BiasActivation(nn.Module):
    """Bias of a layer's channels."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channel))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise times its strength, bias, leaky ReLU, its gain, an optional clamp."""

    def __init__(
        self, in_channel: int, out_channel: int, style_dim: int, upsample: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channel, out_channel, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = BiasActivation(out_channel)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        # The activation's gain commutes with it: multiplied in before, where numbers are fewer.
        x = self.conv(x, w, ACTIVATION_GAIN)
        shift = ACTIVATION_GAIN * self.activate.bias[:, None, None]
        if noise is not None:
            shift = shift + ACTIVATION_GAIN * self.noise.weight * noise
        x = F.leaky_relu(x + shift.to(x.dtype), LEAKY_SLOPE, inplace=True)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Features to a picture, added to the upsampled picture of the block before."""

    def __init__(self, in_channel: int, style_dim: int, upsample: bool, clamp: float | None) -> None:
        super().__init__()
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(in_channel, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None = None) -> Tensor:
        out = self.conv(x, w) + self.bias.to(x.dtype)
        if self.clamp is not None:
            out = out.clamp(-self.clamp, self.clamp)
        return out if skip is None else out + self.upsample(skip)


class ConstantInput(nn.Module):
    """The learned 4x4 start of the synthesis."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channel, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1)


class Generator(nn.Module):
    """StyleGAN2 generator.

    Args:
        size: side of the picture in pixels, a power of two from 8 to 1024.
        style_dim: length D of one code row.
        n_mlp: layers of the mapping network.
        channels: feature maps per resolution; default the official ones.
        conv_clamp: bound of the activations (NVIDIA's half-precision networks use 256).
        z_dim: length of the mapping network's input; default ``style_dim``.
    """

    def __init__(
        self,
        size: int,
        style_dim: int = 512,
        n_mlp: int = 8,
        channels: dict[int, int] | None = None,
        conv_clamp: float | None = None,
        z_dim: int | None = None,
    ) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"generator size must be a power of two from 8 up, got {size}")
        channels = channels or default_channels()
        self.size, self.style_dim, self.n_mlp = size, style_dim, n_mlp
        self.channels = {r: c for r, c in channels.items() if r <= size}
        self.conv_clamp = conv_clamp
        self.z_dim = z_dim or style_dim
        self.n_latent = num_layers(size)
        self.num_noises = self.n_latent - 1
        # Blocks are computed again on the way back: less memory, a third more time.
        self.checkpointing = False

        widths = [self.z_dim] + [style_dim] * n_mlp
        mapping = [EqualLinear(a, b, lr_mul=0.01, activate=True) for a, b in pairwise(widths)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], style_dim, False, conv_clamp)
        self.to_rgb1 = ToRGB(channels[4], style_dim, False, conv_clamp)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        resolution = 8
        while resolution <= size:
            before, here = channels[resolution // 2], channels[resolution]
            self.convs.append(StyledConv(before, here, style_dim, True, conv_clamp))
            self.convs.append(StyledConv(here, here, style_dim, False, conv_clamp))
            self.to_rgbs.append(ToRGB(here, style_dim, True, conv_clamp))
            resolution *= 2
        self.noises = nn.Module()
        for index in range(self.num_noises):
            side = 2 ** ((index + 5) // 2)
            self.noises.register_buffer(f"noise_{index}", torch.randn(1, 1, side, side))

    @property
    def config(self) -> dict:
        """Constructor arguments, as plain types."""
        return {
            "size": self.size,
            "style_dim": self.style_dim,
            "n_mlp": self.n_mlp,
            "channels": dict(self.channels),
            "conv_clamp": self.conv_clamp,
            "z_dim": self.z_dim,
        }

    def const_noises(self) -> list[Tensor]:
        """The noise pictures stored with the network, one per styled convolution."""
        return [getattr(self.noises, f"noise_{i}") for i in range(self.num_noises)]

    def mapping(
        self,
        z: Tensor,
        truncation: float = 1.0,
        truncation_latent: Tensor | None = None,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """(B, z_dim) noise to (B, L, D) codes; rows below the cut-off are pulled to the mean.

        Raises:
            ValueError: truncation asked for without a mean code.
        """
        w = self.style(z)[:, None].repeat(1, self.n_latent, 1)
        if truncation == 1.0:
            return w
        if truncation_latent is None:
            raise ValueError("mapping: truncation needs truncation_latent, the mean code")
        rows = slice(None, truncation_cutoff)
        mean = truncation_latent.reshape(1, 1, -1)
        truncated = w.clone()
        truncated[:, rows] = mean + truncation * (w[:, rows] - mean)
        return truncated

    def synthesis(
        self, w: Tensor, noise: str | Sequence[Tensor | None] = "const", max_size: int | None = None
    ) -> Tensor:
        """(B, L, D) codes to (B, 3, H, W) pictures.

        Args:
            w: W+ codes.
            noise: "const" (stored noise), "none", "random", or one picture per convolution.
            max_size: stop at this resolution (progressive training).

        Raises:
            ValueError: codes of the wrong shape, or an unknown noise mode.
        """
        if w.ndim != 3 or w.shape[1] != self.n_latent or w.shape[2] != self.style_dim:
            expected = f"(B, {self.n_latent}, {self.style_dim})"
            raise ValueError(f"synthesis: W+ codes must be {expected}, got {tuple(w.shape)}")
        noises = self._noises(noise, w)
        x = self.input(w.shape[0]).to(w.dtype)
        x = self.conv1(x, w[:, 0], noises[0])
        picture = self.to_rgb1(x, w[:, 1])
        for block, to_rgb in enumerate(self.to_rgbs):
            if max_size is not None and 4 * 2**block >= max_size:
                break
            row = 2 * block + 1
            inputs = x, picture, w[:, row : row + 3], block, to_rgb, noises[row : row + 2]
            if self.checkpointing and torch.is_grad_enabled():
                x, picture = checkpoint(self._block, *inputs, use_reentrant=False)
            else:
                x, picture = self._block(*inputs)
        # As precise as the codes under autocast too: flow and warps go wrong by pixels in half precision.
        return picture.to(w.dtype)

    def _block(
        self,
        x: Tensor,
        picture: Tensor,
        w: Tensor,
        block: int,
        to_rgb: nn.Module,
        noises: Sequence[Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Features and picture at twice the size, from three rows of the codes (B, 3, D)."""
        x = self.convs[2 * block](x, w[:, 0], noises[0])
        x = self.convs[2 * block + 1](x, w[:, 1], noises[1])
        return x, to_rgb(x, w[:, 2], picture)

    def _noises(self, noise: str | Sequence[Tensor | None], w: Tensor) -> list[Tensor | None]:
        if not isinstance(noise, str):
            if len(noise) != self.num_noises:
                raise ValueError(f"synthesis: {self.num_noises} noise pictures needed, got {len(noise)}")
            return list(noise)
        if noise == "const":
            return list(self.const_noises())
        if noise == "none":
            return [None] * self.num_noises
        if noise == "random":
            return [
                torch.randn(w.shape[0], *n.shape[1:], device=w.device, dtype=w.dtype)
                for n in self.const_noises()
            ]
        raise ValueError(f"synthesis: noise is const, none, random or a list, got {noise!r}")

    def forward(self, w: Tensor, noise: str | Sequence[Tensor | None] = "const") -> Tensor:
        return self.synthesis(w, noise)

    def layer_parameters(self, first: int) -> list[nn.Parameter]:
        """Parameters of the synthesis layers (convolutions) with index ``first`` and above.

        Layer 0 is ``conv1``, layers 1.. are ``convs``. The RGB output of a block belongs to the
        layer before it, so freezing the last n layers freezes the pictures they write as well.
        """
        layers: list[nn.Module] = [self.conv1, *self.convs]
        parameters = [p for layer in layers[first:] for p in layer.parameters()]
        for index, to_rgb in enumerate([self.to_rgb1, *self.to_rgbs]):
            if 2 * index >= first:
                parameters += list(to_rgb.parameters())
        return parameters
