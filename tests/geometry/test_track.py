from __future__ import annotations

import numpy as np
import pytest

from tempcons.check import ConfigError, InputError
from tempcons.geometry.track import Detection, choose, link


def face(x: float, side: float = 40, score: float = 1.0) -> Detection:
    return Detection(np.array([x, 10, x + side, 10 + side]), score, np.full((5, 2), x))


def test_two_faces_that_pass_each_other_by_steps_are_kept_apart() -> None:
    tracks = link([[face(10 + 4 * t), face(200 - 4 * t)] for t in range(10)])
    assert len(tracks) == 2
    assert [d.box[0] for d in tracks[0].values()] == [10 + 4 * t for t in range(10)]


def test_a_gap_is_bridged() -> None:
    (track,) = link([[face(10)], [], [face(14)]])
    assert list(track) == [0, 2]


def test_a_larger_false_face_in_some_frames_does_not_take_over() -> None:
    frames = [[face(50)] + ([face(60, side=150)] if t == 5 else []) for t in range(20)]
    assert len(choose(link(frames), "auto")) == 20


def test_two_equal_faces_need_a_choice() -> None:
    tracks = link([[face(10), face(200)] for _ in range(5)])
    with pytest.raises(ConfigError, match=r"align\.face=0"):
        choose(tracks, "auto")
    assert choose(tracks, "1") is not choose(tracks, "0")
    assert choose(tracks, "auto", box=[195, 8, 245, 55])[0].box[0] == 200


def test_no_face_is_an_error() -> None:
    with pytest.raises(InputError, match="no face"):
        choose(link([[], []]), "auto")


@pytest.mark.parametrize("wrong", ["3", "left"])
def test_a_face_that_does_not_exist(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"align\.face"):
        choose(link([[face(10)]]), wrong)
