"""Which part of a crop is face, how far it is put back, and the masks that stitch tuning compares on.

Everything lives on the crop's grid, (S, S). Lengths are shares of the side S, so that a setting means the
same for every generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tempcons.geometry.quad import crop_to_source, face_axes, source_to_crop

FACE_WIDTH = 1.15  # half width of a face in eye distances
FACE_HEIGHT = 1.5  # half height in eye-to-mouth distances
FACE_CENTRE = 0.45  # from the eyes towards the mouth
FOREHEAD = 0.7  # above the brows, in eye-to-mouth distances
BROWS = slice(17, 27)  # of 68 points


@dataclass(frozen=True)
class StitchMasks:
    """Where a stitched picture is compared with what, each (S, S) bool.

    Attributes:
        border: meets the source.
        content: stays as edited.
        full: is put back into the frame: both.
    """

    border: np.ndarray
    content: np.ndarray
    full: np.ndarray


def face_region(landmarks: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """(S, S) bool: the face as landmarks show it.

    Args:
        landmarks: source pixels; (5, 2) give an ellipse from brow to chin, (68, 2) the hull of the
            points with a forehead above the brows.
        quad: (4, 2) source pixels.
    """
    matrix = source_to_crop(quad, size)
    eyes, eye_to_eye, eye_to_mouth = face_axes(landmarks)
    if len(landmarks) == 5:
        centre = matrix[:, :2] @ (eyes + FACE_CENTRE * eye_to_mouth) + matrix[:, 2]
        return _ellipse(centre, matrix[:, :2] @ eye_to_eye, matrix[:, :2] @ eye_to_mouth, size)
    points = np.concatenate([landmarks, landmarks[BROWS] - FOREHEAD * eye_to_mouth])
    return _hull(points @ matrix[:, :2].T + matrix[:, 2], size)


def region_name(landmarks: np.ndarray) -> str:
    """How :func:`face_region` finds the face, for logs and manifests."""
    kind = "ellipse around" if landmarks.shape[-2] == 5 else "hull of"
    return f"{kind} {landmarks.shape[-2]} landmarks"


def _ellipse(centre: np.ndarray, across: np.ndarray, down: np.ndarray, size: int) -> np.ndarray:
    half = FACE_WIDTH * np.linalg.norm(across), FACE_HEIGHT * np.linalg.norm(down)
    turn = np.arctan2(across[1], across[0])
    y, x = np.mgrid[0:size, 0:size] - centre[::-1, None, None]
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return np.hypot(u / half[0], v / half[1]) <= 1


def _hull(points: np.ndarray, size: int) -> np.ndarray:
    hull = cv2.convexHull(points.round().astype(np.int32))
    return cv2.fillConvexPoly(np.zeros((size, size), np.uint8), hull, 1).astype(bool)


def dilated(region: np.ndarray, reach: float) -> np.ndarray:
    """The region grown by ``reach`` of the side, by a square."""
    radius = round(reach * len(region))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.dilate(region.astype(np.uint8), kernel).astype(bool)


def stitch_masks(
    region: np.ndarray, quad: np.ndarray, frame_size: tuple[int, int], reach: float, edge: float
) -> StitchMasks:
    """Masks of a face region.

    The border is the ring that growing the region adds, and the region itself within ``edge`` of the
    crop's edge, as there it ends too; what lies outside the frame has no source to meet. Source: the
    masks of Tzaban et al. 2022, "Stitch it in Time".

    Args:
        region: (S, S) bool.
        quad: (4, 2) source pixels.
        frame_size: (H, W) of the source.
        reach, edge: shares of the side.
    """
    size = len(region)
    full = dilated(region, reach)
    rim = np.ones_like(region)
    width = round(edge * size)
    rim[width : size - width, width : size - width] = False
    border = (full & ~region) | (region & rim)
    return StitchMasks(border & in_frame(quad, frame_size, size), region & ~border, full)


def in_frame(quad: np.ndarray, frame_size: tuple[int, int], size: int) -> np.ndarray:
    """(S, S) bool: which pixels of the crop show the frame and not what was made up around it."""
    matrix = crop_to_source(quad, size)
    v, u = np.mgrid[0:size, 0:size]
    x, y = np.tensordot(matrix[:, :2], np.stack([u, v]), 1) + matrix[:, 2, None, None]
    return (x >= 0) & (y >= 0) & (x <= frame_size[1] - 1) & (y <= frame_size[0] - 1)


def soften(region: np.ndarray, feather: float) -> Tensor:
    """(S, S) in [0, 1]: 0 outside, rising smoothly to 1 over ``feather`` of the side.

    The crop's edge counts as the region's border. With ``feather`` 0 it is the region itself.
    """
    if feather * len(region) < 1e-6:
        return torch.from_numpy(region.astype(np.float32))
    padded = np.pad(region.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] - 0.5
    x = torch.from_numpy(depth / (feather * len(region))).float().clamp(0, 1)
    return x * x * (3 - 2 * x)


def edge_mask(size: int, feather: float) -> Tensor:
    """(S, S): the whole crop, softened."""
    return soften(np.ones((size, size), bool), feather)
