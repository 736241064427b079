"""Visibility, perceptual difference and fused masks, all in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


def visibility_mask(error: Tensor, sharpness: float = 10.0) -> Tensor:
    """M^vis = exp(-k eps) of a round-trip error (B, 1, H, W) in px.

    Source: Xu 2022, Section 3.2 (k = 10; the released code uses 5).
    """
    return torch.exp(-sharpness * error)


def perceptual_difference_mask(distance_map: Tensor, scale: float = 1.0) -> Tensor:
    """M^PD: a spatial perceptual distance to the aligned input (B, 1, H, W), clamped to [0, 1].

    ``scale`` calibrates distances that are not LPIPS. Source: Xu 2022, Section 3.2.
    """
    return (distance_map * scale).clamp(0, 1)


def fuse_masks(visible: Tensor, difference: Tensor | None) -> Tensor:
    """M = clamp(M^vis + M^PD, 0, 1); out-of-domain (no difference mask) M^vis alone.

    Source: Xu 2022, Section 3.2, "Fused masks".
    """
    return visible if difference is None else (visible + difference).clamp(0, 1)
