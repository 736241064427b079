"""Videos and folders of any tool as frames to measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tempcons.check import InputError
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.probe import probe
from tempcons.media.read import list_pictures, picture_size, read_pictures, read_pyav

STAGE = "metrics"
FEWEST = 2


def read_frames(path: Path, file: Path, size: int | None = None) -> FrameStore:
    """Frames of a video file or a folder of pictures, memory-mapped from a file that they are written to.

    Args:
        path: video file or folder.
        file: ``.npy`` to write, which lives as long as the frames.
        size: bring the longer side to so many pixels, by area averaging; None keeps the size.

    Raises:
        InputError: missing, unreadable, of mixed sizes, with a single frame, or smaller than ``size``.
    """
    if not path.exists():
        raise InputError(STAGE, f"no such file or folder: {path}", f"looked from {Path.cwd()}")
    count, shape, frames = _folder(path) if path.is_dir() else _video(path)
    if count < FEWEST:
        raise InputError(STAGE, f"{path} has {count} frame", f"measuring over time needs {FEWEST} or more")
    target = shape if size is None else _scaled(shape, size, path)
    write_frames(file, (count, *target), (_resized(frame, target)[None] for frame in frames))
    return FrameStore.open(file)


def _folder(path: Path) -> tuple[int, tuple[int, int], Iterator[np.ndarray]]:
    pictures = list_pictures(path)
    return len(pictures), picture_size(pictures[0]), read_pictures(pictures)


def _video(path: Path) -> tuple[int, tuple[int, int], Iterator[np.ndarray]]:
    info = probe(path)
    return len(info), info.size, read_pyav(info, range(len(info)))


def _scaled(shape: tuple[int, int], size: int, path: Path) -> tuple[int, int]:
    """(H, W) with the longer side ``size``."""
    longest = max(shape)
    if size > longest:
        found = f"{path} is {shape[1]}x{shape[0]} pixels, smaller than the size {size} asked for"
        raise InputError(STAGE, found, "enlarging invents what is measured; ask for a smaller size")
    height, width = (max(1, round(side * size / longest)) for side in shape)
    return height, width


def _resized(frame: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    if frame.shape[:2] == target:
        return frame
    return cv2.resize(frame, (target[1], target[0]), interpolation=cv2.INTER_AREA)
