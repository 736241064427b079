"""x-t slices: one row of the picture over time, which makes flicker visible in a still.

Steady content draws vertical lines; flicker makes them ragged from row to row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tempcons.media.frames import FrameStore

LABEL_HEIGHT = 16
GAP = 4
PAPER, INK = (255, 255, 255), (0, 0, 0)


def xt_slice(frames: FrameStore, row: int) -> np.ndarray:
    """Row ``row`` of all frames, time running down: (T, W, 3) uint8.

    Raises:
        ValueError: a row outside the picture.
    """
    if not 0 <= row < frames.size[0]:
        raise ValueError(f"row must be within 0..{frames.size[0] - 1}, got {row}")
    return np.ascontiguousarray(frames.array[:, row])


def stack_slices(videos: Mapping[str, FrameStore], row: int, scale: int = 3) -> Image.Image:
    """Labelled x-t slices of several videos, below one another, every pixel enlarged ``scale`` times.

    Raises:
        ValueError: no video, or a row outside one of them.
    """
    if not videos:
        raise ValueError("no video to draw a slice of")
    panels = [_panel(label, xt_slice(frames, row), scale) for label, frames in videos.items()]
    size = max(panel.width for panel in panels), sum(panel.height + GAP for panel in panels) - GAP
    sheet = Image.new("RGB", size, PAPER)
    top = 0
    for panel in panels:
        sheet.paste(panel, (0, top))
        top += panel.height + GAP
    return sheet


def write_slices(path: Path, videos: Mapping[str, FrameStore], row: int, scale: int = 3) -> Path:
    """Write :func:`stack_slices` as a PNG, under a temporary name until it is whole."""
    temporary = path.with_name(f".{path.name}.part")
    stack_slices(videos, row, scale).save(temporary, format="PNG")
    os.replace(temporary, path)
    return path


def _panel(label: str, pixels: np.ndarray, scale: int) -> Image.Image:
    enlarged = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    panel = Image.new("RGB", (enlarged.width, enlarged.height + LABEL_HEIGHT), PAPER)
    panel.paste(enlarged, (0, LABEL_HEIGHT))
    ImageDraw.Draw(panel).text((2, 2), label, fill=INK, font=ImageFont.load_default(size=11))
    return panel
