"""What ``recipe=tempcons`` adds: stay near a flow-aligned target."""

from __future__ import annotations

from torch import Tensor


def target_loss(picture: Tensor, target: Tensor, distance: Tensor) -> Tensor:
    """Perceptual distance (B,) plus mean absolute difference to the frame's target, (B, 3, H, W) each."""
    return distance.mean() + (picture - target).abs().mean()
