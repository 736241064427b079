"""What lies around a face near the edge of the picture, as FFHQ's alignment fills it in."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from tempcons.geometry.quad import side_px

BORDER = 0.1  # of the quad's side: kept around the quad
REACH = 0.3  # of the side: least width of the surround
BLUR = 0.02  # of the side: standard deviation of the blur
SLACK_PX = 4


def faded_surround(frame: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a frame around a quad, and the quad in that part's pixels.

    Where the quad leaves the frame, the frame goes on as its reflection, which is blurred from a
    little inside the edge on and fades into the median colour with distance.

    Args:
        frame: (H, W, 3) uint8.
        quad: (4, 2) pixels of the frame.

    Source: Karras et al. 2019, appendix C, and the FFHQ data set's published preparation.
    """
    side = float(side_px(quad))
    border = max(round(BORDER * side), 3)
    bounds = np.array([frame.shape[1], frame.shape[0]])
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)
    first, last = np.maximum(low - border, 0), np.minimum(high + border, bounds)
    part = frame[first[1] : last[1], first[0] : last[0]]
    before = np.maximum(border - (low - first), 0)
    after = np.maximum(high + border - last, 0)
    if max(before.max(), after.max()) <= border - SLACK_PX:
        return part, quad - first
    least = round(REACH * side)
    before, after = np.maximum(before, least), np.maximum(after, least)
    return _fade(part, before, after, BLUR * side), quad - first + before


def _fade(part: np.ndarray, before: np.ndarray, after: np.ndarray, blur_px: float) -> np.ndarray:
    widths = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    picture = np.pad(part.astype(np.float32), widths, "reflect")
    depth = _depth(picture.shape[0], before[1], after[1])[:, None]
    depth = np.maximum(depth, _depth(picture.shape[1], before[0], after[0])[None])[..., None]
    blurred = gaussian_filter(picture, [blur_px, blur_px, 0])
    picture += (blurred - picture) * np.clip(3 * depth + 1, 0, 1)
    picture += (np.median(picture, axis=(0, 1)) - picture) * np.clip(depth, 0, 1)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _depth(length: int, before: int, after: int) -> np.ndarray:
    """1 at the outer rim, 0 where the frame begins, negative inside."""
    at = np.arange(length, dtype=np.float32)
    return 1 - np.minimum(at / before, at[::-1] / after)
