"""x-t slices."""

import numpy as np
import pytest
from PIL import Image

from tempcons.media.frames import FrameStore
from tempcons.media.slices import GAP, LABEL_HEIGHT, stack_slices, write_slices, xt_slice


def video(frames: int = 5, height: int = 6, width: int = 8) -> FrameStore:
    values = np.arange(frames * height * width * 3) % 251
    return FrameStore(values.astype(np.uint8).reshape(frames, height, width, 3))


def test_slice_is_the_row_over_time():
    frames = video()
    pixels = xt_slice(frames, 4)
    assert pixels.shape == (5, 8, 3)
    for t in range(5):
        assert np.array_equal(pixels[t], frames.array[t, 4])
    with pytest.raises(ValueError, match="row must be"):
        xt_slice(frames, 6)


def test_written_sheet_holds_every_slice(tmp_path):
    videos = {"direct edit": video(), "phase 2": video(7)}
    path = write_slices(tmp_path / "slices.png", videos, row=2, scale=3)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * LABEL_HEIGHT + 3 * (5 + 7) + GAP, 24, 3)
    top = LABEL_HEIGHT
    assert np.array_equal(sheet[top : top + 15 : 3, ::3], xt_slice(videos["direct edit"], 2))
    assert (sheet[:LABEL_HEIGHT] < 128).any(), "the label is drawn"
    assert [file.name for file in tmp_path.iterdir()] == ["slices.png"]


def test_no_video_is_refused():
    with pytest.raises(ValueError, match="no video"):
        stack_slices({}, 0)
