"""One ``Trainer.fit`` with checkpoints that a killed run goes on from."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from tempcons.check import ConfigError
from tempcons.training.computing import HowToCompute, tf32
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.progress_bar import FitProgress
from tempcons.training.settings import TrainerConfig

log = logging.getLogger(__name__)


def lightning_strategy(config: TrainerConfig) -> Strategy | str:
    """How Lightning runs it on several devices.

    Processes are started for the fit alone, from this one: those of Lightning's own choice would run the
    whole program again, and meet the locks of the stage that waits for them.

    Raises:
        ConfigError: more devices than there are.
    """
    if config.devices == 1:
        return "auto"
    gpus = 0 if config.accelerator == "cpu" else torch.cuda.device_count()
    if gpus and config.devices > gpus:
        raise ConfigError("config", f"trainer.devices = {config.devices}, but {gpus} GPUs", "set it lower")
    return DDPStrategy(start_method="spawn")


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
    if not isinstance(data, AnchorPairDataModule):
        # Only pairs are split; the rest is short.
        config = replace(config, devices=1)
    else:
        data.workers, data.pin_memory = config.workers, config.pin_memory and torch.cuda.is_available()
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
            strategy=lightning_strategy(config),
            # The data module splits the pairs itself.
            use_distributed_sampler=False,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            callbacks=[HowToCompute(config), *callbacks, *limit, FitProgress(name, quantity), keep],
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
        with stoppable(trainer), tf32(config.tf32):
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return trainer


@contextmanager
def stoppable(trainer: pl.Trainer) -> Iterator[None]:
    """Ctrl-C in a fit leaves as KeyboardInterrupt, and the next one is heard too.

    Lightning's answer to the first is SystemExit, and it ignores the signal from then on.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    finally:
        # None: a handler that Python doesn't know; other threads may set none.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def discard_checkpoint(folder: Path) -> None:
    """Remove a finished fit's checkpoint: what it held is in the artefact."""
    shutil.rmtree(folder, ignore_errors=True)
