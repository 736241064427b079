"""End-point errors of flow networks where the flow is known: synthetic pairs, and real frames moved by us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from experiments.zoo.faces import PICTURE_SUFFIXES, to_range
from experiments.zoo.synthetic_motion import Motion, MotionPair, make_pairs, warp_known
from tempcons.check import InputError

Estimator = Callable[[Tensor, Tensor], Tensor]

# Bounds of the classes of motion in px that errors are given for, beside their mean.
CLASSES = {"slow": (0.0, 1.0), "middle": (1.0, 4.0), "fast": (4.0, 1e9)}
REAL_MOTION = Motion(smallest=0.2, largest=8.0, still=0.0)
BATCH = 16


def synthetic_pairs(faces: Tensor, count: int, motion: Motion, seed: int = 0) -> Iterator[MotionPair]:
    """``count`` pairs of uint8 faces (N, 3, S, S), the same ones for a seed, in batches."""
    random = torch.Generator(faces.device).manual_seed(seed)
    for at in range(0, count, BATCH):
        chosen = torch.randint(
            len(faces), (2 * min(BATCH, count - at),), generator=random, device=faces.device
        )
        yield make_pairs(to_range(faces[chosen]), motion, random)


def real_pairs(frames: Tensor, per_frame: int, seed: int = 0) -> Iterator[MotionPair]:
    """Every frame (N, 3, S, S) in [-1, 1] with its copy moved by a known flow, ``per_frame`` times."""
    random = torch.Generator(frames.device).manual_seed(seed)
    for _ in range(per_frame):
        for part in frames.split(BATCH):
            yield warp_known(part, REAL_MOTION, random)


def clip_frames(place: Path, count: int, size: int, share: float = 1.0) -> Tensor:
    """(N, 3, size, size) evenly spaced frames of a video or of a folder of pictures, in [-1, 1].

    Args:
        place: also ``frames.npy`` of a run's stage "align" in the cache.
        count: N, or fewer where there are fewer.
        share: side of the centre square that is kept, as a share of the shorter side.

    Raises:
        InputError: nothing there that can be read.
    """
    pictures = clip_pictures(place)
    if not pictures:
        raise InputError("faces", f"no frames in {place}", "a video, or a folder of pictures")
    chosen = [
        pictures[i] for i in np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    ]
    squares = [centre_square(picture, share, size) for picture in chosen]
    return to_range(torch.from_numpy(np.stack(squares)))


def clip_pictures(place: Path) -> list[np.ndarray]:
    """BGR pictures of a folder, of a run's stored frames, or of a video."""
    if place.is_dir():
        return folder_pictures(place)
    if place.suffix == ".npy":
        return list(np.ascontiguousarray(np.load(place, allow_pickle=False)[..., ::-1]))
    return video_pictures(place)


def folder_pictures(place: Path) -> list[np.ndarray]:
    """BGR pictures of a folder, in the order of their names."""
    names = sorted(p for p in place.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    return [picture for name in names if (picture := cv2.imread(str(name))) is not None]


def video_pictures(path: Path) -> list[np.ndarray]:
    """BGR frames of a video."""
    reader = cv2.VideoCapture(str(path))
    frames: list[np.ndarray] = []
    while True:
        ok, frame = reader.read()
        if not ok:
            return frames
        frames.append(frame)


def centre_square(picture: np.ndarray, share: float, size: int) -> np.ndarray:
    """(3, size, size) RGB uint8 of the middle of a BGR picture."""
    height, width = picture.shape[:2]
    side = int(min(height, width) * share)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(
        picture[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA
    )
    return np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1))


def zero_flow(a: Tensor, b: Tensor) -> Tensor:
    """No motion: what any estimator must beat."""
    return torch.zeros_like(a[:, :2])


@torch.no_grad()
def end_point_errors(estimate: Estimator, pairs: Iterator[MotionPair]) -> dict[str, float]:
    """Mean error in px over visible points, over all points, and by class of motion (visible points)."""
    total: dict[str, float] = {}
    points: dict[str, float] = {}
    for pair in pairs:
        error = torch.linalg.vector_norm(estimate(pair.a, pair.b) - pair.flow, dim=1, keepdim=True)
        length = torch.linalg.vector_norm(pair.flow, dim=1, keepdim=True)
        masks = {"all": torch.ones_like(error), "epe": pair.visible}
        masks |= {n: pair.visible * ((length >= lo) & (length < hi)) for n, (lo, hi) in CLASSES.items()}
        for name, mask in masks.items():
            total[name] = total.get(name, 0.0) + (error * mask).sum().item()
            points[name] = points.get(name, 0.0) + mask.sum().item()
    return {name: total[name] / points[name] for name in total if points[name]}
