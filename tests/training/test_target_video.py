"""The consistent target: less flicker, near the direct edit, the same in each run."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tempcons.media.frames import FrameStore
from tempcons.models.flow import DISFlow
from tempcons.training.target_video import AlongFlow, PairFlows, consistent_video

CPU = torch.device("cpu")
ANCHOR = 16


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def flickering() -> FrameStore:
    """32 frames of a still picture whose brightness jumps."""
    y, x = np.mgrid[:64, :64] / 10
    still = np.stack([127 + 90 * np.sin(k * x) * np.cos(y + k) for k in (1, 2, 3)], axis=-1)
    jumps = np.random.default_rng(0).integers(-12, 13, (32, 1, 1, 1))
    return FrameStore((still + jumps).clip(0, 255).astype(np.uint8))


def solved(frames: FrameStore, weight_data: float) -> torch.Tensor:
    return consistent_video(frames, ANCHOR, DISFlow("fast", 1), 0.4, weight_data, CPU)


def jumps_of(video: torch.Tensor) -> float:
    return float((video[1:] - video[:-1]).square().mean())


def test_it_flickers_less_the_less_it_must_be_near_the_direct_edit(flickering):
    direct = flickering.pictures()
    free, near = solved(flickering, 0.1), solved(flickering, 1.0)
    assert jumps_of(free) < 0.1 * jumps_of(direct)
    assert jumps_of(free) < jumps_of(near) < jumps_of(direct)
    assert (near - direct).abs().mean() < (free - direct).abs().mean()


def test_it_is_the_same_in_each_run(flickering, two_threads):
    """The anchor is in all pairs, so its gradient is a sum whose order could depend on the threads."""
    first = solved(flickering, 0.4)
    assert all(torch.equal(solved(flickering, 0.4), first) for _ in range(2))


def test_error_by_hand():
    """A pair one pixel apart: where both see a pixel its difference counts, elsewhere nothing does."""
    video = torch.zeros(2, 3, 4, 4)
    video[0, :, :, 1:], video[1, :, :, :-1] = 0.25, 0.75
    left = torch.zeros(1, 2, 4, 4)
    left[:, 0] = -1
    seen = torch.ones(1, 1, 4, 4)
    pairs = AlongFlow.of(PairFlows([0], [1], left, -left, seen, 0.5 * seen))
    # 12 of 16 pixels stay inside, half as sure the other way.
    assert pairs.error(video).item() == pytest.approx(0.75 * 0.25 * (1 + 0.5))
