"""One job, alone or as a part of a sweep."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tempcons import resolvers  # noqa: F401  conf/ needs them, before the settings are checked
from tempcons.check import ConfigError, TempconsError, near_names
from tempcons.cli import report_errors
from tempcons.sweep import naming  # noqa: F401  a job's process needs the resolvers
from tempcons.sweep.devices import take_gpu
from tempcons.sweep.marks import FAILED, LOCK, finished, mark_done

log = logging.getLogger(__name__)

Objectives = float | tuple[float, ...]


class JobFailed(CompactHydraException):
    """A job of a sweep failed by something the user can mend: Hydra shows the message alone."""


def run_job(config: DictConfig) -> Objectives | None:
    """The whole pipeline for one composed configuration.

    In a sweep a finished job is not run again, a failing one leaves the others alone.

    Returns:
        In a sweep the figures that ``sweep.objectives`` names, for sweepers that search; else None.

    Raises:
        JobFailed: in a sweep, instead of the end of the process.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        with report_errors():
            (forecast if config.dry_run else run)(config, folder)
        return None
    try:
        return objectives(run_once(config, folder), list(config.sweep.objectives))
    except TempconsError as error:
        raise JobFailed(f"error: {error}") from error


def run(config: DictConfig, folder: Path) -> dict[str, float]:
    """Check the configuration, run the pipeline."""
    from tempcons.opening import open_run
    from tempcons.runtime import memory_explained
    from tempcons.schema import parse

    checked = parse(config)
    opening = open_run(checked, folder)
    # It takes seconds to load: wrong settings and a wrong clip are told of before.
    from tempcons import pipeline

    with memory_explained(config.hardware.name):
        return pipeline.run(checked, folder, opening)


def forecast(config: DictConfig, folder: Path) -> None:
    """Tell what the run would do, take and need; nothing is written."""
    from tempcons.forecast.table import tell
    from tempcons.schema import parse

    tell(parse(config))


def run_once(config: DictConfig, folder: Path) -> dict[str, float]:
    """Figures of the job in ``folder``, which is run unless it's finished.

    Jobs of an earlier start can outlive it (a cluster's, or those of a killed launcher): the lock makes
    sure that none is run twice at a time.

    Raises:
        ConfigError: a job that wants several devices: in a sweep each device has a job of its own.
    """
    if config.trainer.devices != 1:
        what = f"trainer.devices = {config.trainer.devices} in a sweep"
        raise ConfigError("config", what, "leave it at 1: every device gets a job of its own")
    with locked(folder):
        figures = finished(folder)
        if figures is not None:
            log.info("%s: finished before, not run again", folder.name)
            return figures
        (folder / FAILED).unlink(missing_ok=True)
        if config.trainer.accelerator != "cpu":
            take_gpu()
        figures = run(grouped(config, folder.parent.name), folder)
        mark_done(folder, HydraConfig.get().overrides.task, figures)
        return figures


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the job's lock; wait for it if need be."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: runs in another process, waiting for it", folder.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def grouped(config: DictConfig, sweep: str) -> DictConfig:
    """The configuration with the sweep as W&B group, unless another is set."""
    if config.logger.group is None:
        OmegaConf.update(config, "logger.group", sweep)
    return config


def objectives(figures: dict[str, float], names: list[str]) -> Objectives:
    """The figures that a sweeper searches by, one or several.

    Raises:
        ConfigError: no such figure.
    """
    for name in names:
        if name not in figures:
            raise ConfigError("config", f"sweep.objectives: no figure {name!r}", near_names(name, figures))
    if not names:
        raise ConfigError("config", "sweep.objectives is empty", f"known: {', '.join(sorted(figures))}")
    found = tuple(figures[name] for name in names)
    return found[0] if len(found) == 1 else found
