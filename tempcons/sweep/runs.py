"""Finished jobs of a sweep as runs with figures, and means over clips and seeds with their intervals."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from tempcons.check import InputError
from tempcons.metrics.bootstrap import Interval, interval_of_mean
from tempcons.sweep.folder import Job
from tempcons.sweep.marks import METRICS, mend, read_object

CONTROLS = "controls"
MULTIRUN = "multirun.yaml"
CONTROL_NAMES = ("smoothed_codes", "flow_warped_mean")


@dataclass(frozen=True)
class Metric:
    """A column: its name in metrics.json, and whether the second flow estimator's value is meant."""

    name: str
    second: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it's a warping error, which is shown with its change against the direct edit."""
        return self.name.startswith("e_")


@dataclass(frozen=True)
class Run:
    """One finished job.

    Attributes:
        edit, domain, phase, clip, seed: what it was told.
        figures: by variant ("direct", "phase2", "dvp", ...), the controls among them.
        manifest: where it comes from.
        folder: its folder.
    """

    edit: str
    domain: str
    phase: str
    clip: str
    seed: int
    figures: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    folder: Path

    @property
    def last(self) -> str:
        """The variant that the run ends with."""
        return next((name for name in ("phase2", "phase1") if name in self.figures), "direct")

    def value(self, variant: str, metric: Metric) -> float | None:
        """A figure; None where it couldn't be measured or the variant isn't there."""
        row = self.figures.get(variant, {})
        if metric.second:
            row = next(iter(row.get("second_flow", {}).values()), {})
        return row.get(metric.name)


def read_runs(folder: Path, jobs: Sequence[Job]) -> list[Run]:
    """The finished jobs in a sweep's folder.

    Raises:
        InputError: a broken run folder.
    """
    return [read_run(folder / job.key) for job in jobs]


def read_run(folder: Path) -> Run:
    """One finished job."""
    document, manifest = read_object(folder / METRICS), read_object(folder / "manifest.json")
    rows = document | document.get(CONTROLS, {})
    figures = {name: row for name, row in rows.items() if isinstance(row, dict) and "e_warp" in row}
    try:
        settings = manifest["settings"]
        edit, told = settings["edit"], (settings["phase"], manifest["input"]["path"], settings["seed"])
        phase, clip, seed = told
        return Run(edit["name"], edit["domain"], phase, clip, seed, figures, manifest, folder)
    except (KeyError, TypeError) as error:
        what = f"broken run folder {folder}: its manifest tells no {error}"
        raise InputError("sweep", what, mend(folder)) from error


def estimate(runs: Sequence[Run], values: Sequence[float | None]) -> Interval | None:
    """Mean over clips with a bootstrap interval over them; a clip's value is the mean over its edits.

    Args:
        runs: of any edits, clips and seeds; the seeds of an edit and a clip are averaged first.
        values: one of each run; runs without the figure are left out.

    Returns:
        None where no run has the figure.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for run, value in zip(runs, values, strict=True):
        if value is not None:
            found.setdefault(run.clip, {}).setdefault(run.edit, []).append(value)
    by_clip = [fmean([fmean(seeds) for seeds in edits.values()]) for edits in found.values()]
    return interval_of_mean(by_clip) if by_clip else None


def provenance(folder: Path, runs: Sequence[Run]) -> list[str]:
    """Lines that say how a table came about: command, settings, clips, networks, machine, seeds, date."""
    return [
        f"command: `{command(folder)}`",
        f"{listed('recipe', [r.manifest['recipe'] for r in runs])}; "
        f"{listed('family', [r.manifest['settings']['family']['name'] for r in runs])}; "
        f"{listed('seed', [str(r.seed) for r in runs])}; {clips(runs)}",
        networks(runs),
        machine(runs),
    ]


def command(folder: Path) -> str:
    """The command line that ran the sweep, without the folders of the machine it ran on."""
    path = folder / MULTIRUN
    if not path.exists():
        return f"python train.py -m (of {folder.name}; its {MULTIRUN} is gone)"
    told = yaml.safe_load(path.read_text())["hydra"]["overrides"]["task"]
    return f"python train.py -m {shlex.join(word for word in told if not word.startswith('output.'))}"


def listed(name: str, values: Sequence[str]) -> str:
    """'recipe a' or 'recipes a, b'."""
    found = list(dict.fromkeys(values))
    return f"{name}{'s' if len(found) > 1 else ''} {', '.join(found)}"


def clips(runs: Sequence[Run]) -> str:
    """Number, names and licences of the clips."""
    frames = {r.clip: len(r.manifest["clip"]["frame_ids"]) for r in runs}
    shown = ", ".join(f"{Path(clip).name} ({count} frames)" for clip, count in list(frames.items())[:3])
    more = f" and {len(frames) - 3} more" if len(frames) > 3 else ""
    found = (r.manifest["settings"]["clip"].get("licence") for r in runs)
    licences = "".join(f"; {licence}" for licence in dict.fromkeys(filter(None, found)))
    return f"{len(frames)} clip{'s' if len(frames) > 1 else ''}: {shown}{more}{licences}"


def networks(runs: Sequence[Run]) -> str:
    """What the figures were measured with."""
    words = {"flow": "flow", "second flow": "second_flow", "distance": "perceptual", "device": "device"}
    used = [run.manifest["networks"] for run in runs]
    return "; ".join(listed(word, [found[key] for found in used]) for word, key in words.items())


def machine(runs: Sequence[Run]) -> str:
    """Where, with what and when the runs were made, as they recorded it themselves."""
    told = [run.manifest["environment"] for run in runs]
    where = [f"{t['machine']}, {t['processor']}, {t.get('cores', '?')} cores" for t in told]
    versions = [
        f"tempcons {t['tempcons']}, Python {t['python']}, torch {t['packages']['torch']}" for t in told
    ]
    dates = sorted({t["date"] for t in told if "date" in t})
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "date not recorded"
    return "; ".join([*dict.fromkeys(where), *dict.fromkeys(versions), when])
