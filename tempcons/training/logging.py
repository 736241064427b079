"""W&B and CSV, side by side: one W&B run for both phases, closed whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from tempcons.check import ConfigError
from tempcons.cli import STOPPED
from tempcons.store.artefact import make_key
from tempcons.training.settings import LoggerConfig

PHASES = ("phase1", "phase2", "phase3")
# Measured after each epoch; the distance is called LPIPS where it is.
EPOCH_METRICS = ("e_warp", "distance", "lpips", "sharpness")
# Names of media: videos by variant, x-t slices, masks by phase and of the target.
VIDEO, SLICES, MASKS, TARGET = "video", "slices", "masks", "target"
FAILED = 1


class RunLog:
    """Loggers of one run: CSV files always, W&B unless disabled."""

    def __init__(self, config: LoggerConfig, folder: Path, run_id: str, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.wandb = None if config.wandb == "disabled" else _start_wandb(config, folder, run_id, settings)

    def loggers(self, phase: str) -> list[Logger]:
        """Lightning loggers whose metric names start with the phase."""
        found: list[Logger] = [CSVLogger(self.folder, name="csv", version=phase)]
        if self.wandb is not None:
            found.append(WandbLogger(experiment=self.wandb, prefix=phase))
        return found

    def log_results(
        self, summary: dict[str, Any], videos: dict[str, Path], pictures: dict[str, Path] | None = None
    ) -> None:
        """Final figures, videos and pictures (by path, which needs no further package)."""
        if self.wandb is None:
            return
        import wandb

        media: dict[str, Any] = {f"{VIDEO}/{k}": wandb.Video(str(p), format="mp4") for k, p in videos.items()}
        media |= {name: wandb.Image(str(path)) for name, path in (pictures or {}).items()}
        self.wandb.summary.update(summary)
        self.wandb.log(media)

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run; other codes than 0 mark it as failed."""
        if self.wandb is not None:
            self.wandb.finish(exit_code=exit_code)


def metric_name(phase: str, name: str) -> str:
    """A phase's metric as W&B has it."""
    return f"{phase}{WandbLogger.LOGGER_JOIN_CHAR}{name}"


def _start_wandb(config: LoggerConfig, folder: Path, name: str, settings: dict[str, Any]) -> Any:
    """A W&B run.

    A job of a sweep has an id that follows from sweep and job: started again, it goes on with its run.

    Raises:
        ConfigError: online without an account, or W&B can't be reached.
    """
    if config.wandb == "offline":
        # Offline runs reach out for nothing at all; error reporting alone would look a host up.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    of_sweep = config.group is not None
    try:
        run = wandb.init(
            project=config.project,
            group=config.group,
            tags=config.tags,
            name=name,
            id=make_key("wandb", {"group": config.group, "name": name}) if of_sweep else None,
            resume="allow" if of_sweep and config.wandb == "online" else None,
            dir=str(folder),
            mode=config.wandb,  # type: ignore[arg-type]
            config=settings,
            settings=wandb.Settings(console="off"),
        )
    except wandb.errors.UsageError as error:
        raise ConfigError(
            "logger", f"W&B online needs an account ({error})", "log in, or set logger.wandb=offline"
        ) from error
    except wandb.errors.CommError as error:
        raise ConfigError(
            "logger", f"W&B can't be reached ({error})", "set logger.wandb=offline, and run wandb sync later"
        ) from error
    return run


def define_metrics(run: Any) -> None:
    """Metrics of a phase are drawn over its epochs."""
    for phase in PHASES:
        epoch = metric_name(phase, "epoch")
        run.define_metric(epoch, hidden=True)
        run.define_metric(metric_name(phase, "*"), step_metric=epoch)
        for name in EPOCH_METRICS:
            run.define_metric(metric_name(phase, name), step_metric=epoch, summary="last")


@contextmanager
def run_log(config: LoggerConfig, folder: Path, run_id: str, settings: dict[str, Any]) -> Iterator[RunLog]:
    """A :class:`RunLog` that is closed even when the run fails or is stopped, and then marked as failed."""
    opened = RunLog(config, folder, run_id, settings)
    exit_code = FAILED
    try:
        if opened.wandb is not None:
            define_metrics(opened.wandb)
        yield opened
        exit_code = 0
    except KeyboardInterrupt:
        exit_code = STOPPED
        raise
    finally:
        opened.close(exit_code)
