from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import ZeroFlow

from tempcons.geometry.occlusion import visible_xu
from tempcons.media.range import to_pictures
from tempcons.metrics.ewarp import e_warp
from tempcons.metrics.full_frame import full_frame_conditions, mean_error, measured_size, stream_errors
from tempcons.models.flow import FarnebackFlow


def shades(*levels: int, size: tuple[int, int] = (8, 12)) -> list[np.ndarray]:
    return [np.full((*size, 3), level, np.uint8) for level in levels]


def test_by_hand() -> None:
    """A step of 51 of 255 levels in three channels is 3 * 0.2^2."""
    assert stream_errors(shades(0, 51, 51), ZeroFlow()) == pytest.approx([0.12, 0.0])


def test_the_pair_across_a_cut_is_not_measured() -> None:
    errors = stream_errors(shades(0, 0, 255, 255), ZeroFlow(), cuts={2})
    assert errors == [0, None, 0]
    assert mean_error(errors) == 0 and mean_error([None]) is None


def test_the_same_as_the_metric_for_aligned_frames() -> None:
    frames = list(np.random.default_rng(0).integers(0, 255, (3, 32, 40, 3), dtype=np.uint8))
    flow = FarnebackFlow()
    want = []
    for a, b in ((0, 1), (1, 2)):
        x, y = to_pictures(frames[a]), to_pictures(frames[b])
        forward, backward = flow.pair(x, y)
        want.append(e_warp(x, y, forward, visible_xu(forward, backward)).item())
    assert stream_errors(iter(frames), flow) == pytest.approx(want)


def test_large_frames_are_measured_smaller_and_it_is_said() -> None:
    seen: list[torch.Size] = []

    class Looking(ZeroFlow):
        def pair(self, a, b):
            seen.append(a.shape)
            return super().pair(a, b)

    stream_errors(shades(0, 9, size=(60, 100)), Looking(), longest=50)
    assert seen == [(1, 3, 30, 50)]
    about = full_frame_conditions((60, 100), 50, 2, "zero")
    assert (about["size"], about["frame_size"], about["flow_network"]) == ("50x30", "100x60", "zero")


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 2000))
def test_sizes_are_within_bounds(height: int, width: int, longest: int) -> None:
    found = measured_size((height, width), longest)
    assert min(found) >= 1 and max(found) <= max(longest, 1)
    assert measured_size((height, width), None) == (height, width)
