"""Bi-directional photometric loss and flow consistency loss of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tempcons.geometry.warp import warp


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


def mean_of_pairs(values: Tensor, mask: Tensor) -> Tensor:
    """:func:`masked_mean` of every row of a batch (B, ...), averaged: all pairs weigh the same."""
    return torch.stack([masked_mean(*row) for row in zip(values, mask, strict=True)]).mean()


def warp_pair(anchor: Tensor, frame: Tensor, pair: PairGeometry) -> tuple[Tensor, Tensor]:
    """Each picture on the other one's grid: (2B, 3, H, W), frames on anchors first, and validity.

    Args:
        anchor: (B, 3, H, W) in [-1, 1], at the size of the flow.
        frame: the other frames of the pairs.
        pair: flow between them.
    """
    frame_on_anchor, inside_a = warp(frame, pair.flow_a_to_i)
    anchor_on_frame, inside_i = warp(anchor, pair.flow_i_to_a)
    return torch.cat([frame_on_anchor, anchor_on_frame]), torch.cat([inside_a, inside_i])


def photometric_loss(distances: Tensor, inside: Tensor, pair: PairGeometry) -> Tensor:
    """L_photo: distance of each frame to the other one warped onto its grid, where the masks allow.

    Args:
        distances: (2B, 1, H, W) spatial perceptual distances, on the anchors' grids first.
        inside: (2B, 1, H, W) validity of the warps (:func:`warp_pair`).
        pair: masks of the pairs.

    Source: Xu 2022, Eq. 1; each direction is divided by its mask's mean.
    """
    on_anchor, on_frame = distances.chunk(2)
    inside_a, inside_i = inside.chunk(2)
    return mean_of_pairs(on_anchor, pair.mask_a * inside_a) + mean_of_pairs(on_frame, pair.mask_i * inside_i)


def consistency_loss(pair: PairGeometry) -> Tensor:
    """L_eps: mean round-trip error in px over both grids.

    Source: Xu 2022, Section 3.3; a mean instead of a sum, so that it doesn't depend on the size.
    """
    return pair.error_a.mean() + pair.error_i.mean()
