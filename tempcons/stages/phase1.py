"""Direct edit -> refined codes: fits :class:`LatentMLPPhase` (Eq. 2-4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.models.mapper import LevelsMapper
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext, phase_callbacks
from tempcons.training.fit import discard_checkpoint, fit
from tempcons.training.latent_phase import LatentMLPPhase
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.types import Edited, Refined, Target
from tempcons.weights.assets import load_state, save_state

VERSION = 2


def run(edited: Edited, target: Target, family: Family, context: PhaseContext, store: Store) -> Refined:
    """Refine the codes of the direct edit.

    Raises:
        KeyboardInterrupt: stopped by the user; the next run goes on from the last epoch.
    """
    depends = {
        "version": VERSION,
        "edited": edited.key,
        "target": target.key,
        **context.depends("phase1"),
        **family.reads("perceptual", "flow"),
    }

    def make(folder: Path) -> dict[str, Any]:
        codes = refine(edited, target.frames, family, context, folder)
        save_state(folder / "codes.safetensors", {"codes": codes}, {})
        render_frames(edited.generator, codes, folder / "frames.npy", family.device)
        return {"moved_rms": (codes - edited.codes).square().mean().sqrt().item()}

    folder = store.produce("phase1", depends, make, resumable=True)
    return Refined(
        codes=load_state(folder / "codes.safetensors")[0]["codes"],
        frame_ids=edited.frame_ids,
        frames=FrameStore.open(folder / "frames.npy"),
        key=folder.name,
    )


def refine(
    edited: Edited, target: FrameStore, family: Family, context: PhaseContext, folder: Path
) -> torch.Tensor:
    """(T, L, D) refined codes."""
    hyper = context.hyper
    torch.manual_seed(context.seed)
    generator = edited.generator
    mapper = LevelsMapper(generator.style_dim, generator.n_latent, init=hyper.mapper_init)
    module = LatentMLPPhase(generator, mapper, family.perceptual, hyper, edited.domain == "in")
    data = AnchorPairDataModule(
        edited, edited.codes, target, "anchor", context.trainer.pairs_per_step, context.seed
    )
    callbacks = phase_callbacks(edited, edited.codes, family, context, folder)
    fit(
        module,
        data,
        folder / "checkpoint",
        context.trainer,
        f"phase 1 ({context.recipe})",
        epochs=hyper.phase1.epochs,
        callbacks=callbacks,
        logger=context.loggers("phase1"),
    )
    discard_checkpoint(folder / "checkpoint")
    module.to("cpu")
    return module.refined_codes(edited.codes)
