"""Back into the frame: un-alignment, and blending the edited square with what is around it.

Masks live on the crop's grid, (S, S) in [0, 1]: 1 where the edited picture shows, 0 where the source
stays. A source pixel outside the quad, or where the mask is 0, keeps its very bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tempcons.geometry.quad import MOST_SAMPLES, crop_to_source, side_px, source_to_crop

MARGIN_PX = 2


@dataclass(frozen=True)
class Window:
    """The rows and columns of a frame that a quad can touch."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, quad: np.ndarray, size: tuple[int, int]) -> Window:
        """Of a quad (4, 2) in frames of ``size`` (H, W); empty where the quad is outside."""
        low = np.floor(quad.min(0)).astype(int) - MARGIN_PX
        high = np.ceil(quad.max(0)).astype(int) + MARGIN_PX + 1
        left, right = np.clip([low[0], high[0]], 0, size[1])
        top, bottom = np.clip([low[1], high[1]], 0, size[0])
        return cls(int(top), int(bottom), int(left), int(right))

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        return min(self.size) <= 0


def unalign(picture: Tensor, quad: np.ndarray, window: Window) -> Tensor:
    """A square (1, C, S, S) as it lies in a window of the frame: the inverse of the crop.

    Where the frame is coarser than the square, several points per source pixel are averaged.
    Beyond the square its border goes on, which :func:`place` cuts off.

    Returns:
        (1, C, h, w) on the window's pixels.
    """
    size = picture.shape[-1]
    samples = int(np.clip(np.ceil(size / side_px(quad)), 1, MOST_SAMPLES))
    forward = crop_to_source(quad, size) - np.array([[0, 0, window.left], [0, 0, window.top]])
    fine = samples * forward + (samples - 1) / 2 * np.array([[0, 0, 1], [0, 0, 1]])
    from kornia.geometry.transform import warp_affine

    sampled = warp_affine(
        picture,
        torch.from_numpy(fine)[None].to(picture),
        (window.size[0] * samples, window.size[1] * samples),
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )
    return F.avg_pool2d(sampled, samples)


def place(picture: Tensor, quad: np.ndarray, mask: Tensor, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask as they lie in the window.

    Args:
        picture: (3, S, S) in [-1, 1].
        quad: (4, 2) source pixels.
        mask: (S, S) in [0, 1].

    Returns:
        (h, w, 3) float levels 0..255, and weights (h, w), exactly 0 outside the quad.
    """
    both = unalign(torch.cat([picture, mask[None].to(picture)])[None], quad, window)[0]
    levels = both[:3].clamp(-1, 1).add(1).mul(127.5).permute(1, 2, 0).numpy()
    return levels, both[3].clamp(0, 1).numpy() * inside_quad(quad, window)


def inside_quad(quad: np.ndarray, window: Window) -> np.ndarray:
    """(h, w) bool: which pixel centres of the window lie in the quad."""
    matrix = source_to_crop(quad, 1)
    y, x = np.mgrid[window.top : window.bottom, window.left : window.right]
    where = np.tensordot(matrix[:, :2], np.stack([x, y]), 1) + matrix[:, 2, None, None]
    return (np.abs(where) <= 0.5).all(0)


def paste(frame: np.ndarray, picture: Tensor, quad: np.ndarray, mask: Tensor) -> np.ndarray:
    """The frame with the picture blended in by the mask (a feathered paste where the mask is soft).

    Args:
        frame: (H, W, 3) uint8 source.
        picture: (3, S, S) in [-1, 1].
        quad: (4, 2) where the picture lies in the frame.
        mask: (S, S) in [0, 1].
    """
    window = Window.around(quad, frame.shape[:2])
    result = frame.copy()
    if window.empty:
        return result
    face, weight = place(picture, quad, mask, window)
    source = frame[window.slices].astype(np.float32)
    result[window.slices] = np.rint(source + weight[..., None] * (face - source)).astype(np.uint8)
    return result


def paste_poisson(frame: np.ndarray, picture: Tensor, quad: np.ndarray, mask: Tensor) -> np.ndarray:
    """The frame with the picture's gradients inside the mask and the source's colours at its border.

    Arguments as for :func:`paste`; the mask is cut at one half. Source: Perez et al. 2003 (OpenCV).
    """
    window = Window.around(quad, frame.shape[:2])
    result = frame.copy()
    if window.empty:
        return result
    face, weight = place(picture, quad, mask, window)
    inside = weight > 0.5
    inside[[0, -1]], inside[:, [0, -1]] = False, False  # OpenCV needs a rim to take the colours from
    if not inside.any():
        return result
    source = frame[window.slices]
    blended = _seamless(np.rint(face).astype(np.uint8), np.ascontiguousarray(source), inside)
    result[window.slices] = np.where(inside[..., None], blended, source)
    return result


THINNEST_PX = 3


def _seamless(face: np.ndarray, source: np.ndarray, inside: np.ndarray) -> np.ndarray:
    mask = inside.astype(np.uint8) * 255
    left, top, width, height = cv2.boundingRect(mask)
    if min(width, height) < THINNEST_PX:
        return source  # nothing inside its rim: OpenCV fails on a region this thin
    centre = (left + width // 2, top + height // 2)
    return cv2.seamlessClone(face, source, mask, centre, cv2.NORMAL_CLONE)
