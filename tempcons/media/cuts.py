"""Scene cuts: where one shot ends and another begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np

from tempcons.check import InputError

GRID = (64, 36)  # width, height of the thumbnail compared
BINS = 4  # per colour channel
CLEAR = 0.5  # share of the histogram that moved: a cut whatever is around it
LIKELY = 0.25  # a cut if it also stands out
STANDS_OUT = 4.0  # times the median change around it
AROUND = 6  # frames on either side
FEWEST = 2


def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Positions of the frames that begin a new scene (never 0).

    A cut moves a large share of the colour histogram at once, and far more than its neighbours do;
    so neither fast motion nor a hand-held camera counts as one. Slow fades aren't found.

    Args:
        frames: (H, W, 3) uint8 RGB, one after another; only two are held at a time.
    """
    changes = np.array(list(_changes(frames)))
    return [at + 1 for at, change in enumerate(changes) if _is_cut(changes, at, change)]


def split_scenes(total: int, cuts: Sequence[int]) -> list[range]:
    """Positions of each scene of a clip of ``total`` frames.

    Raises:
        InputError: scenes of a single frame: nothing in them can be consistent over time.
    """
    edges = [0, *cuts, total]
    scenes = [range(a, b) for a, b in pairwise(edges)]
    single = [scene.start for scene in scenes if len(scene) < FEWEST]
    if single:
        raise InputError(
            "clip",
            f"{len(single)} of {len(scenes)} scenes last a single frame (positions {single[:5]})",
            "give a clip of continuous scenes, or trim with clip.start and clip.num_frames",
        )
    return scenes


def _changes(frames: Iterable[np.ndarray]) -> Iterable[float]:
    before = None
    for frame in frames:
        now = _histogram(frame)
        if before is not None:
            yield float(np.abs(now - before).sum() / 2)
        before = now


def _histogram(frame: np.ndarray) -> np.ndarray:
    """Joint RGB histogram of a thumbnail, sum 1, each colour shared softly among its neighbours."""
    small = cv2.resize(frame, GRID, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    place = small / 255 * (BINS - 1)
    low = np.minimum(place.astype(int), BINS - 2)
    high = place - low
    histogram = np.zeros((BINS, BINS, BINS))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, high, 1 - high), axis=1)
        np.add.at(histogram, tuple((low + corner).T), weight)
    return histogram / len(small)


def _is_cut(changes: np.ndarray, at: int, change: float) -> bool:
    near = np.delete(changes[max(at - AROUND, 0) : at + AROUND + 1], min(at, AROUND))
    usual = float(np.median(near)) if len(near) else 0.0
    return change > CLEAR or (change > LIKELY and change > STANDS_OUT * usual)
