"""A squared error that counts only where a mask says so."""

from __future__ import annotations

from torch import Tensor


def masked_squared_error(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean of (x - y)^2 over the mask and the channels; 0 for an empty mask.

    Args:
        x, y: (B, 3, H, W).
        mask: (B, 1, H, W) in [0, 1].

    Source: the border and content losses of Tzaban et al. 2022 (a third of theirs, which divides the
    sum over three channels by the mask of one).
    """
    return ((x - y).square() * mask).sum() / (x.shape[1] * mask.sum()).clamp_min(1)
