"""A sweep's folder as rows: which jobs are done, which failed, which are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tempcons.check import InputError
from tempcons.store.artefact import write_json
from tempcons.sweep.marks import DONE, FAILED, METRICS, PLAN, finished, read_object

JOB_CONFIG = Path("config") / "config.yaml"
STATES = ("done", "failed", "missing", "broken")


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        key: name of its folder: the hash of its configuration.
        overrides: what it was told, as ``setting=value``.
        state: "done", "failed", "missing" (not started, or stopped in the middle) or "broken".
        figures: of the last phase; empty unless done.
        others: the direct edit's and the controls' figures, by name; empty unless done.
        error: why it failed or what is broken.
    """

    key: str
    overrides: tuple[str, ...]
    state: str
    figures: dict[str, float] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""

    def setting(self, name: str) -> str | None:
        """Value of a setting on the job's command line; the last one counts."""
        found = dict(parts(text) for text in self.overrides)
        return found.get(name)

    def label(self, names: Sequence[str]) -> str:
        """What it was told about some settings."""
        return " ".join(f"{name}={self.setting(name)}" for name in names if self.setting(name) is not None)


def parts(override: str) -> tuple[str, str]:
    """(setting, value) of ``setting=value``, without Hydra's + signs."""
    name, _, value = override.partition("=")
    return name.lstrip("+"), value


def write_plan(folder: Path, jobs: dict[str, list[str]]) -> None:
    """Note the jobs that a sweep is going to run; those of earlier starts stay in the plan.

    Args:
        folder: the sweep's folder.
        jobs: overrides by job key.
    """
    before = read_object(folder / PLAN)["jobs"] if (folder / PLAN).exists() else {}
    write_json(folder / PLAN, {"jobs": before | jobs})


def read_sweep(folder: Path) -> list[Job]:
    """All jobs of a sweep: planned ones in order, then others that are there.

    Raises:
        InputError: no such folder, no sweep in it, or its plan is broken.
    """
    if not folder.is_dir():
        raise InputError(
            "sweep", f"no folder {folder}", "give the folder that the sweep printed at its start"
        )
    planned = read_object(folder / PLAN).get("jobs", {}) if (folder / PLAN).exists() else {}
    found = [p.name for p in sorted(folder.iterdir()) if is_job(p) and p.name not in planned]
    jobs = [read_job(folder / key, planned.get(key, ())) for key in [*planned, *found]]
    if not jobs:
        raise InputError("sweep", f"{folder} holds no jobs", "run one: train.py -m lambda_r=0.3,3")
    return jobs


def is_job(folder: Path) -> bool:
    """Whether a job was started in ``folder``."""
    return (folder / JOB_CONFIG).exists() or (folder / DONE).exists() or (folder / FAILED).exists()


def read_job(folder: Path, overrides: Sequence[str]) -> Job:
    """The job in ``folder``, which need not be there."""
    key, told = folder.name, tuple(overrides)
    try:
        figures = finished(folder)
        if figures is not None:
            told = told or tuple(read_object(folder / DONE).get("overrides", ()))
            return Job(key, told, "done", figures, other_figures(folder))
        if (folder / FAILED).exists():
            failed = read_object(folder / FAILED)
            told = told or tuple(failed.get("overrides", ()))
            return Job(key, told, "failed", error=str(failed.get("error", "")))
    except InputError as error:
        return Job(key, told, "broken", error=str(error))
    return Job(key, told, "missing")


def other_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Figures of the direct edit and the controls from metrics.json.

    Raises:
        InputError: there is no direct edit in it.
    """
    document = read_object(folder / METRICS)
    if not isinstance(document.get("direct"), dict):
        what = f"broken run folder {folder}: {METRICS} has no direct edit"
        raise InputError("sweep", what, f"remove {folder} and start the sweep again")
    controls = document.get("controls", {})
    return {"direct": document["direct"], **controls}


def require_whole(jobs: Sequence[Job]) -> list[Job]:
    """The finished jobs; a table with holes that nobody sees would mislead.

    Raises:
        InputError: a broken run folder, or nothing finished.
    """
    for job in jobs:
        if job.state == "broken":
            stage, _, what = job.error.partition(": ")
            raise InputError(stage, what)
    done = [job for job in jobs if job.state == "done"]
    if not done:
        raise InputError("sweep", f"none of {len(jobs)} jobs is finished", "start the sweep again")
    return done


def count(jobs: Sequence[Job]) -> str:
    """'4 done, 1 failed, 1 missing'."""
    numbers = {state: sum(job.state == state for job in jobs) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


def swept(jobs: Sequence[Job]) -> list[str]:
    """Names of the settings whose values differ between jobs, in the order given."""
    names = dict.fromkeys(parts(text)[0] for job in jobs for text in job.overrides)
    return [name for name in names if len({job.setting(name) for job in jobs}) > 1]
