"""Edited faces -> faces whose border meets the source: fits :class:`StitchTunePhase` (paper, Section 3.4)."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tempcons.geometry.region import StitchMasks, stitch_masks
from tempcons.media.frames import FrameStore, write_frames
from tempcons.stages.stitch import StitchConfig, positions_of, region_label, region_of, region_reads
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext
from tempcons.training.fit import discard_checkpoint, fit
from tempcons.training.stitch_phase import (
    StitchFrames,
    StitchTunePhase,
    TuningConfig,
    group_loader,
    groups_of,
)
from tempcons.types import Aligned, Clip, Edited, StitchTuned

log = logging.getLogger(__name__)

STAGE = "phase3"
VERSION = 1


def run(
    clip: Clip,
    aligned: Aligned,
    edited: Edited,
    config: StitchConfig,
    context: PhaseContext,
    store: Store,
) -> StitchTuned:
    """Tune the generator frame by frame on the border of the face.

    Args:
        clip: the source, for its size.
        aligned: the source's crops, landmarks and scenes.
        edited: what the phases before made: codes, generator, frames.
        config: how the face is put back; with ``tuning``.
        context: trainer and loggers.
        store: cache.

    Raises:
        ConfigError: an out-of-domain edit.
        KeyboardInterrupt: stopped by the user; the next run goes on from the last finished frames.
    """
    config.check_domain(edited.domain, edited.key)
    assert config.tuning is not None
    tuning = config.tuning
    # Neither seed nor devices: nothing in it is random, and it always runs on one.
    depends = {
        "version": VERSION,
        "aligned": aligned.key,
        "edited": edited.key,
        "region": config.region,
        "tuning": asdict(tuning),
        **region_reads(aligned, config),
        "precision": context.trainer.numerics,
    }

    def make(folder: Path) -> dict[str, Any]:
        region = region_label(aligned, config)
        log.info("stitch: face region is the %s", region)
        module = tune(clip, aligned, edited, config, tuning, context, folder)
        parts = (np.load(module.part_path(group)) for group in module.groups)
        write_frames(folder / "frames.npy", (len(edited.frame_ids), *edited.frames.size), parts)
        shutil.rmtree(module.folder)
        return {"face_region": region, "groups": len(module.groups)}

    folder = store.produce(STAGE, depends, make, resumable=True)
    return StitchTuned(FrameStore.open(folder / "frames.npy"), edited.frame_ids, folder.name)


def tune(
    clip: Clip,
    aligned: Aligned,
    edited: Edited,
    config: StitchConfig,
    tuning: TuningConfig,
    context: PhaseContext,
    folder: Path,
) -> StitchTunePhase:
    """Fit all groups; their pictures are in the module's folder."""
    groups = groups_of(aligned.scenes, tuning.batch)
    module = StitchTunePhase(edited.generator, groups, tuning, folder / "parts")
    place = positions_of(aligned.frame_ids)
    quads = [place[int(frame_id)] for frame_id in edited.frame_ids]

    def load(positions: range) -> StitchFrames:
        size = edited.frames.size[0]
        masks = [masks_at(clip, aligned, quads[at], size, config.region, tuning) for at in positions]
        return StitchFrames(
            codes=edited.codes[positions.start : positions.stop],
            source=edited.aligned.pictures(list(positions)),
            edited=edited.frames.pictures(list(positions)),
            border=as_batch([m.border for m in masks]),
            content=as_batch([m.content for m in masks]),
        )

    fit(
        module,
        group_loader(groups, load),
        folder / "checkpoint",
        # A group starts where the one before ended: there is nothing that several devices could share.
        replace(context.trainer, devices=1, strategy="auto"),
        "phase 3, stitch tuning",
        quantity="border_levels",
        epochs=len(groups),
        logger=context.loggers(STAGE),
    )
    discard_checkpoint(folder / "checkpoint")
    return module


def masks_at(
    clip: Clip, aligned: Aligned, at: int, size: int, region: str, tuning: TuningConfig
) -> StitchMasks:
    """Masks of one aligned frame."""
    face = region_of(aligned, at, size, region)
    return stitch_masks(face, aligned.quads[at], clip.frames.size, tuning.reach, tuning.edge)


def as_batch(masks: list[np.ndarray]) -> Tensor:
    """(B, 1, S, S) of 0 and 1."""
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))
