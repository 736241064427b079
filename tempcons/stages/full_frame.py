"""What a run ends with when the face is put back: the source, the direct edit pasted, the stitched result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from tempcons.check import InputError
from tempcons.family import Family
from tempcons.media.write import VideoSettings, side_by_side, write_video
from tempcons.metrics.full_frame import full_frame_conditions, mean_error, stream_errors
from tempcons.progress import track
from tempcons.stages.report import format_cell
from tempcons.stages.stitch import BLEND, PLAIN, STITCHED, Faces, StitchConfig, positions_of, stitched
from tempcons.store.artefact import Store
from tempcons.types import Aligned, Clip, Stitched

STAGE = "full_frame"
VERSION = 1
SOURCE, DIRECT, RESULT = "source", "direct_pasted", STITCHED
# Beside each other no wider than a screen.
WIDEST_COLUMN = 640


@dataclass(frozen=True)
class FullFrames:
    """The stitched video and its figures, ready for ``metrics.json``."""

    stitched: Stitched
    figures: dict[str, Any]

    @property
    def plain(self) -> dict[str, float]:
        """The result's figures by the names they have in a sweep's table."""
        found = {f"full_{k}": v for k, v in self.figures[RESULT].items()}
        return {k: v for k, v in found.items() if isinstance(v, float)}


def check_room(clip: Clip, cache: Path) -> None:
    """Raise InputError early unless the cache's disk holds the clip's full frames once more."""
    needed = clip.frames.array.size / 1e6
    free = shutil.disk_usage(cache).free / 1e6
    if needed > free:
        raise InputError(
            "stitch",
            f"{needed:.0f} MB are needed for full frames, {free:.0f} MB are free at {cache}",
            "free some space, set output.cache to another disk, or take fewer frames (clip.num_frames)",
        )


def variants(
    clip: Clip, aligned: Aligned, direct: Faces, result: Stitched, config: StitchConfig
) -> dict[str, Iterator[np.ndarray]]:
    """Full frames to compare, one after another: source, direct edit pasted plainly, result."""
    return {
        SOURCE: clip.frames.stream(),
        DIRECT: stitched(clip, aligned, direct, config.plain),
        RESULT: result.frames.stream(),
    }


def measure(
    clip: Clip,
    aligned: Aligned,
    direct: Faces,
    result: Stitched,
    config: StitchConfig,
    family: Family,
    longest: int | None,
    store: Store,
) -> FullFrames:
    """E_warp of all three on full frames, and the seam of plain pasting and of the result.

    Args:
        clip, aligned: the source and where its face is.
        direct: the direct edit's crops.
        result: full frames.
        config: how they were made.
        family: flow network.
        longest: longer side in px at which E_warp is measured.
        store: cache.
    """
    depends = {
        "version": VERSION,
        "stitched": result.key,
        "direct": direct.key,
        "plain": asdict(config.plain),
        "longest": longest,
        **family.reads("flow"),
    }

    def make(folder: Path) -> dict[str, Any]:
        family.place()
        place = positions_of(clip.frame_ids)
        cuts = {place[frame_id] for frame_id in aligned.cuts}
        errors = {}
        for name, frames in variants(clip, aligned, direct, result, config).items():
            shown = track(frames, f"measuring full frames, {name}", len(clip.frames))
            errors[name] = mean_error(stream_errors(shown, family.flow, cuts, longest, family.device))
        return {"e_warp": errors}

    errors = store.info(store.produce(STAGE, depends, make))["e_warp"]
    about = full_frame_conditions(clip.frames.size, longest, len(clip.frames), family.flow.name)
    return FullFrames(result, figures_of(errors, result.seams, about))


def figures_of(
    errors: dict[str, float | None], seams: dict[str, dict[str, float | None]], about: dict[str, object]
) -> dict[str, Any]:
    """The part of ``metrics.json`` about full frames."""
    rows: dict[str, Any] = {name: {"e_warp": error} for name, error in errors.items()}
    rows[DIRECT] |= seams[PLAIN]
    rows[RESULT] |= seams[STITCHED]
    rows |= {name: row for name, row in seams.items() if name == BLEND}
    seam = {"unit": "levels of 255", "rule": "what the paste adds to the source across its hard border"}
    return {**rows, "conditions": {"e_warp": about, "seam_jump": seam, "border_flicker": seam}}


def print_table(figures: dict[str, Any], console: Console | None = None) -> None:
    """The small table below the run's: lower is better in every column."""
    table = Table(title="full frames")
    for name in ("", "e_warp", "seam_jump", "border_flicker"):
        table.add_column(name, justify="right" if name else "left")
    direct = figures[DIRECT]["e_warp"]
    for name, row in figures.items():
        if name == "conditions":
            continue
        levels = [row.get(key) for key in ("seam_jump", "border_flicker")]
        error = format_cell("e_warp", row.get("e_warp"), direct, name != RESULT)
        table.add_row(name, error, *("-" if v is None else f"{v:.2f}" for v in levels))
    (console or Console(width=110)).print(table)


def write_comparison(
    path: Path, clip: Clip, aligned: Aligned, direct: Faces, result: Stitched, config: StitchConfig
) -> Path:
    """Source, direct edit pasted and result side by side, as a video no wider than a screen."""
    shown = variants(clip, aligned, direct, result, config)
    width = min(WIDEST_COLUMN, clip.frames.size[1])
    height = max(1, round(clip.frames.size[0] * width / clip.frames.size[1]))
    columns = [(_resized(frame, (width, height)) for frame in frames) for frames in shown.values()]
    return write_video(path, side_by_side(columns, list(shown)), VideoSettings(clip.fps))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[1::-1] == size:
        return frame
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
