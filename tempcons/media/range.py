"""The one place where 0..255 and [-1, 1] meet."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_pictures(frames: np.ndarray) -> Tensor:
    """(B, H, W, 3) or (H, W, 3) uint8 RGB to (B, 3, H, W) float32 in [-1, 1].

    Raises:
        ValueError: not uint8, or not three channels.
    """
    array = np.asarray(frames)
    if array.dtype != np.uint8 or array.shape[-1] != 3 or array.ndim not in (3, 4):
        raise ValueError(f"frames must be uint8 (..., H, W, 3), got {array.dtype} {array.shape}")
    batch = array if array.ndim == 4 else array[None]
    planes = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
    return planes.float().div_(127.5).sub_(1)


def to_frames(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] (clamped) to (B, H, W, 3) uint8 RGB, rounded to nearest."""
    scaled = pictures.detach().clamp(-1, 1).add(1).mul(127.5).round_()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()
