"""The square around a face: from landmarks, smoothed over time, cropped, and back.

Convention: points are (x, y) in pixels with pixel centres at whole numbers. A quad has the rows
top-left, bottom-left, bottom-right, top-right, and is c - x - y, c - x + y, c + x + y, c + x - y with
its centre c and half axes x (to the right of the face) and y = rot90(x), rot90((a, b)) = (-b, a).
The centre of crop pixel (u, v) of S lies at c + (2(u + 1/2)/S - 1) x + (2(v + 1/2)/S - 1) y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MOST_SAMPLES = 8  # per crop pixel and axis
ROUNDING = 1e-5  # of OpenCV's float32 areas


@dataclass(frozen=True)
class CropRule:
    """Which square a model family crops around the face.

    Attributes:
        scale: side as a share of FFHQ's square.
        centre: from the middle of the eyes towards the mouth, in eye-to-mouth distances.
        fade: beyond the picture, let its reflection blur and fade out (as FFHQ does) instead of
            leaving it sharp.

    FFHQ: 1.0, 0.1 and True (Karras et al. 2019, appendix C).
    """

    scale: float = 1.0
    centre: float = 0.1
    fade: bool = False


FFHQ = CropRule(fade=True)


def rot90(vectors: np.ndarray) -> np.ndarray:
    """(..., 2) turned by a quarter: (a, b) to (-b, a)."""
    return np.stack([-vectors[..., 1], vectors[..., 0]], axis=-1)


def face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle of the eyes, eye-to-eye and eye-to-mouth vectors, each (..., 2).

    Args:
        landmarks: (..., 5, 2) eyes, nose, mouth corners, or (..., 68, 2) in dlib's order.

    Raises:
        ValueError: another number of points.
    """
    if landmarks.shape[-2:] == (68, 2):
        left, right = landmarks[..., 36:42, :].mean(-2), landmarks[..., 42:48, :].mean(-2)
        mouth = (landmarks[..., 48, :] + landmarks[..., 54, :]) / 2
    elif landmarks.shape[-2:] == (5, 2):
        left, right = landmarks[..., 0, :], landmarks[..., 1, :]
        mouth = (landmarks[..., 3, :] + landmarks[..., 4, :]) / 2
    else:
        raise ValueError(f"landmarks must be (..., 5, 2) or (..., 68, 2), got {landmarks.shape}")
    eyes = (left + right) / 2
    return eyes, right - left, mouth - eyes


def centre_and_axis(landmarks: np.ndarray, rule: CropRule = FFHQ) -> tuple[np.ndarray, np.ndarray]:
    """Centre c and half axis x of the square, each (..., 2). Source: FFHQ's alignment rule."""
    eyes, eye_to_eye, eye_to_mouth = face_axes(landmarks)
    x = eye_to_eye - rot90(eye_to_mouth)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    half = np.maximum(
        2.0 * np.linalg.norm(eye_to_eye, axis=-1, keepdims=True),
        1.8 * np.linalg.norm(eye_to_mouth, axis=-1, keepdims=True),
    )
    return eyes + rule.centre * eye_to_mouth, x * half * rule.scale


def corners(centre: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Quads (..., 4, 2) with centres and half axes (..., 2)."""
    y = rot90(axis)
    return np.stack([centre - axis - y, centre - axis + y, centre + axis + y, centre + axis - y], axis=-2)


def quad_from_landmarks(landmarks: np.ndarray, rule: CropRule = FFHQ) -> np.ndarray:
    """Quads (..., 4, 2) around faces (..., K, 2)."""
    return corners(*centre_and_axis(landmarks, rule))


def side_px(quads: np.ndarray) -> np.ndarray:
    """Side lengths (...) of quads (..., 4, 2)."""
    return np.linalg.norm(quads[..., 3, :] - quads[..., 0, :], axis=-1)


def smooth(values: np.ndarray, times_s: np.ndarray, sigma_s: float) -> np.ndarray:
    """(T, ...) values smoothed over time by lines fitted with Gaussian weights.

    Inside a clip of constant rate this is the Gaussian mean; at its ends the line keeps a moving
    face from being held back. Values that don't change, stay; ``sigma_s`` 0 changes nothing.

    Args:
        values: (T, ...).
        times_s: (T,) ascending seconds.
        sigma_s: standard deviation of the Gaussian in seconds.
    """
    if sigma_s <= 0 or len(values) < 2:
        return values.copy()
    flat = values.reshape(len(values), -1)
    rows = [_local_line(flat, times_s, t, sigma_s) for t in range(len(flat))]
    return np.stack(rows).reshape(values.shape)


def _local_line(values: np.ndarray, times_s: np.ndarray, at: int, sigma_s: float) -> np.ndarray:
    first, last = np.searchsorted(times_s, times_s[at] + np.array([-4, 4]) * sigma_s)
    offset = (times_s[first:last] - times_s[at]) / sigma_s
    weights = np.exp(-0.5 * offset**2)
    weights /= weights.sum()
    mean = weights @ offset
    spread = weights @ (offset - mean) ** 2
    if spread > 1e-12:
        weights = weights * (1 - mean * (offset - mean) / spread)
    here = values[at]
    return here + weights @ (values[first:last] - here)


def shake_px(tracks: np.ndarray) -> np.ndarray:
    """(T - 2,) how much points shake at each frame but the first and last.

    RMS over the points' second differences, divided by sqrt(6).

    Args:
        tracks: (T, ..., 2) pixels.
    """
    if len(tracks) < 3:
        return np.zeros(0)
    second = (tracks[2:] - 2 * tracks[1:-1] + tracks[:-2]).reshape(len(tracks) - 2, -1)
    return np.sqrt(np.mean(second**2, axis=1) / 6)


def jitter_px(scenes: Sequence[np.ndarray]) -> float:
    """How much points shake from frame to frame within scenes: RMS of :func:`shake_px`.

    Steady motion gives 0; independent noise of standard deviation s in each coordinate gives s.

    Args:
        scenes: (T, ..., 2) pixels each.
    """
    shakes = np.concatenate([shake_px(tracks) for tracks in scenes])
    return float(np.sqrt(np.mean(shakes**2))) if len(shakes) else 0.0


def crop_to_source(quads: np.ndarray, size: int) -> np.ndarray:
    """(..., 2, 3) matrices from crop pixels (u, v) to source pixels."""
    origin = quads[..., 0, :]
    right, down = (quads[..., 3, :] - origin) / size, (quads[..., 1, :] - origin) / size
    return np.stack([right, down, origin + (right + down) / 2], axis=-1)


def source_to_crop(quads: np.ndarray, size: int) -> np.ndarray:
    """(..., 2, 3) matrices from source pixels to crop pixels: the exact inverse of the above."""
    forward = crop_to_source(quads, size)
    linear = np.linalg.inv(forward[..., :2])
    return np.concatenate([linear, -linear @ forward[..., 2:]], axis=-1)


def crop(pictures: Tensor, quads: np.ndarray, size: int) -> Tensor:
    """Square crops (B, 3, S, S) of pictures (B, 3, H, W).

    Sampled bicubically at 2 to 8 points per crop pixel and axis, as dense as the source or denser,
    then averaged, so that nothing aliases however large the face is. Outside the picture: reflection.

    Args:
        pictures: in [-1, 1].
        quads: (B, 4, 2) source pixels.
        size: S.
    """
    samples = int(np.clip(np.ceil(side_px(quads).max() / size), 2, MOST_SAMPLES))
    fine = size * samples
    matrix = torch.from_numpy(source_to_crop(quads, fine)).to(pictures)
    from kornia.geometry.transform import warp_affine

    sampled = warp_affine(
        pictures, matrix, (fine, fine), mode="bicubic", padding_mode="reflection", align_corners=True
    )
    return F.avg_pool2d(sampled, samples).clamp(-1, 1)


def outside_share(quads: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Share (T,) of each quad's area that lies outside frames of ``size`` (H, W)."""
    height, width = size
    frame = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    inside = [
        cv2.intersectConvexConvex(quad.astype(np.float32), frame.astype(np.float32))[0] for quad in quads
    ]
    share = 1 - np.array(inside) / side_px(quads) ** 2
    return np.where(share > ROUNDING, share, 0.0)
