"""How pictures meet RAFT's grid of cells, an eighth of the size, and how flow comes back from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

STRIDE = 8
# The correlation pyramid needs so many px.
SMALLEST_SIDE = 128


class RaftView(Protocol):
    """The way in and out. Sides that are no multiple of 8, or too small, are padded by their border."""

    def enter(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) pictures as the network takes them."""
        ...

    def start(self, flow: Tensor) -> Tensor:
        """(B, 2, h, w) flow in cells, to start from, of one in px (B, 2, H, W)."""
        ...

    def leave(self, flow: Tensor, mask: Tensor | None, height: int, width: int) -> Tensor:
        """(B, 2, H, W) flow in px of one in cells (B, 2, h, w).

        Args:
            mask: (B, 576, h, w) logits of ``raft_large``'s weights of 3x3 neighbours; None: bilinear.
        """
        ...


@dataclass(frozen=True)
class PaperView:
    """As the paper's networks were trained: padded on all sides, cells spread from edge to edge."""

    def enter(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        extra_y, extra_x = (_paper_side(side) - side for side in (height, width))
        left, top = extra_x // 2, extra_y // 2
        return F.pad(pictures, (left, extra_x - left, top, extra_y - top), mode="replicate")

    def start(self, flow: Tensor) -> Tensor:
        return F.avg_pool2d(self.enter(flow), STRIDE) / STRIDE

    def leave(self, flow: Tensor, mask: Tensor | None, height: int, width: int) -> Tensor:
        large = _upsample_flow(flow, mask)
        top, left = ((_paper_side(side) - side) // 2 for side in (height, width))
        return large[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class CentredView:
    """Pictures enlarged ``upscale`` times; every cell's flow belongs where the cell looks.

    RAFT's strided convolutions look at every eighth pixel: cell i at pixel 8 i. The paper's enlargement puts
    its flow up to 7 px away, which matters little at its sizes, and much to a face of 128 px.
    """

    upscale: int = 2

    def enter(self, pictures: Tensor) -> Tensor:
        large = self._enlarged(pictures)
        right, below = (_centred_side(n) - n for n in (large.shape[-1], large.shape[-2]))
        return F.pad(large, (0, right, 0, below), mode="replicate")

    def start(self, flow: Tensor) -> Tensor:
        return self.enter(flow)[..., ::STRIDE, ::STRIDE] * (self.upscale / STRIDE)

    def leave(self, flow: Tensor, mask: Tensor | None, height: int, width: int) -> Tensor:
        if mask is not None:
            raise ValueError("a centred view is for networks without a mask of neighbours (raft_small)")
        size = [STRIDE * (n - 1) + 1 for n in flow.shape[-2:]]
        large = STRIDE * F.interpolate(flow, size=size, mode="bilinear", align_corners=True)
        large = large[..., : height * self.upscale, : width * self.upscale]
        return large if self.upscale == 1 else F.avg_pool2d(large, self.upscale) / self.upscale

    def _enlarged(self, values: Tensor) -> Tensor:
        if self.upscale == 1:
            return values
        return F.interpolate(values, scale_factor=self.upscale, mode="bilinear", align_corners=False)


def _paper_side(pixels: int) -> int:
    return max(SMALLEST_SIDE, -(-pixels // STRIDE) * STRIDE)


def _centred_side(pixels: int) -> int:
    """Smallest side with a cell at or beyond the last pixel."""
    return max(SMALLEST_SIDE, STRIDE * (-(-(pixels - 1) // STRIDE) + 1))


def _upsample_flow(flow: Tensor, mask: Tensor | None) -> Tensor:
    """Flow at an eighth of the size to full size: convex combination of 3x3 neighbours, or bilinear."""
    if mask is None:
        enlarged = F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)
        return STRIDE * enlarged
    batch, _, height, width = flow.shape
    weights = mask.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    neighbours = F.unfold(STRIDE * flow, kernel_size=3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    blocks = (weights * neighbours).sum(dim=2).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(batch, 2, STRIDE * height, STRIDE * width)
