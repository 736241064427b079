"""Backward warping by optical flow: the one convention of the project.

Convention:
    - flow is (B, 2, H, W), in pixels of its own grid, x first; F_{a->b} lives on the grid of a: the
      point p of a is at p + F_{a->b}(p) in b;
    - warp(I_b, F_{a->b})(p) = I_b(p + F_{a->b}(p)): b's picture on a's grid;
    - pixel centres are at whole numbers, so the picture spans [0, W-1] x [0, H-1] (what PyTorch calls
      align_corners=True); bilinear; zeros outside unless the border is asked for;
    - zero flow is the identity, and a whole-pixel shift is exact, to the last bit.

Normalising positions by W - 1, as ``grid_sample(align_corners=True)`` and ``kornia.remap`` need it, loses
the last bits, so zero flow changes the picture. Positions on a grid whose sides are powers of two survive
the way to [-1, 1] and back unharmed: the picture is padded with zeros to such sides, which changes nothing
else, since outside is zero anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.check import check_shape

Padding = Literal["zeros", "border"]


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel positions (1, 2, H, W), x first, on the device and in the dtype of ``like``."""
    y = torch.arange(height, device=like.device, dtype=like.dtype)
    x = torch.arange(width, device=like.device, dtype=like.dtype)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows])[None]


def inside(flow: Tensor) -> Tensor:
    """Where p + F(p) falls on the picture: (B, 1, H, W), 1 inside [0, W-1] x [0, H-1], else 0."""
    height, width = flow.shape[-2:]
    x, y = (pixel_grid(height, width, flow) + flow.detach()).split(1, dim=1)
    within = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return within.to(flow.dtype)


def warp(picture: Tensor, flow: Tensor, padding: Padding = "zeros") -> tuple[Tensor, Tensor]:
    """Bring ``picture`` (of b) onto the grid of a: warped(p) = picture(p + F_{a->b}(p)).

    Args:
        picture: (B, C, H, W), any range.
        flow: (B, 2, H, W) F_{a->b} in pixels, x first. Gradients reach both arguments.
        padding: what lies outside: zeros, or the nearest border pixel.

    Returns:
        (B, C, H, W) warped picture and (B, 1, H, W) validity mask (1 inside, 0 outside, no gradient).

    Raises:
        ValueError: shapes that don't fit together, or whole-number flow.
    """
    batch, _, height, width = picture.shape
    _check_flow(flow, (batch, 2, height, width))
    position = pixel_grid(height, width, flow) + flow
    if padding == "border":
        limits = flow.new_tensor([width - 1, height - 1]).view(1, 2, 1, 1)
        position = position.clamp(flow.new_zeros(1), limits)
    return _sample(picture, position), inside(flow)


@dataclass(frozen=True)
class FixedWarp:
    """A warp along flow that stays the same, for many pictures: see :func:`warp`.

    Attributes:
        positions: (B, H, W, 2) where to look, in the units of ``grid_sample``.
        valid: (B, 1, H, W) validity mask.
    """

    positions: Tensor
    valid: Tensor

    @classmethod
    def along(cls, flow: Tensor) -> FixedWarp:
        """Along ``flow`` (B, 2, H, W) in pixels, x first, which gets no gradient.

        Raises:
            ValueError: flow of another shape or of whole numbers.
        """
        _check_flow(flow, (None, 2, None, None))
        flow, (height, width) = flow.detach(), flow.shape[-2:]
        return cls(_normalised(pixel_grid(height, width, flow) + flow).contiguous(), inside(flow))

    def __call__(self, picture: Tensor) -> Tensor:
        """(B, C, H, W) pictures of b on the grid of a, zeros outside; gradients reach the pictures.

        Raises:
            ValueError: pictures of another number or size than the flow.
        """
        batch, height, width, _ = self.positions.shape
        check_shape(picture, (batch, None, height, width), "picture")
        return _looked_up(picture, self.positions)


def round_trip_error(flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Forward-backward error on a's grid: |F_ab(p) + F_ba(p + F_ab(p))|, in pixels of the flow grid.

    F_ba counts as zero outside b. Differentiable; the gradient at zero error is zero.

    Args:
        flow_ab: (B, 2, H, W) on a's grid.
        flow_ba: (B, 2, H, W) on b's grid, of the same size.

    Returns:
        (B, 1, H, W), >= 0. Source: Xu et al. 2022, Section 3.2 (there with flows written as maps).
    """
    back, _ = warp(flow_ba, flow_ab)
    return torch.linalg.vector_norm(flow_ab + back, dim=1, keepdim=True)


def _check_flow(flow: Tensor, shape: Sequence[int | None]) -> None:
    check_shape(flow, shape, "flow")
    if not flow.is_floating_point():
        raise ValueError(f"flow must be floating point, got {flow.dtype}")


def _sample(picture: Tensor, position: Tensor) -> Tensor:
    """Bilinear values of ``picture`` at ``position`` (B, 2, H, W) in pixels, zeros outside."""
    return _looked_up(picture, _normalised(position))


def _normalised(position: Tensor) -> Tensor:
    """Positions (B, 2, H, W) in pixels as (B, H, W, 2) in [-1, 1] of the padded picture."""
    height, width = position.shape[-2:]
    scale = position.new_tensor([2 / _power_of_two(width), 2 / _power_of_two(height)]).view(1, 2, 1, 1)
    return ((position + 0.5) * scale - 1).permute(0, 2, 3, 1)


def _looked_up(picture: Tensor, grid: Tensor) -> Tensor:
    """Bilinear values at normalised positions (B, H, W, 2), zeros outside."""
    height, width = picture.shape[-2:]
    right, below = _power_of_two(width) - width, _power_of_two(height) - height
    padded = F.pad(picture, (0, right, 0, below)) if right or below else picture
    return F.grid_sample(padded, grid.to(picture.dtype), align_corners=False)


def _power_of_two(side: int) -> int:
    return 1 << (side - 1).bit_length()
