"""Ask for as much local detail as a frame has: pivotal tuning, and the phases of ``recipe=tempcons``, do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def detail(picture: Tensor) -> Tensor:
    """Laplacian of each channel, (B, 3, H-2, W-2)."""
    kernel = torch.tensor(LAPLACIAN, dtype=picture.dtype, device=picture.device)
    return F.conv2d(picture, kernel.expand(3, 1, 3, 3), groups=3)


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
