"""Videos that play together, the x-t slices below them, and a wipe between any two: a part of pages."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from tempcons.media.frames import FrameStore
from tempcons.stages.page_slices import SliceSheet, encode_png, plan_sheet, slice_sheet
from tempcons.stages.page_tables import label


@dataclass(frozen=True)
class VideoWall:
    """Videos of the same frames, side by side.

    Attributes:
        videos: H.264 mp4 files by name; the order is the page's.
        frames: uint8 (T, H, W, 3) of videos, for the x-t slices; of one shape.
        fps: frames per second.
        frame_ids: (T,) numbers of the frames in the source video; may be left out.
        slice_row: row of the slices at first, as a share of the height.
        labels: what to call videos whose name is no variant's.
        links: addresses that captions lead to.
    """

    videos: Mapping[str, Path]
    frames: Mapping[str, FrameStore]
    fps: float
    frame_ids: Sequence[int] = ()
    slice_row: float = 0.5
    labels: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of every video."""
        total, height, width, _ = next(iter(self.frames.values())).array.shape
        return total, height, width

    @cached_property
    def sheet(self) -> SliceSheet:
        """How the slices of a video lie in their sheet."""
        total, height, width = self.shape
        return plan_sheet(total, (height, width), len(self.frames))

    def title(self, name: str) -> str:
        """A video's name for people, escaped."""
        return escape(self.labels.get(name, label(name)))

    def parts(self, left: str, right: str, curves: Mapping[str, Any]) -> dict[str, str]:
        """HTML of the videos, of the wipe (``left`` and ``right`` at first), and the script's data."""
        total, height, width = self.shape
        sheet = self.sheet
        row = min(sheet.rows - 1, int(self.slice_row * height) // sheet.row_step) * sheet.row_step
        videos = Template(asset("videos.html")).substitute(
            players="".join(self._player(name, number) for number, name in enumerate(self.videos)),
            slices_note=f" {sheet.note(total)}",
            last_frame=total - 1,
            last_row=(sheet.rows - 1) * sheet.row_step,
            row_step=sheet.row_step,
            row=row,
        )
        wipe = Template(asset("wipe.html")).substitute(
            left_options=self._options(left), right_options=self._options(right), width=width, height=height
        )
        return {"videos": videos, "wipe": wipe, "data": self._script_data(curves)}

    def _player(self, name: str, number: int) -> str:
        """One video with its slice below."""
        _, height, width = self.shape
        source = data_uri("video/mp4", self.videos[name].read_bytes())
        title, sliced = self.title(name), name in self.frames
        caption = f'<a href="{escape(self.links[name])}">{title}</a>' if name in self.links else title
        line = '<div class="row-line" aria-hidden="true"></div>' if sliced else ""
        return (
            f"<figure><figcaption>{caption}</figcaption>"
            f'<div class="screen"><video data-name="{escape(name)}" width="{width}" height="{height}" muted '
            f'playsinline controls preload="auto" aria-label="{title}" src="{source}"></video>{line}</div>'
            f"{self._slice(name, number) if sliced else ''}</figure>"
        )

    def _slice(self, name: str, number: int) -> str:
        """The canvas of a slice, and the hidden sheet it is cut from."""
        sheet = self.sheet
        source = data_uri("image/png", encode_png(slice_sheet(self.frames[name], sheet)))
        return (
            f'<div class="slice"><canvas width="{sheet.width}" height="{sheet.frames}" '
            f'data-sheet="sheet-{number}" role="img" aria-label="x-t slice of {self.title(name)}"></canvas>'
            '<div class="now"></div></div>'
            f'<img class="sheet" id="sheet-{number}" alt="" hidden src="{source}">'
        )

    def _options(self, chosen: str) -> str:
        """The entries of a list of videos."""
        selected = {chosen: " selected"}
        return "".join(
            f'<option value="{escape(name)}"{selected.get(name, "")}>{self.title(name)}</option>'
            for name in self.videos
        )

    def _script_data(self, curves: Mapping[str, Any]) -> str:
        """What the script needs, as JSON that can't end the element it stands in."""
        total, height, _ = self.shape
        sheet = self.sheet
        known = {
            "frames": total,
            "height": height,
            "fps": self.fps,
            "frameIds": [int(number) for number in self.frame_ids],
            "slices": {
                "frames": sheet.frames,
                "columns": sheet.columns,
                "width": sheet.width,
                "rowStep": sheet.row_step,
            },
            "curves": curves,
        }
        return json.dumps(known, allow_nan=False).replace("<", "\\u003c")


def asset(name: str) -> str:
    """A template of the page."""
    return (files("tempcons.stages") / "page_assets" / name).read_text(encoding="utf-8")


def data_uri(kind: str, content: bytes) -> str:
    """A file's content as an address."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
