"""Frames and figures -> what the user looks at: videos, x-t slices, tables, a manifest."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tempcons import __version__
from tempcons.media.frames import FrameStore
from tempcons.media.slices import write_slices
from tempcons.media.write import VideoSettings, side_by_side, write_video
from tempcons.metrics.evaluate import VideoMetrics
from tempcons.stages.page_masks import Masks, write_sheet
from tempcons.store.artefact import write_json
from tempcons.training.logging import MASKS, PHASES, SLICES, TARGET

SLICES_FILE = "slices.png"
COLUMNS = ("e_warp", "e_long", "distance", "sharpness", "motion")
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "kornia", "opencv-python-headless", "av", "wandb")


def write_videos(folder: Path, shown: dict[str, FrameStore], fps: float) -> dict[str, Path]:
    """One mp4 per variant and one with all of them side by side."""
    files = {}
    for name, frames in shown.items():
        files[name] = folder / f"{name}.mp4"
        write_video(files[name], frames, VideoSettings(fps))
    files["side_by_side"] = folder / "side_by_side.mp4"
    beside = side_by_side(list(shown.values()), list(shown))
    write_video(files["side_by_side"], beside, VideoSettings(fps))
    return files


def draw_pictures(
    folder: Path, shown: dict[str, FrameStore], masks: dict[str, Masks], row_share: float
) -> None:
    """x-t slices of all variants at one row, stacked (paper, Fig. 6), and the masks of target and phases."""
    height = next(iter(shown.values())).size[0]
    write_slices(folder / SLICES_FILE, shown, min(height - 1, int(row_share * height)))
    for phase, found in masks.items():
        write_sheet(folder / f"{MASKS}_{phase}.png", found)


def pictures(folder: Path) -> dict[str, Path]:
    """What :func:`draw_pictures` wrote, by the names that dashboards show."""
    masks = {f"{MASKS}/{phase}": folder / f"{MASKS}_{phase}.png" for phase in (TARGET, *PHASES)}
    return {name: path for name, path in {SLICES: folder / SLICES_FILE, **masks}.items() if path.exists()}


def write_csv(path: Path, measured: dict[str, VideoMetrics]) -> None:
    """Per-frame figures of every variant."""
    rows = [{"variant": name, **row} for name, result in measured.items() for row in result.per_frame]
    names = list(dict.fromkeys(key for row in rows for key in row))
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def print_table(rows: dict[str, dict[str, Any]], title: str, console: Console | None = None) -> None:
    """The small table at the end of a run; lower is better for the first three columns."""
    table = Table(title=title)
    table.add_column("")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    direct = rows["direct"]
    for label, row in rows.items():
        cells = [format_cell(name, row[name], direct[name], label == "direct") for name in COLUMNS]
        table.add_row(label, *cells)
    (console or Console(width=110)).print(table)


def format_cell(name: str, value: float | None, direct: float | None, is_direct: bool) -> str:
    """E_warp columns in 1e-4 with the change against the direct edit; the others as they are.

    A clip too short for a figure has none: a dash.
    """
    if value is None:
        return "-"
    if not name.startswith("e_"):
        return f"{value:.3f}"
    change = "" if is_direct or not direct else f" ({100 * (value / direct - 1):+.0f} %)"
    return f"{1e4 * value:.2f}e-4{change}"


def copy_artefacts(folder: Path, files: dict[str, Path]) -> None:
    """Bring weights and codes of the cache into the run's folder."""
    for name, source in files.items():
        shutil.copyfile(source, folder / name)


def environment() -> dict[str, Any]:
    """Versions and machine, for the manifest."""
    return {
        "tempcons": __version__,
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "machine": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_manifest(path: Path, **parts: Any) -> None:
    """Inputs, weights, settings, stages: enough to know what made the result."""
    write_json(path, {**parts, "environment": environment()})


def metrics_document(measured: dict[str, VideoMetrics]) -> dict[str, Any]:
    """Summaries with their conditions, by variant."""
    return {name: {**result.summary, "conditions": result.conditions} for name, result in measured.items()}
