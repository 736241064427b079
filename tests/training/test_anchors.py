"""Which frames share an anchor: one for a short clip, one a scene, one a window that overlaps the next."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from composed import parsed
from hypothesis import given
from hypothesis import strategies as st
from tiny import FRAMES, tiny_edited

from tempcons.check import ConfigError
from tempcons.training.anchors import AnchorsConfig, plan_windows, window_pairs, with_windows
from tempcons.training.pairs import PairDataset, anchor_pairs, neighbour_pairs
from tempcons.training.target_video import joined
from tempcons.types import AnchorWindow

ONE = AnchorsConfig()
EDITED = tiny_edited()


def test_one_anchor_is_the_papers() -> None:
    edited = tiny_edited()
    assert with_windows(edited, [range(FRAMES)], ONE, None) is edited
    [window] = edited.anchor_windows
    assert window == AnchorWindow(2, range(FRAMES))
    pairs = PairDataset(edited, edited.codes, edited.frames, "both").pairs
    assert pairs == anchor_pairs(FRAMES, 2) + neighbour_pairs(range(FRAMES))


def test_every_scene_has_its_own_middle_and_no_pair_across_the_cut() -> None:
    edited = with_windows(tiny_edited(), [range(0, 2), range(2, 5)], ONE, None)
    assert [w.anchor for w in edited.anchor_windows] == [0, 3]
    assert edited.scenes == [range(0, 2), range(2, 5)]
    assert edited.anchor_id == 46 and edited.key != tiny_edited().key
    pairs = PairDataset(edited, edited.codes, edited.frames, "both").pairs
    assert sorted(set(pairs)) == [(0, 1), (2, 3), (3, 2), (3, 4)]


def test_a_named_anchor_is_its_scenes() -> None:
    windows = plan_windows([range(0, 4), range(4, 9)], ONE, 8)
    assert [w.anchor for w in windows] == [1, 8]


def test_windows_overlap_and_their_anchors_are_paired() -> None:
    windows = plan_windows([range(10)], AnchorsConfig(window=4, overlap=0.5), None)
    assert [w.frames for w in windows] == [range(0, 4), range(2, 6), range(4, 8), range(6, 10)]
    assert [w.anchor for w in windows] == [1, 3, 5, 7]
    pairs = window_pairs(windows)
    assert {(1, 3), (3, 5), (5, 7)} <= set(pairs) and len(pairs) == len(set(pairs))


def test_by_default_a_short_scene_has_the_papers_anchor_and_a_long_one_several() -> None:
    """A window is held in memory at once, so it must not grow with the clip."""
    usual = parsed().anchors
    assert [w.frames for w in plan_windows([range(120)], usual, None)] == [range(120)]
    minute = plan_windows([range(1500)], usual, None)
    assert len(minute) > 5 and max(len(w.frames) for w in minute) <= 300


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=4),
    st.integers(3, 20),
    st.floats(0.05, 0.95),
    st.data(),
)
def test_windows_cover_every_frame_and_join_within_scenes_only(lengths, window, overlap, data) -> None:
    edges = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    scenes = [range(a, b) for a, b in pairwise(edges)]
    named = data.draw(st.none() | st.integers(0, edges[-1] - 1))
    windows = plan_windows(scenes, AnchorsConfig(window, overlap), named)
    edited = replace(EDITED, windows=tuple(windows))
    assert edited.scenes == scenes
    assert {i for w in windows for i in w.frames} == set(range(edges[-1]))
    assert all(w.anchor in w.frames and len(w.frames) <= max(window, 2) for w in windows)
    assert named is None or named in [w.anchor for w in windows]
    of = {i: k for k, scene in enumerate(scenes) for i in scene}
    assert all(of[a] == of[b] for a, b in window_pairs(windows))


def test_joined_windows_fade_into_each_other_without_a_jump() -> None:
    parts = [(range(0, 6), torch.zeros(6, 3, 2, 2)), (range(2, 8), torch.ones(6, 3, 2, 2))]
    video = torch.cat(list(joined(parts)))[:, 0, 0, 0]
    assert video.tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1])


def test_scenes_are_joined_as_they_are() -> None:
    parts = [(range(0, 2), torch.zeros(2, 3, 2, 2)), (range(2, 12), torch.ones(10, 3, 2, 2))]
    assert torch.cat(list(joined(parts)))[:, 0, 0, 0].tolist() == [0.0] * 2 + [1.0] * 10


@pytest.mark.parametrize("wrong", [{"window": 2}, {"overlap": 0.0}, {"overlap": 1.0}])
def test_wrong_settings(wrong) -> None:
    with pytest.raises(ConfigError, match=f"anchors.{next(iter(wrong))}"):
        AnchorsConfig(**wrong)
