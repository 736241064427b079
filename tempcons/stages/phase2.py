"""Refined codes -> tuned generator: fits :class:`GeneratorTunePhase` (Eq. 5-8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import load_generator
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext, phase_callbacks
from tempcons.training.fit import discard_checkpoint, fit
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.types import Edited, Refined, Target, Tuned
from tempcons.weights.assets import save_state

VERSION = 2


def run(
    edited: Edited,
    refined: Refined | None,
    target: Target,
    family: Family,
    context: PhaseContext,
    store: Store,
) -> Tuned:
    """Tune the generator on the codes of phase 1, or of the direct edit without it.

    Raises:
        KeyboardInterrupt: stopped by the user; the next run goes on from the last epoch.
    """
    codes = edited.codes if refined is None else refined.codes
    depends = {
        "version": VERSION,
        "edited": edited.key,
        "refined": refined and refined.key,
        "target": target.key,
        **context.depends("phase2"),
        **family.reads("perceptual", "flow", "sampling"),
    }

    def make(folder: Path) -> dict[str, Any]:
        generator = tune(edited, codes, target.frames, family, context, folder)
        save_state(folder / "generator.safetensors", generator.state_dict(), {})
        render_frames(generator, codes, folder / "frames.npy", family.device)
        return {}

    folder = store.produce("phase2", depends, make, resumable=True)
    return Tuned(
        generator=load_generator(folder / "generator.safetensors", edited.generator),
        frame_ids=edited.frame_ids,
        frames=FrameStore.open(folder / "frames.npy"),
        key=folder.name,
    )


def tune(
    edited: Edited,
    codes: torch.Tensor,
    target: FrameStore,
    family: Family,
    context: PhaseContext,
    folder: Path,
) -> Generator:
    """The generator after phase 2."""
    hyper = context.hyper
    torch.manual_seed(context.seed)
    module = GeneratorTunePhase(
        edited.generator,
        family.sample_codes,
        family.perceptual,
        hyper,
        edited.domain == "in",
        family.alpha_interp,
        context.seed,
    )
    data = AnchorPairDataModule(
        edited, codes, target, hyper.pairs, context.trainer.pairs_per_step, context.seed
    )
    fit(
        module,
        data,
        folder / "checkpoint",
        context.trainer,
        f"phase 2 ({context.recipe})",
        epochs=hyper.phase2.epochs,
        callbacks=phase_callbacks(edited, codes, family, context, folder),
        logger=context.loggers("phase2"),
    )
    discard_checkpoint(folder / "checkpoint")
    return module.generator.to("cpu").requires_grad_(False).eval()
