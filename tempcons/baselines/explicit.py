"""Explicit optimisation of the W+ codes as a baseline: phase 1 without its MLP (paper, Fig. 6)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tempcons.family import Family
from tempcons.training.context import PhaseContext, phase_callbacks
from tempcons.training.explicit_phase import ExplicitCodePhase
from tempcons.training.fit import discard_checkpoint, fit
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.settings import ExplicitConfig
from tempcons.types import Edited

CHECKPOINT = "checkpoint"


def optimise_codes(
    edited: Edited, family: Family, context: PhaseContext, config: ExplicitConfig, folder: Path
) -> Tensor:
    """(T, L, D) codes with the smallest L_I.

    Args:
        edited: the direct edit.
        family: flow and perceptual networks.
        context: recipe and trainer; its phase 1 gives weights and, unless set, epochs.
        config: settings.
        folder: existing folder for the checkpoint; a stopped run goes on from it.

    Raises:
        KeyboardInterrupt: stopped by the user; the checkpoint stays.
    """
    hyper = context.hyper
    torch.manual_seed(context.seed)
    in_domain = edited.domain == "in"
    frame_ids = edited.frame_ids.tolist()
    module = ExplicitCodePhase(edited.generator, frame_ids, family.perceptual, hyper, in_domain, config.lr)
    pairs = AnchorPairDataModule(
        edited, edited.codes, edited.frames, "anchor", context.trainer.pairs_per_step, context.seed
    )
    fit(
        module,
        pairs,
        folder / CHECKPOINT,
        context.trainer,
        "explicit W+ optimisation",
        epochs=hyper.phase1.epochs if config.epochs is None else config.epochs,
        callbacks=phase_callbacks(edited, edited.codes, family, context, folder),
    )
    discard_checkpoint(folder / CHECKPOINT)
    module.to("cpu")
    return module.refined_codes(edited.codes)
