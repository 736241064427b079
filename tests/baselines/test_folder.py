"""Frames of another tool."""

import numpy as np
import pytest
from PIL import Image

from tempcons.baselines.folder import frames_of_other_tool
from tempcons.check import InputError
from tempcons.media.frames import FrameStore


def test_frames_are_read_in_natural_order_and_checked(tmp_path):
    source, scratch = tmp_path / "other", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (11, 8, 12, 3), dtype=np.uint8)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(source / f"frame{t}.png")
    read = frames_of_other_tool(source, FrameStore(frames), scratch)
    assert np.array_equal(read.array, frames)
    with pytest.raises(InputError, match="other has 11 frames, the direct edit has 9"):
        frames_of_other_tool(source, FrameStore(frames[:9]), scratch)
    with pytest.raises(InputError, match="no such file"):
        frames_of_other_tool(tmp_path / "nothing", FrameStore(frames), scratch)
