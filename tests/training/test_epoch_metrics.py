"""Figures after an epoch: those of the whole clip, from a few frames at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TinyDistance, ZeroFlow, tiny_codes, tiny_generator
from torch import Tensor

from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.metrics.ewarp import e_warp
from tempcons.metrics.sharpness import sharpness
from tempcons.training.epoch_metrics import BATCH, EpochMetrics

TOTAL = 2 * BATCH + 3


class Watched(FrameStore):
    """Notes how many frames are asked for at once."""

    most = 0

    def take(self, index: int | slice | Any) -> np.ndarray:
        frames = super().take(index)
        self.most = max(self.most, len(frames))
        return frames


class Phase:
    """Renders codes a little darker than the direct edit did."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.generator, self.most = tiny_generator(), 0

    @torch.no_grad()
    def render(self, codes: Tensor) -> Tensor:
        self.most = max(self.most, len(codes))
        return self.generator.synthesis(codes) - 0.1


@pytest.fixture(scope="module")
def measured() -> SimpleNamespace:
    phase = Phase()
    codes = tiny_codes(phase.generator, TOTAL)
    with torch.no_grad():
        direct = Watched(to_frames(phase.generator.synthesis(codes)))
        metrics = EpochMetrics(codes, direct, ZeroFlow(), TinyDistance())
        found = metrics.measure(phase)  # type: ignore[arg-type]
    most = phase.most, direct.most
    frames = phase.render(codes).clamp(-1, 1)
    return SimpleNamespace(found=found, frames=frames, direct=direct.pictures(), most=most)


def test_only_a_few_frames_are_held(measured):
    assert measured.most == (BATCH, BATCH)


def test_every_pair_of_neighbours_counts_once(measured):
    frames = measured.frames
    still, seen = torch.zeros(TOTAL - 1, 2, *frames.shape[-2:]), torch.ones(TOTAL - 1, 1, *frames.shape[-2:])
    errors = e_warp(frames[:-1], frames[1:], still, seen)
    torch.testing.assert_close(measured.found["e_warp"], errors.mean())


def test_distance_and_sharpness_are_of_all_frames(measured):
    distance = TinyDistance()(measured.frames, measured.direct).mean()
    torch.testing.assert_close(measured.found["distance"], distance)
    share = sharpness(measured.frames).mean() / sharpness(measured.direct).mean()
    torch.testing.assert_close(measured.found["sharpness"], share)
