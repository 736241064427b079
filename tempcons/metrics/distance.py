"""Perceptual distance to the direct edit: how much of the edit a method gave away for its consistency."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchmetrics import MeanMetric


class DistanceToDirect(MeanMetric):
    """A perceptual distance averaged over frames.

    Args:
        distance: pictures x, y (B, 3, H, W) in [-1, 1] to (B,) distances (models/perceptual.py); its name
            says whether it is LPIPS.
    """

    higher_is_better = False  # type: ignore[assignment]

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.distance = distance

    def update(self, result: Tensor, direct: Tensor) -> None:  # type: ignore[override]
        """Add B frames of the result and of the direct edit."""
        super().update(self.distance(result, direct))
