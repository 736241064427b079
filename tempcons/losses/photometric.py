"""Bi-directional photometric loss and flow consistency loss of a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tempcons.geometry.warp import warp

DistanceMap = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PairGeometry:
    """Flow and masks of a pair (anchor a, frame i).

    Attributes:
        flow_a_to_i: (B, 2, H, W) px on the anchor's grid.
        flow_i_to_a: (B, 2, H, W) px on frame i's grid.
        error_a: (B, 1, H, W) round-trip error in px on the anchor's grid.
        error_i: the same on frame i's grid.
        mask_a: (B, 1, H, W) in [0, 1], M_{i->anc} on the anchor's grid.
        mask_i: (B, 1, H, W) in [0, 1], M_{anc->i} on frame i's grid.
    """

    flow_a_to_i: Tensor
    flow_i_to_a: Tensor
    error_a: Tensor
    error_i: Tensor
    mask_a: Tensor
    mask_i: Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` weighted by ``mask``; 0 for an empty mask, never a division by zero."""
    return (values * mask).sum() / mask.sum().clamp_min(1e-6)


def photometric_loss(anchor: Tensor, frame: Tensor, pair: PairGeometry, distance: DistanceMap) -> Tensor:
    """L_photo: each frame against the other one warped onto its grid, where the masks allow.

    Args:
        anchor: (B, 3, H, W) in [-1, 1], at the size of the flow.
        frame: the other frame of the pair.
        pair: flow and masks.
        distance: spatial perceptual distance, two pictures to (B, 1, H, W).

    Source: Xu 2022, Eq. 1; each direction is divided by its mask's mean.
    """
    frame_on_anchor, inside_a = warp(frame, pair.flow_a_to_i)
    anchor_on_frame, inside_i = warp(anchor, pair.flow_i_to_a)
    on_anchor = masked_mean(distance(anchor, frame_on_anchor.clamp(-1, 1)), pair.mask_a * inside_a)
    on_frame = masked_mean(distance(frame, anchor_on_frame.clamp(-1, 1)), pair.mask_i * inside_i)
    return on_anchor + on_frame


def consistency_loss(pair: PairGeometry) -> Tensor:
    """L_eps: mean round-trip error in px over both grids.

    Source: Xu 2022, Section 3.3; a mean instead of a sum, so that it doesn't depend on the size.
    """
    return pair.error_a.mean() + pair.error_i.mean()
