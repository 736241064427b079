"""The forecast of a run as a table."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tempcons import pipeline
from tempcons.family import Family, load_family
from tempcons.forecast.calibration import Rates, calibrate
from tempcons.forecast.costs import Cost, Job, cost
from tempcons.forecast.plan import Step, plan
from tempcons.opening import official_weights
from tempcons.runtime import pick_device, prepare_process
from tempcons.schema import Config
from tempcons.stages import clip
from tempcons.stages.evaluate import CONTROLS
from tempcons.store.artefact import peak_memory_mb
from tempcons.weights import registry

log = logging.getLogger(__name__)

REUSED, NEW = "reused", "to do"
MINUTE, HOUR = 60, 3600


def tell(config: Config, console: Console | None = None) -> list[tuple[Step, Cost]]:
    """Print every stage with its seconds, memory and disk; returns what was printed. Writes nothing.

    The family's networks are loaded and timed for some seconds.

    Raises:
        TempconsError: what would stop the run itself: a wrong setting, a missing clip or weights.
    """
    console = console or Console(width=110)
    prepare_process(config.trainer.num_threads, config.seed)
    config.edit.check_packages(config.family.name)
    registry.require(official_weights(config))
    frames, size = clip.extent(config.clip)
    family = load_family(config.family, pick_device(config.trainer.accelerator), config.inversion.encoder)
    steps = plan(config, family)
    job = survey(config, family, frames, size)
    rows = [(step, cost(job, step)) for step in steps]
    console.print(table(rows, f"{config.edit.name}, {frames} frames of {size[1]} x {size[0]} px"))
    console.print(summary(rows, family, Path(config.output.cache)), highlight=False)
    return rows


def survey(config: Config, family: Family, frames: int, size: tuple[int, int]) -> Job:
    """The job with this machine's rates."""
    resident = peak_memory_mb()
    rates: Rates = calibrate(family, size)
    compared = len(pipeline.beside(config))
    phases = sum(config.phase in names for names in (pipeline.LATENT_PHASES, pipeline.GENERATOR_PHASES))
    variants = 1 + phases + compared + len(CONTROLS)
    return Job(config, frames, size, family.size, rates, resident, variants)


def table(rows: list[tuple[Step, Cost]], title: str) -> Table:
    """One row a stage, and their sum."""
    found = Table(title=f"forecast: {title}")
    found.add_column("stage")
    found.add_column("")
    for name in ("time", "peak memory", "disk"):
        found.add_column(name, justify="right")
    for step, own in rows:
        cells = (
            ("-",) * 3 if step.reused else (duration(own.seconds), amount(own.memory_mb), amount(own.disk_mb))
        )
        found.add_row(step.label, REUSED if step.reused else NEW, *cells)
    found.add_section()
    all_of = total(rows)
    found.add_row("all", "", duration(all_of.seconds), amount(all_of.memory_mb), amount(all_of.disk_mb))
    return found


def total(rows: list[tuple[Step, Cost]]) -> Cost:
    """Sum of seconds and disk, largest of memory."""
    costs = [own for _, own in rows]
    return Cost(
        sum(own.seconds for own in costs),
        max(own.memory_mb for own in costs),
        sum(own.disk_mb for own in costs),
    )


def summary(rows: list[tuple[Step, Cost]], family: Family, cache: Path) -> str:
    """What the figures rest on, and whether the disk suffices."""
    free = shutil.disk_usage(existing(cache)).free / 1e6
    needed = total(rows).disk_mb
    told = (
        f"from the family's networks, just timed on {family.device}; give it half or twice as long on a busy "
        "machine. One anchor is assumed."
    )
    short = "" if needed < free else f"\nnot enough disk: {amount(needed)} needed, {amount(free)} free"
    return f"{told}\nnothing was written; leave --dry-run out to start{short}"


def existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())


def duration(seconds: float) -> str:
    """In a unit that suits."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def amount(megabytes: float) -> str:
    """In a unit that suits."""
    return f"{megabytes / 1e3:.1f} GB" if megabytes >= 1e3 else f"{max(1.0, megabytes):.0f} MB"
