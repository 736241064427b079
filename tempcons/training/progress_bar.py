"""Progress of a fit: a bar with time left in a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


def batches_done(trainer: pl.Trainer, of_this_epoch: int) -> int:
    """Batches of the whole fit so far: the trainer's own count is of optimiser steps, of which a batch may
    take many."""
    return trainer.current_epoch * int(trainer.num_training_batches) + of_this_epoch


class FitProgress(pl.Callback):
    """Shows batches done, loss and time left of one ``Trainer.fit``.

    Args:
        name: what is being fitted.
        quantity: logged metric shown beside the bar.
    """

    def __init__(self, name: str, quantity: str = "loss") -> None:
        self.name, self.quantity = name, quantity
        self.bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: a console can't be sent to the processes of a fit on several devices.
        console = Console(stderr=True)
        if not console.is_terminal or not trainer.is_global_zero:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console)
        total = trainer.estimated_stepping_batches
        self.task = self.bar.add_task(
            self.name,
            total=None if math.isinf(total) else int(total),
            completed=batches_done(trainer, 0),
            shown="",
        )
        self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None:
            self.bar.update(
                self.task, completed=batches_done(trainer, batch_idx + 1), shown=self._shown(trainer)
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is None and trainer.is_global_zero:
            log.info("%s: epoch %d, %s", self.name, trainer.current_epoch + 1, self._shown(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _shown(self, trainer: pl.Trainer) -> str:
        value = trainer.callback_metrics.get(self.quantity)
        return "" if value is None else f"{self.quantity} {value.item():.4g}"

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
