"""x-t slices at every row of a video, as one picture that a page can cut them from."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tempcons.media.frames import FrameStore

MOST_PIXELS = 6_000_000  # in all sheets of a page; as PNG rarely more than 2 bytes each
LEAST_ROWS, LEAST_WIDTH = 32, 128


@dataclass(frozen=True)
class SliceSheet:
    """How the slices of a video lie in its sheet: in reading order, ``columns`` beside each other.

    Attributes:
        frames: height of a slice; the first frames of the video.
        rows: number of slices.
        width: width of a slice in pixels.
        row_step: every so manieth row of the picture has a slice.
        column_step: every so manieth pixel of a row is in it.
        columns: slices beside each other.
    """

    frames: int
    rows: int
    width: int
    row_step: int
    column_step: int
    columns: int

    def note(self, total: int) -> str:
        """What was left out of a video of ``total`` frames, in one sentence; empty when nothing was."""
        parts = []
        if self.frames < total:
            parts.append(f"the first {self.frames} of {total} frames")
        if self.row_step > 1:
            parts.append(f"one row in {self.row_step}")
        if self.column_step > 1:
            parts.append(f"one pixel in {self.column_step} of a row")
        return f"To keep this page small, the slices hold {', '.join(parts)}." if parts else ""


def plan_sheet(total: int, size: tuple[int, int], videos: int, most_pixels: int = MOST_PIXELS) -> SliceSheet:
    """The layout of the sheets of ``videos`` videos of ``total`` frames, within ``most_pixels`` together.

    Rows are left out first, then pixels of a row, then the last frames: thinning time would hide flicker.

    Args:
        size: (H, W) of a frame.
    """
    height, width = size
    budget = most_pixels // videos
    # The largest steps leave a few more than asked for where they don't divide the picture.
    largest_steps = max(1, height // LEAST_ROWS), max(1, width // LEAST_WIDTH)
    least = math.ceil(height / largest_steps[0]) * math.ceil(width / largest_steps[1])
    frames = max(1, min(total, budget // least))
    row_step = _step(height, budget // (frames * width), largest_steps[0])
    rows = math.ceil(height / row_step)
    column_step = _step(width, budget // (frames * rows), largest_steps[1])
    kept = math.ceil(width / column_step)
    columns = min(rows, max(1, round(math.sqrt(rows * frames / kept))))
    return SliceSheet(frames, rows, kept, row_step, column_step, columns)


def _step(count: int, room: int, largest: int) -> int:
    """Smallest step that leaves at most ``room`` of ``count``; ``largest`` where none does."""
    return min(math.ceil(count / max(1, room)), largest)


def slice_sheet(frames: FrameStore, sheet: SliceSheet) -> np.ndarray:
    """(lines * frames, columns * width, 3) uint8: the slice of row ``k * row_step`` is the k-th block."""
    taken = frames.array[: sheet.frames, :: sheet.row_step, :: sheet.column_step]
    lines = math.ceil(sheet.rows / sheet.columns)
    blocks = np.zeros((lines * sheet.columns, sheet.frames, sheet.width, 3), np.uint8)
    blocks[: sheet.rows] = taken.swapaxes(0, 1)
    grid = blocks.reshape(lines, sheet.columns, sheet.frames, sheet.width, 3).swapaxes(1, 2)
    return grid.reshape(lines * sheet.frames, sheet.columns * sheet.width, 3)


def encode_png(pixels: np.ndarray) -> bytes:
    """An (H, W, 3) uint8 picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()
