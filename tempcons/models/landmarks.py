"""Face landmark detectors behind one protocol; the default's weights come with its package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import cv2
import numpy as np
import torch

from tempcons.check import ConfigError, near_names
from tempcons.geometry.track import Detection

SHORT_SIDE = 432  # px; frames are brought to this before detection (enlarged at most LARGEST_SCALE times)
LARGEST_SCALE = 3.0
SMALLEST_FACE = 20  # px after scaling; MTCNN's own limit is 12
MIRRORED = [1, 0, 2, 4, 3]  # the five points after a left-right flip


class LandmarkDetector(Protocol):
    """Anything that finds faces in a frame."""

    def detect(self, frame: np.ndarray) -> list[Detection]:
        """All faces in an (H, W, 3) uint8 RGB frame, in its own pixels; none is an empty list."""
        ...


class MtcnnDetector:
    """MTCNN's five points, averaged over the frame and its mirror image.

    The average takes out MTCNN's left-right bias and half of its noise. A face that the mirror image
    doesn't show keeps the plain points. Source: Zhang et al. 2016; facenet-pytorch 2.5.3.
    """

    def __init__(self, device: str = "cpu") -> None:
        from facenet_pytorch import MTCNN  # it loads torchvision, which takes seconds

        self.network = MTCNN(
            keep_all=True, select_largest=False, min_face_size=SMALLEST_FACE, device=torch.device(device)
        ).eval()

    def detect(self, frame: np.ndarray) -> list[Detection]:
        scaled, scale = _rescale(frame)
        with one_thread():
            boxes, scores, points = self.network.detect(np.stack([scaled, scaled[:, ::-1]]), landmarks=True)
        plain = _detections(boxes[0], scores[0], points[0])
        mirror = [_flip(d, scaled.shape[1]) for d in _detections(boxes[1], scores[1], points[1])]
        return [_unscale(_average(d, mirror), scale) for d in plain]


DETECTORS = {"mtcnn": MtcnnDetector}


def make_detector(name: str, device: str = "cpu") -> LandmarkDetector:
    """The detector called ``name``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in DETECTORS:
        raise ConfigError("align", f"no landmark detector called {name!r}", near_names(name, DETECTORS))
    return DETECTORS[name](device)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: MTCNN's many tiny calls lose up to ten times to more on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rescale(frame: np.ndarray) -> tuple[np.ndarray, float]:
    """The frame with its short side brought towards SHORT_SIDE, and the factor."""
    scale = min(SHORT_SIDE / min(frame.shape[:2]), LARGEST_SCALE)
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method), scale


def _detections(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> list[Detection]:
    if boxes is None:
        return []
    rows = zip(boxes, scores, points, strict=True)
    return [Detection(np.asarray(b, float), float(s), np.asarray(p, float)) for b, s, p in rows]


def _flip(detection: Detection, width: int) -> Detection:
    left, top, right, bottom = detection.box
    points = detection.points[MIRRORED].copy()
    points[:, 0] = width - 1 - points[:, 0]
    return Detection(np.array([width - 1 - right, top, width - 1 - left, bottom]), detection.score, points)


def _average(detection: Detection, others: Sequence[Detection]) -> Detection:
    """Mean with the nearest of ``others`` if that is the same face."""
    near = min(others, key=lambda o: float(np.linalg.norm(o.centre - detection.centre)), default=None)
    if near is None or np.linalg.norm(near.centre - detection.centre) > 0.3 * detection.side:
        return detection
    return Detection(
        (detection.box + near.box) / 2, max(detection.score, near.score), (detection.points + near.points) / 2
    )


def _unscale(detection: Detection, scale: float) -> Detection:
    """Back to the pixels of the frame; pixel centres are at whole numbers in both."""
    return Detection(
        (detection.box + 0.5) / scale - 0.5, detection.score, (detection.points + 0.5) / scale - 0.5
    )
