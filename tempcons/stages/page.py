"""A run as one page: videos that play together, a wipe, x-t slices, curves, figures, where it all comes from.

The page is one file that asks for nothing else: pictures, videos, style and script are inside. Its content
security policy forbids every request and every script but its own.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from tempcons import __version__
from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.stages.page_charts import ChartStyle, collect_curves, draw_charts, worst_frames
from tempcons.stages.page_slices import SliceSheet, encode_png, plan_sheet, slice_sheet
from tempcons.stages.page_tables import CONTROLS, conditions_sentence, figures_table, label, pairs_table


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        title: heading of the page.
        videos: H.264 mp4 files by variant, all of the same frames; the order is the page's.
        metrics: summary by variant ("direct" among them), and under "controls" those of the controls.
        per_frame: rows with ``variant``, ``frame`` (position from 0) and figures.
        frames: uint8 (T, H, W, 3) of variants that have a video, for the x-t slices.
        fps: frames per second of the videos.
        settings: the run's settings, plain JSON types, nested as they are.
        provenance: inputs, weights, versions, stages; likewise.
        frame_ids: (T,) numbers of the frames in the source video; may be left out.
        slice_row: row of the slices at first, as a share of the height.

    Raises:
        ValueError: no frames, frames of different shapes, or frames of a variant without a video.
    """

    title: str
    videos: Mapping[str, Path]
    metrics: Mapping[str, Any]
    per_frame: Sequence[Mapping[str, Any]]
    frames: Mapping[str, FrameStore]
    fps: float
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    frame_ids: Sequence[int] = ()
    slice_row: float = 0.5

    def __post_init__(self) -> None:
        shapes = {store.array.shape for store in self.frames.values()}
        if len(shapes) != 1:
            raise ValueError(f"a page needs frames of one shape, got {sorted(shapes) or 'none'}")
        if without := set(self.frames) - set(self.videos):
            raise ValueError(f"frames without a video: {', '.join(sorted(without))}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of every video."""
        total, height, width, _ = next(iter(self.frames.values())).array.shape
        return total, height, width


def write_page(path: Path, page: PageContent) -> Path:
    """Write ``page`` as one HTML file, under a temporary name until it is whole.

    Raises:
        InputError: a video can't be read, or the page can't be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(render(page), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            "report", f"can't write {path}: {error}", "check the folder and the space"
        ) from error
    return path


def render(page: PageContent) -> str:
    """The page's HTML. Everything that comes from a run is escaped."""
    total, height, width = page.shape
    sheet = plan_sheet(total, (height, width), len(page.frames))
    style, script = asset("page.css"), asset("page.js")
    names, last = list(page.videos), list(page.videos)[-1]
    controls = page.metrics.get(CONTROLS, {})
    row = min(sheet.rows - 1, int(page.slice_row * height) // sheet.row_step) * sheet.row_step
    curves = collect_curves(page.per_frame, total)
    look = ChartStyle({str(r["variant"]): label(str(r["variant"])) for r in page.per_frame}, controls)
    return Template(asset("page.html")).substitute(
        policy=policy(style, script),
        style=style,
        script=script,
        data=script_data(page, sheet, curves),
        title=escape(page.title),
        subtitle=f"{total} frames, {page.fps:.5g} per second, {width} x {height} pixels",
        version=escape(__version__),
        players="".join(player(page, name, sheet, number) for number, name in enumerate(names)),
        left_options=options(names, "direct" if "direct" in names else names[0]),
        right_options=options(names, last),
        figures=figures_table(page.metrics, controls),
        conditions=escape(conditions_sentence(page.metrics)),
        curves=draw_charts(curves, look),
        worst=worst_frames(curves, look, page.frame_ids),
        settings=pairs_table(page.settings),
        provenance=pairs_table(page.provenance),
        slices_note=f" {sheet.note(total)}",
        width=width,
        height=height,
        last_frame=total - 1,
        last_row=(sheet.rows - 1) * sheet.row_step,
        row_step=sheet.row_step,
        row=row,
    )


def asset(name: str) -> str:
    """A template of the page."""
    return (files("tempcons.stages") / "page_assets" / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Content security policy: no requests, and no style or script but these two."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'"
    )


def script_data(page: PageContent, sheet: SliceSheet, curves: Mapping[str, Any]) -> str:
    """What the script needs, as JSON that can't end the element it stands in."""
    total, height, _ = page.shape
    known = {
        "frames": total,
        "height": height,
        "fps": page.fps,
        "frameIds": [int(number) for number in page.frame_ids],
        "slices": {
            "frames": sheet.frames,
            "columns": sheet.columns,
            "width": sheet.width,
            "rowStep": sheet.row_step,
        },
        "curves": curves,
    }
    return json.dumps(known, allow_nan=False).replace("<", "\\u003c")


def data_uri(kind: str, content: bytes) -> str:
    """A file's content as an address."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def player(page: PageContent, name: str, sheet: SliceSheet, number: int) -> str:
    """One video with its slice below."""
    _, height, width = page.shape
    source = data_uri("video/mp4", page.videos[name].read_bytes())
    title = escape(label(name))
    line = '<div class="row-line" aria-hidden="true"></div>' if name in page.frames else ""
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<div class="screen"><video data-name="{escape(name)}" width="{width}" height="{height}" muted '
        f'playsinline controls preload="auto" aria-label="{title}" src="{source}"></video>{line}</div>'
        f"{slice_view(page.frames[name], name, sheet, number) if name in page.frames else ''}</figure>"
    )


def slice_view(frames: FrameStore, name: str, sheet: SliceSheet, number: int) -> str:
    """The canvas of a slice, and the hidden sheet it is cut from."""
    source = data_uri("image/png", encode_png(slice_sheet(frames, sheet)))
    title = f"x-t slice of {escape(label(name))}"
    return (
        f'<div class="slice"><canvas width="{sheet.width}" height="{sheet.frames}" '
        f'data-sheet="sheet-{number}" role="img" aria-label="{title}"></canvas><div class="now"></div></div>'
        f'<img class="sheet" id="sheet-{number}" alt="" hidden src="{source}">'
    )


def options(names: Sequence[str], chosen: str) -> str:
    """The entries of a list of variants."""
    selected = {chosen: " selected"}
    return "".join(
        f'<option value="{escape(name)}"{selected.get(name, "")}>{escape(label(name))}</option>'
        for name in names
    )
