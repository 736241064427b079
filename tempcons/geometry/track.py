"""Follow faces through a clip: detections of single frames -> tracks, and the track to edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tempcons.check import ConfigError, InputError

STAGE = "align"

FARTHEST = 0.75  # of the box side; faces move less between neighbouring frames
AS_LARGE = 0.75  # two tracks whose weights differ by less than this are hard to tell apart


@dataclass(frozen=True)
class Detection:
    """One face in one frame, in pixels of the frame, pixel centres at whole numbers.

    Attributes:
        box: (4,) left, top, right, bottom.
        score: certainty in [0, 1].
        points: (K, 2), x first; five points: eye left, eye right, nose, mouth left, mouth right,
            left and right as seen in the picture.
    """

    box: np.ndarray
    score: float
    points: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def side(self) -> float:
        """Geometric mean of width and height, px."""
        return float(np.sqrt(np.prod(np.maximum(self.box[2:] - self.box[:2], 0))))


Track = dict[int, Detection]
"""Position in the clip -> detection; gaps are missing keys."""


def link(frames: Sequence[Sequence[Detection]]) -> list[Track]:
    """Join detections of successive frames: nearest pairs first, at most FARTHEST sides apart."""
    tracks: list[Track] = []
    for at, detections in enumerate(frames):
        pairs = sorted(
            (distance, t, d)
            for t, track in enumerate(tracks)
            for d, detection in enumerate(detections)
            if (distance := _apart(track, detection)) < FARTHEST
        )
        taken: set[int] = set()
        for _, t, d in pairs:
            if at not in tracks[t] and d not in taken:
                tracks[t][at] = detections[d]
                taken.add(d)
        tracks.extend({at: detections[d]} for d in range(len(detections)) if d not in taken)
    return tracks


def _apart(track: Track, detection: Detection) -> float:
    """Distance of the centres in sides of the larger box; infinite for boxes of very unlike sizes."""
    last = track[max(track)]
    small, large = sorted((last.side, detection.side))
    if small < 0.5 * large:
        return float("inf")
    return float(np.linalg.norm(last.centre - detection.centre)) / large


def weight(track: Track) -> float:
    """How much of the clip's picture a track fills: the sum of side times score."""
    return sum(detection.side * detection.score for detection in track.values())


def choose(tracks: Sequence[Track], face: str, box: Sequence[float] | None = None) -> Track:
    """The track to edit.

    Args:
        tracks: of :func:`link`.
        face: "auto" (the only prominent one), "largest", or a number: 0 is the most prominent.
        box: left, top, right, bottom in pixels around the face wanted, in its first frame; goes
            before ``face``. Where it touches none, the track returned is empty.

    Raises:
        InputError: no face in any frame.
        ConfigError: two faces are alike and none is chosen, or the choice doesn't exist.
    """
    if not tracks:
        raise InputError(
            STAGE, "no face in any frame", "check the clip; the face must be seen from the front"
        )
    ordered = sorted(tracks, key=weight, reverse=True)
    if box is not None:
        wanted = np.asarray(box, float)
        best = max(ordered, key=lambda track: _overlap(track[min(track)].box, wanted))
        return best if _overlap(best[min(best)].box, wanted) > 0 else {}
    if face == "auto" and len(ordered) > 1 and weight(ordered[1]) > AS_LARGE * weight(ordered[0]):
        raise ConfigError(
            STAGE,
            f"two faces are equally prominent: {place(ordered[0])} and {place(ordered[1])}",
            "set align.face=0, align.face=1 or align.face_box=[left,top,right,bottom]",
        )
    if face in ("auto", "largest"):
        return ordered[0]
    if not face.isdigit() or int(face) >= len(ordered):
        raise ConfigError(
            STAGE, f"align.face={face}", f"auto, largest, or a number from 0 to {len(ordered) - 1}"
        )
    return ordered[int(face)]


def place(track: Track) -> str:
    """Where the face is first seen: [left,top,right,bottom]."""
    left, top, right, bottom = (round(float(v)) for v in track[min(track)].box)
    return f"[{left},{top},{right},{bottom}]"


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    both = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])
    return float(shared / (both - shared))
