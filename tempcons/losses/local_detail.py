"""Ask for as much local detail as a frame has: pivotal tuning, and the phases of ``recipe=tempcons``, do."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def detail(picture: Tensor) -> Tensor:
    """Laplacian of each channel, (B, 3, H-2, W-2)."""
    # Not a convolution of each channel: its gradient's rounding may differ from run to run.
    across = picture[..., 1:-1, :-2] + picture[..., 1:-1, 2:]
    down = picture[..., :-2, 1:-1] + picture[..., 2:, 1:-1]
    return across + down - 4 * picture[..., 1:-1, 1:-1]


def sharpness_loss(picture: Tensor, frame: Tensor) -> Tensor:
    """How much local detail energy falls below the frame's, relative to it; never negative.

    Energy is the squared Laplacian averaged over 8 x 8 px, so that detail has to be where the
    frame has it, without being tied to it pixel by pixel: to a direct edit's flicker, say.

    Args:
        picture: (B, 3, H, W).
        frame: as many, the aligned frame or the direct edit.
    """
    energy = F.avg_pool2d(detail(picture).square().mean(1, keepdim=True), 8)
    wanted = F.avg_pool2d(detail(frame).square().mean(1, keepdim=True), 8)
    return F.relu(wanted.sqrt() - (energy + 1e-8).sqrt()).mean() / wanted.sqrt().mean().clamp_min(1e-6)
