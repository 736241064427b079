"""Warping errors: how far the next frame, brought back by flow, is from this one.

Pictures come in [-1, 1] and are measured on the scale [0, 1]. Flow is F_{a->b} on a's grid in pixels, masks
are (B, 1, H, W) on a's grid, 1 where visible. Each number is reported with its conditions (conditions.py):
which flow network, on which video, at which size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from tempcons.check import check_pictures, check_range, check_shape
from tempcons.geometry.occlusion import visible_lai
from tempcons.geometry.warp import warp

E_LONG_STEP = 4
E_LONG_GAPS = (8, 16, 32)


def e_warp(a: Tensor, b: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """Mean over visible pixels of |a(p) - warp(b)(p)|^2, summed over channels, pictures on [0, 1].

    Args:
        a: (B, 3, H, W) frames t in [-1, 1].
        b: (B, 3, H, W) frames t+1 (or any later ones) in [-1, 1].
        flow: (B, 2, H, W) F_{a->b}.
        mask: (B, 1, H, W) visibility, normally geometry.occlusion.visible_xu.

    Returns:
        (B,) errors; NaN for a pair in which nothing is visible. Source: Xu et al. 2022, Eq. 9.

    Raises:
        ValueError: shapes that don't fit together, or pictures outside [-1, 1].
    """
    error, mask = _squared_error(a, b, flow, mask)
    return (error.sum(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def e_warp_lai2018(a: Tensor, b: Tensor, flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """(B,) warping errors by the protocol of Lai et al. 2018 ("Learning Blind Video Temporal Consistency").

    Differs from :func:`e_warp`: the mean runs over channels too; motion boundaries are masked; pixels that
    leave the picture meet its repeated border; where nothing is visible the divisor is the whole picture, so
    the error is 0. The protocol takes the flow of the input video.
    """
    mask = visible_lai(flow_ab, flow_ba)
    error, mask = _squared_error(a, b, flow_ab, mask, border=True)
    visible = mask.sum((1, 2, 3))
    pixels = torch.where(visible > 0, visible, torch.full_like(visible, mask[0].numel()))
    return (error * mask).sum((1, 2, 3)) / (3 * pixels)


def long_range_pairs(count: int, anchor: int, step: int = E_LONG_STEP) -> list[tuple[int, int]]:
    """(anchor, i) for every ``step``-th frame before and after the anchor; none in a clip too short."""
    if not 0 <= anchor < count:
        raise ValueError(f"anchor must be within 0..{count - 1}, got {anchor}")
    return [(anchor, i) for i in range(anchor % step, count, step) if i != anchor]


def gap_pairs(count: int, gap: int, step: int = E_LONG_STEP) -> list[tuple[int, int]]:
    """(t, t + gap) for every ``step``-th t; none where the clip is too short."""
    return [(t, t + gap) for t in range(0, count - gap, step)]


def e_long(anchor: Tensor, frames: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """(B,) warping errors of frames far from the anchor, on the anchor's grid; :func:`e_warp` otherwise.

    Args:
        anchor: (1, 3, H, W) or (B, 3, H, W).
        frames: (B, 3, H, W), every 4th frame of the clip (:func:`long_range_pairs`).
        flow: (B, 2, H, W) F_{anchor->frame}.
        mask: (B, 1, H, W) visibility on the anchor's grid.
    """
    return e_warp(anchor.expand_as(frames), frames, flow, mask)


def mean_of_pairs(errors: Sequence[float] | Tensor) -> float:
    """Mean of per-pair errors, pairs without a visible pixel (NaN) left out; NaN if none is left."""
    return torch.as_tensor(errors, dtype=torch.float64).nanmean().item()


class WarpError(Metric):
    """:func:`e_warp` averaged over pairs (each pair counts once, as in Eq. 9's mean over the video)."""

    higher_is_better = False
    is_differentiable = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, a: Tensor, b: Tensor, flow: Tensor, mask: Tensor) -> None:
        """Add B pairs; see :func:`e_warp`."""
        self._add(e_warp(a, b, flow, mask))

    def compute(self) -> Tensor:
        """Mean over the pairs seen that had a visible pixel."""
        return self.total / self.count

    def _add(self, errors: Tensor) -> None:
        seen = errors.isfinite()
        self.total += errors[seen].double().sum()
        self.count += seen.sum()


class LaiWarpError(WarpError):
    """:func:`e_warp_lai2018` averaged over pairs."""

    def update(self, a: Tensor, b: Tensor, flow_ab: Tensor, flow_ba: Tensor) -> None:
        """Add B pairs; see :func:`e_warp_lai2018`."""
        self._add(e_warp_lai2018(a, b, flow_ab, flow_ba))


def _squared_error(
    a: Tensor, b: Tensor, flow: Tensor, mask: Tensor, border: bool = False
) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) squared differences on the scale [0, 1], and the mask after checks."""
    for picture, name in ((a, "a"), (b, "b")):
        check_pictures(picture, name)
        check_range(picture, -1, 1, name)
    check_shape(b, a.shape, "b")
    check_shape(mask, (len(a), 1, *a.shape[-2:]), "mask")
    warped, _ = warp((b + 1) / 2, flow, padding="border" if border else "zeros")
    return ((a + 1) / 2 - warped).square(), mask
