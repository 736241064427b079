"""One ``Trainer.fit`` with checkpoints that a killed run goes on from."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from tempcons.training.progress_bar import FitProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerConfig:
    """How Lightning runs a phase.

    Attributes:
        accelerator: "auto", "cpu" or "gpu".
        devices: number of devices for one clip.
        strategy: "auto" or "ddp".
        precision: Lightning's precision, such as "32-true" or "bf16-mixed".
        pairs_per_step: frame pairs in one optimiser step.
        num_threads: CPU threads; null leaves PyTorch's choice.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    pairs_per_step: int = 1
    num_threads: int | None = None


class StopAfter(pl.Callback):
    """Ends a fit after so many steps.

    Not ``max_steps``: with it Lightning takes a checkpoint of a whole epoch for one within the epoch, and a
    fit that goes on from there sees one batch of the finished epoch again.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


def fit(
    module: pl.LightningModule,
    data: object,
    folder: Path,
    config: TrainerConfig,
    name: str,
    quantity: str = "loss",
    epochs: int = -1,
    steps: int = -1,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | Sequence[Logger] | bool = False,
) -> pl.Trainer:
    """Fit ``module``; goes on from ``folder/last.ckpt`` if a killed run left one.

    Args:
        module: the phase.
        data: data module or loader.
        folder: where the checkpoint is kept (removed by the caller with the partial artefact).
        config: trainer settings.
        name: shown in the progress bar, with
        quantity: the metric beside it.
        epochs: stop after this many epochs, or never for -1.
        steps: stop after this many steps, or never for -1.
        callbacks: further callbacks.
        logger: Lightning loggers.

    Raises:
        KeyboardInterrupt: the user stopped the run; the checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = [StopAfter(steps)] if steps >= 0 else []
    # Not save_last with save_top_k=0: Lightning then saves nothing at all.
    keep = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        trainer = pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            strategy=config.strategy,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            callbacks=[*callbacks, *limit, FitProgress(name, quantity), keep],
            logger=logger,
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        last = folder / "last.ckpt"
        resume = str(last) if last.exists() else None
        if resume:
            log.info("%s: goes on from %s", name, last)
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise
    return trainer


def discard_checkpoint(folder: Path) -> None:
    """Remove a finished fit's checkpoint: what it held is in the artefact."""
    shutil.rmtree(folder, ignore_errors=True)
