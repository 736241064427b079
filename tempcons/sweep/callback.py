"""What happens around a sweep: checks before it, one lock, marks of failed jobs, a word at the end."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempcons.check import ConfigError, InputError
from tempcons.cli import report_errors
from tempcons.sweep import naming
from tempcons.sweep.folder import count, read_sweep, swept, write_plan
from tempcons.sweep.job import JobFailed
from tempcons.sweep.marks import LOCK, mark_failed

log = logging.getLogger(__name__)

BASIC = ("hydra._internal.core_plugins.basic_sweeper", "hydra._internal.core_plugins.basic_launcher")
EXTRAS = {
    "hydra_plugins.hydra_joblib_launcher": "cluster",
    "hydra_plugins.hydra_ray_launcher": "cluster",
    "hydra_plugins.hydra_submitit_launcher": "cluster",
    "hydra_plugins.hydra_optuna_sweeper": "sweeps",
    "hydra_plugins.hydra_list_sweeper": "sweeps",
}


class SweepCallback(Callback):
    """Hydra calls it; it keeps no state, since launchers send it to other processes.

    Hydra turns errors of callbacks into warnings, so those that must stop a sweep leave as exit codes.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what can't work; take the folder's lock; note the plan."""
        with report_errors():
            check_plugins(config)
            folder = Path(config.hydra.sweep.dir)
            jobs = plan(config)
            lock = take(folder)
            write_plan(folder, jobs)
        print(f"sweep: {folder}", flush=True)
        # At exit it is too late for a first import of torch, which the page needs.
        importlib.import_module("tempcons.sweep.page")
        # Hydra has no hook for a sweep with failed jobs; this also keeps the lock until the end.
        atexit.register(conclude, folder, lock)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit code 1 where a searching sweeper went on without failed jobs; Hydra's own tells of its own."""
        if config.hydra.sweeper._target_.startswith(BASIC):
            return
        if any(job.state != "done" for job in read_sweep(Path(config.hydra.sweep.dir))):
            sys.exit(1)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note why a job of a sweep failed."""
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value
        trace = None if isinstance(error, JobFailed) else "".join(traceback.format_exception(error))
        text = str(error).removeprefix("error: ") if trace is None else f"{type(error).__name__}: {error}"
        mark_failed(Path(config.hydra.runtime.output_dir), config.hydra.overrides.task, text, trace)


def check_plugins(config: DictConfig) -> None:
    """Raise ConfigError where the launcher or the sweeper isn't installed."""
    for kind in ("launcher", "sweeper"):
        module = str(OmegaConf.select(config, f"hydra.{kind}._target_")).rpartition(".")[0]
        package = ".".join(module.split(".")[:2])
        if package in EXTRAS and not installed(package):
            raise ConfigError(
                kind,
                f"{package.partition('.')[2]} isn't installed",
                f'pip install "tempcons[{EXTRAS[package]}]"',
            )


def installed(package: str) -> bool:
    """Whether ``parent.child`` can be imported."""
    parent = package.partition(".")[0]
    return importlib.util.find_spec(parent) is not None and importlib.util.find_spec(package) is not None


def plan(config: DictConfig) -> dict[str, list[str]]:
    """Jobs by key, where the sweeper takes plain products; {} where it decides as it goes.

    Raises:
        ConfigError: no jobs, nothing swept, or settings that can't be composed.
    """
    target, launcher = config.hydra.sweeper._target_, config.hydra.launcher._target_
    if not target.startswith(BASIC):
        return {}
    try:
        jobs = naming.product(naming.arguments_of(config))
        keys = {naming.job_key(composed(config, job)): job for job in jobs}
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigError("config", " ".join(str(error).split("\n")[:2])) from error
    if not jobs or (len(jobs) == 1 and launcher.startswith(BASIC)):
        what = "empty sweep: no setting has several values"
        raise ConfigError("sweep", what, "give some, as lambda_r=0.3,3, or leave out -m")
    return keys


def composed(config: DictConfig, job: list[str]) -> DictConfig:
    """The settings of one job, whose names and domain are known: references to the recipe go by them.

    Raises:
        ConfigError: they aren't.
    """
    # Not at the top: it brings torch, which the help does without.
    from tempcons.schema import check_names

    settings = GlobalHydra.instance().config_loader().load_sweep_config(config, job)
    check_names(OmegaConf.masked_copy(settings, [str(key) for key in settings if key != "hydra"]))
    return settings


def take(folder: Path) -> FileLock:
    """The lock of a sweep's folder, which is made if need be.

    Raises:
        ConfigError: another sweep has it, or nothing can be written there.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            "sweep", f"another sweep runs in {folder}", "wait for it, or name this one: sweep.name=..."
        ) from None
    except OSError as error:
        what = f"can't write to {folder} ({error.strerror})"
        raise ConfigError("sweep", what, "set output.root") from error
    return lock


def conclude(folder: Path, lock: FileLock) -> None:
    """Say how the sweep ended."""
    try:
        jobs = read_sweep(folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return
    finally:
        lock.release()
    for job in jobs:
        if job.error:
            print(f"{job.state}: {job.key} ({job.label(swept(jobs))}): {job.error}", file=sys.stderr)
    print(f"sweep {folder}: {count(jobs)}", file=sys.stderr)
    if any(job.state in ("failed", "missing") for job in jobs):
        print("the same command goes on with what is missing", file=sys.stderr)
    if any(job.state == "done" for job in jobs):
        write_report(folder)


def write_report(folder: Path) -> None:
    """The sweep's page; a sweep whose page can't be made is still a sweep."""
    from tempcons.sweep.page import write_sweep_page

    try:
        print(f"report: {write_sweep_page(folder)}")
    except InputError as error:
        print(f"no report: {error}", file=sys.stderr)
