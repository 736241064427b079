"""What both phases are told beside the edit itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from torch import Tensor

from tempcons.family import Family
from tempcons.training.anchors import window_pairs
from tempcons.training.epoch_metrics import EpochMetrics
from tempcons.training.fit import TrainerConfig
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.hyper import Hyper
from tempcons.training.mask_panels import FILE, MaskRecorder, spread
from tempcons.types import Edited


def no_loggers(phase: str) -> list[Logger]:
    """For runs that only compare."""
    return []


@dataclass(frozen=True)
class PhaseContext:
    """Recipe, trainer and logging of a run's phases.

    Attributes:
        recipe: name of the recipe, shown in progress bars.
        hyper: its hyperparameters for the edit's domain.
        trainer: how Lightning runs.
        seed: seeds weights, order of pairs and sampled codes.
        loggers: Lightning loggers for "phase1" or "phase2".
        metrics_every: epochs between two E_warp measurements; 0 for none.
    """

    recipe: str
    hyper: Hyper
    trainer: TrainerConfig
    seed: int
    loggers: Callable[[str], list[Logger]] = no_loggers
    metrics_every: int = 1

    def depends(self, phase: str) -> dict[str, Any]:
        """What a phase's result depends on, without what only the other phase reads."""
        hyper = asdict(self.hyper)
        own = {"phase1": PHASE1_READS, "phase2": PHASE2_READS}[phase]
        return {
            "hyper": {k: hyper[k] for k in own},
            "precision": self.trainer.numerics,
            "pairs_per_step": self.trainer.pairs_per_step,
            "devices": self.trainer.devices,
            "seed": self.seed,
        }


# What the target is made of is in its own key.
COMMON_READS = (
    "lambda_photo",
    "lambda_eps",
    "lambda_target",
    "lambda_sharp",
    "visibility",
    "difference_scale",
    "mask_detach",
)
PHASE1_READS = (*COMMON_READS, "alpha", "lambda_rf", "mapper_init", "phase1")
PHASE2_READS = (
    *COMMON_READS,
    "lambda_r",
    "lambda_l2",
    "lambda_r_perceptual",
    "lambda_m",
    "pairs",
    "outside_power",
    "frozen_share",
    "regularise_every",
    "phase2",
)


def phase_callbacks(
    edited: Edited, codes: Tensor, family: Family, context: PhaseContext, folder: Path
) -> list[pl.Callback]:
    """Flow and masks of pairs, some of them kept in ``folder``, and metrics after each epoch."""
    hyper = context.hyper
    ids = edited.frame_ids.tolist()
    watched = spread([(ids[anchor], ids[i]) for anchor, i in window_pairs(edited.anchor_windows)])
    callbacks: list[pl.Callback] = [
        FlowMaskCallback(
            family.flow,
            family.flow_size,
            edited.domain == "in",
            hyper.visibility,
            hyper.difference_scale,
            hyper.mask_detach,
        ),
        MaskRecorder(folder / FILE, watched, hyper.visibility),
    ]
    if context.metrics_every:
        every = context.metrics_every
        callbacks.append(EpochMetrics(codes, edited.frames, family.flow, family.perceptual, every))
    return callbacks
