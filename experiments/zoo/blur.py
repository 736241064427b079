"""The Gaussian blur of looks, drawn things and distortions."""

from __future__ import annotations

from kornia.filters import gaussian_blur2d
from torch import Tensor


def blurred(pictures: Tensor, sigma: float, reach: int | None = None, border: str = "replicate") -> Tensor:
    """Pictures (B, C, H, W) blurred by a Gaussian.

    Args:
        sigma: its standard deviation in px.
        reach: px to each side after which it is cut off; three deviations if not given.
        border: how pictures go on beyond it, in PyTorch's words.
    """
    side = 2 * (int(3 * sigma) if reach is None else reach) + 1
    return gaussian_blur2d(pictures, (side, side), (sigma, sigma), border_type=border)
