"""Sharpness of a video: a blurred video wins every warping error."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from tempcons.check import check_pictures

LUMA = (0.299, 0.587, 0.114)
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def luminance(pictures: Tensor) -> Tensor:
    """(B, 1, H, W) Rec. 601 luma on the scale [0, 1] of pictures (B, 3, H, W) in [-1, 1]."""
    check_pictures(pictures, "pictures")
    weights = pictures.new_tensor(LUMA).view(1, 3, 1, 1)
    return ((pictures + 1) / 2 * weights).sum(1, keepdim=True)


def sharpness(pictures: Tensor) -> Tensor:
    """(B,) variance of the Laplacian of the luminance (scale [0, 1]), without the outermost pixels.

    The Laplacian is the difference to the four neighbours.
    """
    kernel = pictures.new_tensor(LAPLACIAN).view(1, 1, 3, 3)
    return F.conv2d(luminance(pictures), kernel).var(dim=(1, 2, 3), correction=0)


class Sharpness(MeanMetric):
    """:func:`sharpness` averaged over frames."""

    def update(self, pictures: Tensor) -> None:  # type: ignore[override]
        """Add B frames."""
        super().update(sharpness(pictures))
