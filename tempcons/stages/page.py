"""A run as one page: videos that play together, a wipe, x-t slices, curves, figures, where it all comes from.

The page is one file that asks for nothing else: pictures, videos, style and script are inside. Its content
security policy forbids every request and every script but its own.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tempcons import __version__
from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.stages.page_alignment import AlignmentFacts, alignment_section
from tempcons.stages.page_charts import ChartStyle, collect_curves, draw_charts, worst_frames
from tempcons.stages.page_masks import Masks, section
from tempcons.stages.page_tables import CONTROLS, conditions_sentence, figures_table, label, pairs_table
from tempcons.stages.page_videos import VideoWall, asset


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
        masks: masks and flow of some frames by phase and frame id.
        alignment: how steady the crop is, and figures of full frames.

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
    masks: Mapping[str, Masks] = field(default_factory=dict)
    alignment: AlignmentFacts | None = None

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
    return write_html(path, lambda: render(page))


def write_html(path: Path, make: Callable[[], str]) -> Path:
    """Write the text that ``make`` returns, under a temporary name until it is whole.

    Raises:
        InputError: a file can't be read or written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(make(), encoding="utf-8")
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
    names = list(page.videos)
    controls = page.metrics.get(CONTROLS, {})
    curves = collect_curves(page.per_frame, total)
    look = ChartStyle({str(r["variant"]): label(str(r["variant"])) for r in page.per_frame}, controls)
    wall = VideoWall(page.videos, page.frames, page.fps, page.frame_ids, page.slice_row)
    parts = wall.parts("direct" if "direct" in names else names[0], names[-1], curves)
    main = Template(asset("page.html")).substitute(
        figures=figures_table(page.metrics, controls),
        conditions=escape(conditions_sentence(page.metrics)),
        curves=draw_charts(curves, look),
        worst=worst_frames(curves, look, page.frame_ids),
        masks=section(page.masks, {name: label(name) for name in page.masks}, page.frame_ids),
        alignment=alignment_section(page.alignment),
        settings=pairs_table(page.settings),
        provenance=pairs_table(page.provenance),
        **parts,
    )
    subtitle = f"{total} frames, {page.fps:.5g} per second, {width} x {height} pixels"
    return frame(main, page.title, subtitle, asset("page.css"), asset("page.js"), parts["data"])


def frame(main: str, title: str, subtitle: str, style: str, script: str, data: str) -> str:
    """A whole page: what stands around the HTML of its main part.

    Args:
        main: HTML, everything in it escaped.
        title: heading, as text; ``subtitle`` the line under it.
        style: all of the page's CSS.
        script: all of its JavaScript.
        data: JSON that the script reads.
    """
    return Template(asset("frame.html")).substitute(
        main=main,
        policy=policy(style, script),
        style=style,
        script=script,
        title=escape(title),
        subtitle=escape(subtitle),
        contents=contents(main),
        version=escape(__version__),
        data=data,
    )


def contents(main: str) -> str:
    """Links to the parts of a page, which are those with a heading of their own."""
    parts = re.findall(r'<h2 id="([a-z-]+)">([^<]+)</h2>', main)
    return " ".join(f'<a href="#{name}">{title}</a>' for name, title in parts)


def policy(style: str, script: str) -> str:
    """Content security policy: no requests, and no style or script but these two."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'"
    )
