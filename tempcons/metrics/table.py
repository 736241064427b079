"""Measured clips as a table on the screen and as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from tempcons.check import ConfigError, near_names
from tempcons.metrics.bootstrap import interval_of_mean
from tempcons.metrics.evaluate import VideoMetrics
from tempcons.metrics.ewarp import E_LONG_GAPS

Results = Mapping[str, VideoMetrics]

ALONE = ("e_warp", "e_long", *(f"e_long_gap{gap}" for gap in E_LONG_GAPS), "motion_px", "sharpness_abs")
NEED_REFERENCE = ("distance", "sharpness", "motion", "flicker")
NEED_INPUT = ("e_warp_input_flow", "e_warp_lai2018")
METRICS = (*ALONE, *NEED_INPUT, *NEED_REFERENCE)


def choose_metrics(wanted: Sequence[str], has_reference: bool, has_input: bool) -> list[str]:
    """The columns of the table. A warping error always brings distance, sharpness and motion with it, since
    blurring, freezing and averaging all win it.

    Raises:
        ConfigError: an unknown metric, or one that needs a video that isn't given.
    """
    beside = ("distance", "sharpness", "motion") if has_reference else ("sharpness_abs", "motion_px")
    chosen = list(wanted) or ["e_warp", "e_long"]
    for name in chosen:
        if name not in METRICS:
            raise ConfigError("metrics", f"no metric named {name!r}", near_names(name, METRICS))
        if name in NEED_REFERENCE and not has_reference:
            raise ConfigError("metrics", f"{name} compares with another video", "give it with --reference")
        if name in NEED_INPUT and not has_input:
            raise ConfigError("metrics", f"{name} takes the flow of the input video", "give it with --input")
    if any(name.startswith("e_") for name in chosen):
        chosen += beside
    return list(dict.fromkeys(chosen))


def result_table(results: Results, metrics: Sequence[str], level: float) -> Table:
    """One row per clip and flow network; with several clips the mean and its bootstrap interval below."""
    table = Table(title="measured videos")
    for name in ("clip", "flow", *metrics):
        table.add_column(name, justify="left" if name in ("clip", "flow") else "right")
    for clip, result in results.items():
        for network, values in by_network(result).items():
            table.add_row(clip, network, *(_cell(name, values.get(name)) for name in metrics))
    if len(results) > 1:
        table.add_section()
        for network, row in intervals(results, metrics, level).items():
            cells = [_interval_cell(name, row.get(name)) for name in metrics]
            table.add_row(f"mean, {level:.0%}", network, *cells)
    return table


def by_network(result: VideoMetrics) -> dict[str, dict[str, Any]]:
    """Flow network -> values; the first one's hold what doesn't depend on flow, too."""
    main = result.conditions["e_warp"]["flow_network"]
    own = {name: value for name, value in result.summary.items() if name != "second_flow"}
    return {main: own, **result.summary["second_flow"]}


def intervals(results: Results, metrics: Iterable[str], level: float) -> dict[str, dict[str, dict]]:
    """Flow network -> metric -> mean over clips with its interval; clips without a value are left out."""
    measured = [by_network(result) for result in results.values()]
    found: dict[str, dict[str, dict]] = {}
    for network in measured[0]:
        for name in metrics:
            values = [clip[network][name] for clip in measured if clip[network].get(name) is not None]
            if values:
                found.setdefault(network, {})[name] = asdict(interval_of_mean(values, level))
    return found


def write_results(folder: Path, results: Results, level: float) -> list[Path]:
    """Write ``per_frame.csv``, ``summary.csv`` (each value with its conditions) and ``metrics.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [{"clip": clip} | row for clip, result in results.items() for row in result.per_frame]
    rows = [{"clip": clip} | row for clip, result in results.items() for row in result.rows()]
    clips = {clip: asdict(result) for clip, result in results.items()}
    for clip in clips.values():
        del clip["per_frame"]
    whole = {"clips": clips, "over_clips": intervals(results, METRICS, level)}
    return [
        _write_csv(folder / "per_frame.csv", frames),
        _write_csv(folder / "summary.csv", rows),
        _write_text(folder / "metrics.json", json.dumps(whole, indent=2, allow_nan=False) + "\n"),
    ]


def _cell(metric: str, value: float | None) -> str:
    """Warping errors in units of 1e-4."""
    if value is None:
        return "-"
    return f"{1e4 * value:.2f}e-4" if metric.startswith("e_") else f"{value:.4g}"


def _interval_cell(metric: str, interval: dict | None) -> str:
    if interval is None:
        return "-"
    middle = _cell(metric, interval["value"])
    if interval["low"] is None:
        return middle
    return f"{middle} [{_cell(metric, interval['low'])}, {_cell(metric, interval['high'])}]"


def _write_csv(path: Path, rows: list[dict]) -> Path:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return temporary.replace(path)


def _write_text(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    return temporary.replace(path)
