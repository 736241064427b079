"""What ``recipe=tempcons`` adds: stay near a flow-aligned target, and stay as sharp as the direct edit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def target_loss(picture: Tensor, target: Tensor, distance: Tensor) -> Tensor:
    """Perceptual distance (B,) plus mean absolute difference to the frame's target, (B, 3, H, W) each."""
    return distance.mean() + (picture - target).abs().mean()


def detail(picture: Tensor) -> Tensor:
    """Laplacian of each channel, (B, 3, H-2, W-2)."""
    kernel = torch.tensor(LAPLACIAN, dtype=picture.dtype, device=picture.device)
    return F.conv2d(picture, kernel.expand(3, 1, 3, 3), groups=3)


def sharpness_loss(picture: Tensor, direct: Tensor) -> Tensor:
    """How much local detail energy falls below the direct edit's, relative to it; never negative.

    Energy is the squared Laplacian averaged over 8 x 8 px, so that detail has to be where the
    direct edit has it, without tying it pixel by pixel to the direct edit's flicker.
    """
    energy = F.avg_pool2d(detail(picture).square().mean(1, keepdim=True), 8)
    wanted = F.avg_pool2d(detail(direct).square().mean(1, keepdim=True), 8)
    return F.relu(wanted.sqrt() - (energy + 1e-8).sqrt()).mean() / wanted.sqrt().mean().clamp_min(1e-6)
