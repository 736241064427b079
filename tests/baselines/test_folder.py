"""Frames of another tool."""

import numpy as np
import pytest
from PIL import Image

from tempcons.baselines.folder import content_hashes, frames_of_other_tool
from tempcons.check import InputError
from tempcons.media.frames import FrameStore


def test_frames_are_read_in_natural_order_and_checked(tmp_path):
    source, file = tmp_path / "other", tmp_path / "frames.npy"
    source.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (11, 8, 12, 3), dtype=np.uint8)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(source / f"frame{t}.png")
    read = frames_of_other_tool(source, FrameStore(frames), file)
    assert np.array_equal(read.array, frames)
    with pytest.raises(InputError, match="other has 11 frames, the direct edit has 9"):
        frames_of_other_tool(source, FrameStore(frames[:9]), file)
    with pytest.raises(InputError, match="no such file"):
        frames_of_other_tool(tmp_path / "nothing", FrameStore(frames), file)


def test_hashes_follow_the_contents(tmp_path):
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(tmp_path / name / "0.png")
    one, same, other = (content_hashes(tmp_path / name) for name in "abc")
    assert one == same != other and len(one) == 1
    assert content_hashes(tmp_path / "a" / "0.png") == one
