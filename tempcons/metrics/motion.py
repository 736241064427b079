"""How much a video moves: a frozen or smoothed video wins every warping error."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from tempcons.check import check_shape


def mean_motion(flow: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean flow length in pixels over visible pixels; NaN where nothing is visible.

    Args:
        flow: (B, 2, H, W) F_{t->t+1} in pixels.
        mask: (B, 1, H, W) visibility in [0, 1] on the same grid.
    """
    check_shape(flow, (None, 2, None, None), "flow")
    check_shape(mask, (len(flow), 1, *flow.shape[-2:]), "mask")
    length = torch.linalg.vector_norm(flow, dim=1, keepdim=True)
    return (length * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


class Motion(MeanMetric):
    """:func:`mean_motion` averaged over pairs."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="ignore")

    def update(self, flow: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Add B pairs."""
        super().update(mean_motion(flow, mask))
