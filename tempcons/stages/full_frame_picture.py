"""One frame as a still: source, direct edit pasted and result beside each other, and their faces enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tempcons.geometry.quad import side_px
from tempcons.media.frames import FrameStore
from tempcons.stages.stitch import Faces, StitchConfig, positions_of, stitched
from tempcons.types import Aligned, Clip, Stitched

FILE = "full_frames.png"
LABELS = ("source", "direct edit, pasted", "stitched")
COLUMN = 336  # px
LABEL_HEIGHT, GAP = 20, 6
CLOSE = 1.25  # side of the close-ups, in sides of the face's square


def draw(
    path: Path, clip: Clip, aligned: Aligned, direct: Faces, result: Stitched, config: StitchConfig
) -> Path:
    """Write the middle edited frame of all three, and below each the face and what is around it.

    Args:
        path: PNG to write, under a temporary name until it is whole.
        clip, aligned, direct, result, config: as for :func:`tempcons.stages.full_frame.measure`.
    """
    frame_id = int(direct.frame_ids[len(direct.frame_ids) // 2])
    at = positions_of(clip.frame_ids)[frame_id]
    one = replace(clip, frames=FrameStore(clip.frames.take([at])), frame_ids=clip.frame_ids[at : at + 1])
    [pasted] = stitched(one, aligned, direct, config.plain)
    frames = dict(zip(LABELS, (one.frames.take(0), pasted, result.frames.take(at)), strict=True))
    quad = aligned.quads[positions_of(aligned.frame_ids)[frame_id]]
    sheet = compose(frames, around(quad, clip.frames.size, CLOSE))
    temporary = path.with_name(f".{path.name}.part")
    sheet.save(temporary, format="PNG", optimize=True)
    temporary.replace(path)
    return path


def around(quad: np.ndarray, size: tuple[int, int], share: float) -> tuple[slice, slice]:
    """Rows and columns of the square around a quad (4, 2), ``share`` of its side wide, as far as a frame of
    ``size`` (H, W) has them."""
    height, width = size
    side = min(max(1, round(share * float(side_px(quad)))), height, width)
    left, top = (quad.mean(0) - side / 2).round().astype(int)
    left, top = int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side))
    return slice(top, top + side), slice(left, left + side)


def compose(frames: Mapping[str, np.ndarray], close: tuple[slice, slice]) -> Image.Image:
    """Frames (H, W, 3) beside each other with their names, the close-ups below."""
    columns = [
        _column(name, [Image.fromarray(frame), Image.fromarray(np.ascontiguousarray(frame[close]))])
        for name, frame in frames.items()
    ]
    sheet = Image.new("RGB", (len(columns) * (COLUMN + GAP) - GAP, columns[0].height), "white")
    for index, column in enumerate(columns):
        sheet.paste(column, (index * (COLUMN + GAP), 0))
    return sheet


def _column(name: str, pictures: list[Image.Image]) -> Image.Image:
    scaled = [
        p.resize((COLUMN, round(p.height * COLUMN / p.width)), Image.Resampling.BICUBIC) for p in pictures
    ]
    column = Image.new("RGB", (COLUMN, LABEL_HEIGHT + sum(p.height for p in scaled) + GAP), "white")
    font = ImageFont.load_default(14)
    ImageDraw.Draw(column).text((COLUMN / 2, LABEL_HEIGHT / 2), name, fill="black", font=font, anchor="mm")
    top = LABEL_HEIGHT
    for picture in scaled:
        column.paste(picture, (0, top))
        top += picture.height + GAP
    return column
