from __future__ import annotations

import numpy as np
import pytest

from tempcons.check import InputError
from tempcons.media.cuts import find_cuts, split_scenes


def scene(colour: tuple[int, int, int], total: int, seed: int = 0) -> list[np.ndarray]:
    """A textured scene under a camera that moves by three pixels a frame."""
    wide = np.random.default_rng(seed).integers(-30, 30, (48, 64 + 3 * total, 3))
    wide = np.clip(wide + np.array(colour), 0, 255).astype(np.uint8)
    return [wide[:, 3 * t : 3 * t + 64] for t in range(total)]


def test_motion_is_no_cut() -> None:
    assert find_cuts(scene((120, 90, 60), 20)) == []


def test_cuts_are_found_where_they_are() -> None:
    frames = scene((120, 90, 60), 8) + scene((30, 60, 160), 5, 1) + scene((220, 200, 90), 6, 2)
    assert find_cuts(iter(frames)) == [8, 13]


def test_a_slow_change_of_light_is_no_cut() -> None:
    frames = [
        np.clip(f.astype(int) + 4 * t, 0, 255).astype(np.uint8) for t, f in enumerate(scene((60,) * 3, 25))
    ]
    assert find_cuts(frames) == []


def test_scenes() -> None:
    assert split_scenes(10, [4]) == [range(0, 4), range(4, 10)]
    assert split_scenes(10, []) == [range(0, 10)]


def test_one_scene_per_frame_is_refused() -> None:
    frames = [np.full((20, 20, 3), 250 * (t % 2), np.uint8) for t in range(6)]
    with pytest.raises(InputError, match="6 of 6 scenes last a single frame"):
        split_scenes(6, find_cuts(frames))
