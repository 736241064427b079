"""How the training scripts run: in pieces of minutes, each going on where the last one was stopped.

The learning rate follows the share of the whole training time that is spent, so that a training of a given
length ends well on any machine, however many pieces it is cut into.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from tempcons.training.computing import tf32
from tempcons.training.logging import LoggerConfig, run_log

CHECKPOINT = "last.ckpt"
REPORTS = "reports.jsonl"
WARM_UP = 0.03
# A step that took longer than so many seconds was suspended meanwhile (SIGSTOP, a laptop's lid).
SUSPENDED = 30.0
LAST_RATE = 0.02


@dataclass(frozen=True)
class Piece:
    """One run of a training script.

    Attributes:
        out: folder of the training; a checkpoint in it is gone on from.
        minutes: of this piece, training alone (reading pictures and reports come on top).
        total_minutes: of the whole training, over all pieces.
        steps: stop after so many steps of this piece, for tests; None: never.
        save_minutes: between checkpoints.
        report_minutes: between reports on held-out data.
    """

    out: Path
    minutes: float
    total_minutes: float
    steps: int | None
    save_minutes: float
    report_minutes: float
    accelerator: str
    devices: int
    precision: str
    wandb: str
    threads: int | None


def add_arguments(parser: argparse.ArgumentParser, total_minutes: float) -> None:
    """The options of a :class:`Piece`."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop this piece after so long")
    parser.add_argument("--total-minutes", type=float, default=total_minutes, help="of all pieces")
    parser.add_argument("--steps", type=int, help="stop this piece after so many steps")
    parser.add_argument("--save-minutes", type=float, default=3.0)
    parser.add_argument("--report-minutes", type=float, default=2.0)
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="32-true", help="32-true, or bf16-mixed")
    parser.add_argument("--wandb", default="offline", choices=("offline", "online", "disabled"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)


def piece_of(args: argparse.Namespace) -> Piece:
    """What :func:`add_arguments` asked for."""
    return Piece(**{name: getattr(args, name) for name in Piece.__dataclass_fields__})


def rate_at(share: float) -> float:
    """Learning rate as a share of the highest, for a share of the training: short rise, then a cosine."""
    rise = min(1.0, share / WARM_UP + 0.05)
    return rise * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


class ZooModule(pl.LightningModule):
    """Base of what the scripts train.

    Attributes:
        share: of the whole training time that is spent, set before each step.
        taken: steps taken, over all pieces.
    """

    taken: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def random(self, purpose: int = 0) -> torch.Generator:
        """The source of chance of this step and process: the same after a kill as without it."""
        seed = hash((int(self.taken), self.global_rank, purpose)) & 0x7FFFFFFF
        return torch.Generator(self.device).manual_seed(seed)

    def report(self) -> dict[str, float]:
        """Figures on held-out data."""
        raise NotImplementedError

    def keep(self, folder: Path) -> None:
        """Write what others read (pictures, exported weights) at every checkpoint."""


class Endless(IterableDataset):
    """Counts steps: the modules draw their own batches, on the device where they train."""

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


class Clock(pl.Callback):
    """Times the training, saves, reports, and ends a piece."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.spent = 0.0
        self.spent_here = 0.0
        self.steps_here = 0
        self.saved = self.reported = 0.0
        self.began = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["spent"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        pl_module.share = min(1.0, self.spent / (60 * self.piece.total_minutes))
        self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        passed = min(time.monotonic() - self.began, SUSPENDED)
        self.spent += passed
        self.spent_here += passed
        self.steps_here += 1
        pl_module.taken += 1
        ends = self._agreed(trainer, self._over())
        if ends or self._agreed(trainer, self.spent_here - self.reported > 60 * self.piece.report_minutes):
            self.reported = self.spent_here
            self._report(trainer, pl_module)
        if ends or self._agreed(trainer, self.spent_here - self.saved > 60 * self.piece.save_minutes):
            self.saved = self.spent_here
            self._save(trainer, pl_module)
        trainer.should_stop = trainer.should_stop or ends

    def _over(self) -> bool:
        piece = self.piece
        return (
            self.spent_here >= 60 * piece.minutes
            or self.spent >= 60 * piece.total_minutes
            or (piece.steps is not None and self.steps_here >= piece.steps)
        )

    @staticmethod
    def _agreed(trainer: pl.Trainer, wanted: bool) -> bool:
        """Processes' clocks differ: what one wants, all do."""
        if trainer.world_size == 1:
            return wanted
        return trainer.strategy.reduce_boolean_decision(wanted, all=False)

    def _report(self, trainer: pl.Trainer, module: ZooModule) -> None:
        if trainer.is_global_zero:
            found = {"step": int(module.taken), "minutes": round(self.spent / 60, 2), **module.report()}
            print(json.dumps(found), flush=True)
            with (self.piece.out / REPORTS).open("a") as file:
                file.write(json.dumps(found) + "\n")
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in found.items() if k != "step"}, int(module.taken))
        trainer.strategy.barrier()

    def _save(self, trainer: pl.Trainer, module: ZooModule) -> None:
        temporary = self.piece.out / "last.tmp"
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            temporary.replace(self.piece.out / CHECKPOINT)
            module.keep(self.piece.out)
        trainer.strategy.barrier()


def run(module: ZooModule, piece: Piece, settings: dict[str, Any], seed: int = 0) -> None:
    """Train ``module`` for one piece, from the checkpoint in ``piece.out`` if there is one."""
    if piece.threads is not None:
        torch.set_num_threads(piece.threads)
    piece.out.mkdir(parents=True, exist_ok=True)
    last = piece.out / CHECKPOINT
    pl.seed_everything(seed, verbose=False)
    number = len(list((piece.out / "csv").glob("piece*"))) if (piece.out / "csv").exists() else 0
    told = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    # Matrix products in TF32, as convolutions are.
    with (
        tf32(True),
        warnings.catch_warnings(),
        run_log(LoggerConfig(piece.wandb), piece.out, piece.out.name, told) as log,
    ):
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        warnings.filterwarnings("ignore", message=".*(LeafSpec|treespec).*")
        trainer = pl.Trainer(
            accelerator=piece.accelerator,
            devices=piece.devices,
            strategy="auto" if piece.devices == 1 else _ddp(),
            precision=piece.precision,  # type: ignore[arg-type]
            use_distributed_sampler=False,
            max_epochs=1,
            callbacks=[Clock(piece)],
            logger=log.loggers(f"piece{number}"),
            log_every_n_steps=20,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=piece.out,
        )
        resumed = str(last) if last.exists() else None
        trainer.fit(module, DataLoader(Endless(), batch_size=None), ckpt_path=resumed, weights_only=True)


def _ddp() -> DDPStrategy:
    """Several processes; buffers hold all pictures, which are everywhere already."""
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, now in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(now)


def average_decay(step: int, half_life: float) -> float:
    """Decay of the averaged weights in one step: a half-life in steps, shorter at the start."""
    return 0.5 ** (1 / max(1.0, min(half_life, 0.1 * step)))
