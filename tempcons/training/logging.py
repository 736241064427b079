"""W&B and CSV, side by side: one W&B run for both phases, closed whatever happens."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from tempcons.check import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggerConfig:
    """Where numbers go.

    Attributes:
        wandb: "offline" (default: no account, no network), "online" or "disabled".
        project: W&B project.
        group: W&B group; null: the sweep's or none.
        tags: W&B tags.
    """

    wandb: str = "offline"
    project: str = "tempcons"
    group: str | None = None
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.wandb not in ("offline", "online", "disabled"):
            raise ConfigError("config", f"logger.wandb = {self.wandb!r}", "known: offline, online, disabled")


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

    def log_results(self, summary: dict[str, Any], videos: dict[str, Path]) -> None:
        """Final figures and videos (by path, which needs no further package)."""
        if self.wandb is None:
            return
        import wandb

        self.wandb.summary.update(summary)
        self.wandb.log({f"video/{k}": wandb.Video(str(p), format="mp4") for k, p in videos.items()})

    def close(self) -> None:
        """Finish the W&B run."""
        if self.wandb is not None:
            self.wandb.finish()


def _start_wandb(config: LoggerConfig, folder: Path, run_id: str, settings: dict[str, Any]) -> Any:
    if config.wandb == "offline":
        # Offline runs reach out for nothing at all; error reporting alone would look a host up.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        run = wandb.init(
            project=config.project,
            group=config.group,
            tags=config.tags,
            name=run_id,
            dir=str(folder),
            mode=config.wandb,  # type: ignore[arg-type]
            config=settings,
            settings=wandb.Settings(console="off"),
        )
    except wandb.errors.UsageError as error:
        raise ConfigError(
            "logger", f"W&B online needs an account ({error})", "log in, or set logger.wandb=offline"
        ) from error
    for phase in ("phase1", "phase2"):
        run.define_metric(f"{phase}-epoch")
        run.define_metric(f"{phase}-*", step_metric=f"{phase}-epoch")
    return run


@contextmanager
def run_log(config: LoggerConfig, folder: Path, run_id: str, settings: dict[str, Any]) -> Iterator[RunLog]:
    """A :class:`RunLog` that is closed even when the run fails or is stopped."""
    opened = RunLog(config, folder, run_id, settings)
    try:
        yield opened
    finally:
        opened.close()
