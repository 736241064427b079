"""Convolutions with weights that don't change, on a CPU with about half the multiplications.

Winograd's and Toom and Cook's way: m neighbouring outputs of a kernel of r numbers are a polynomial product,
which m + r - 1 multiplications give instead of m r, once inputs and weights are brought to values at as many
points. The weights' share is computed once, and inputs' and outputs' are small matrices; what remains is
matrix products of channels. The result is that of the plain convolution up to rounding (1e-6 relative in
float32, which is the plain one's too), and so is the gradient, which is such a convolution again.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Outputs computed together along an axis, by the kernel's length on it.
TOGETHER = {1: 1, 3: 2, 5: 4}
# Where polynomials are evaluated, beside infinity: small numbers keep rounding errors small.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


@lru_cache
def transforms(outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices A (outputs, n), G (n, taps) and B (n, n), n = outputs + taps - 1, in float64.

    A @ ((G @ kernel) * (B @ inputs)) is the correlation of n inputs with the kernel.
    """
    n = outputs + taps - 1
    points = np.array(POINTS[: n - 1])
    at, weights, values = np.zeros((outputs, n)), np.zeros((n, taps)), np.zeros((n, n))
    for j, point in enumerate(points):
        others = np.delete(points, j)
        at[:, j] = point ** np.arange(outputs)
        weights[j] = point ** np.arange(taps) / np.prod(point - others)
        values[j, : n - 1] = np.atleast_1d(np.poly(others))[::-1]
    at[-1, -1] = weights[-1, -1] = 1
    values[-1] = np.atleast_1d(np.poly(points))[::-1]
    return at, weights, values


@dataclass(frozen=True)
class Products:
    """A convolution as matrix products.

    Attributes:
        weight: (n, O, C) the kernel's values at the n points of both axes.
        inputs: (n, n) from inputs of a tile to values.
        outputs: (m, n) from products to outputs of a tile.
        tile: outputs computed together on both axes.
        taps: the kernel's size.
    """

    weight: Tensor
    inputs: Tensor
    outputs: Tensor
    tile: tuple[int, int]
    taps: tuple[int, int]

    @classmethod
    def of(cls, weight: Tensor) -> Products:
        """For a kernel (O, C, kh, kw) of a convolution that keeps the size."""
        taps = (weight.shape[-2], weight.shape[-1])
        tile = (TOGETHER[taps[0]], TOGETHER[taps[1]])
        rows, columns = (transforms(m, r) for m, r in zip(tile, taps, strict=True))
        at, kernel, values = (
            torch.from_numpy(np.kron(a, b)).to(weight) for a, b in zip(rows, columns, strict=True)
        )
        return cls(
            torch.einsum("nk,ock->noc", kernel, weight.flatten(2)).contiguous(), values, at, tile, taps
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        batch, channels, height, width = x.shape
        (mh, mw), (rh, rw) = self.tile, self.taps
        rows, columns = -(-height // mh), -(-width // mw)
        below, right = rh // 2 + rows * mh - height, rw // 2 + columns * mw - width
        padded = F.pad(x, (rw // 2, right, rh // 2, below))
        tiles = padded.unfold(2, mh + rh - 1, mh).unfold(3, mw + rw - 1, mw)
        values = self.inputs @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(len(self.inputs), -1)
        products = torch.bmm(self.weight, values.view(len(values), channels, -1))
        made = (self.outputs @ products.flatten(1)).view(mh, mw, -1, batch, rows, columns)
        whole = made.permute(3, 2, 4, 0, 5, 1).reshape(batch, -1, rows * mh, columns * mw)
        return whole[..., :height, :width]


class _Convolve(torch.autograd.Function):
    """The products, whose gradient is the convolution with the kernel turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: FixedConvolution) -> Tensor:
        ctx.convolution = convolution
        return convolution.forwards(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.convolution.backwards(gradient), None


class FixedConvolution:
    """A convolution that keeps the size, with weights that get no gradient.

    On a CPU in float32 it is computed by :class:`Products`, elsewhere by the library.

    Args:
        weight: (O, C, kh, kw), with kernel sides of 1, 3 or 5.
        bias: (O,), if any.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self.padding = (weight.shape[-2] // 2, weight.shape[-1] // 2)

    @cached_property
    def forwards(self) -> Products:
        return Products.of(self.weight)

    @cached_property
    def backwards(self) -> Products:
        return Products.of(self.weight.flip(2, 3).transpose(0, 1))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return F.conv2d(x, self.weight, self.bias, padding=self.padding)
        made = _Convolve.apply(x, self)
        return made if self.bias is None else made + self.bias[:, None, None]
