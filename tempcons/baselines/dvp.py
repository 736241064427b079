"""Deep Video Prior as a baseline: trained per clip from scratch, nothing pretrained but the loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tempcons.baselines import FRAMES
from tempcons.check import InputError
from tempcons.media.frames import FrameStore, write_frames
from tempcons.training.dvp_module import DeepVideoPrior, Distance, DvpConfig, FrameByFrame
from tempcons.training.fit import TrainerConfig, discard_checkpoint, fit

CHECKPOINT = "fit"
BATCH = 4


def deep_video_prior(
    original: FrameStore,
    edited: FrameStore,
    distance: Distance,
    config: DvpConfig,
    trainer: TrainerConfig,
    folder: Path,
    seed: int = 0,
) -> FrameStore:
    """Train on a clip and write its consistent frames to ``folder/frames.npy``.

    A stopped run goes on from the checkpoint in the folder.

    Args:
        original: the aligned input, T frames.
        edited: the direct edit, T frames of the same size.
        distance: perceptual distance of pictures in [-1, 1].
        config: settings.
        trainer: how Lightning runs.
        folder: existing folder for the checkpoint and the result.
        seed: of the initial weights.

    Raises:
        InputError: videos of different length or size.
        KeyboardInterrupt: stopped by the user; the checkpoint stays.
    """
    if len(original) != len(edited) or original.size != edited.size:
        found = f"original {_shape(original)}, edited {_shape(edited)}"
        raise InputError("dvp", f"the two videos differ: {found}", "give the same frames of both")
    pairs = FrameByFrame(original, edited)
    first = pairs[0][0][None], pairs[0][1][None]
    module = DeepVideoPrior(config, distance, first, seed)
    fit(module, pairs.loader(), folder / CHECKPOINT, trainer, "deep video prior", epochs=config.epochs)
    write_frames(folder / FRAMES, (len(original), *original.size), _render(module.eval(), original))
    discard_checkpoint(folder / CHECKPOINT)
    return FrameStore.open(folder / FRAMES)


def _render(module: DeepVideoPrior, original: FrameStore) -> Iterator[Tensor]:
    with torch.no_grad():
        for start in range(0, len(original), BATCH):
            yield module(original.pictures(slice(start, start + BATCH)).to(module.device))


def _shape(frames: FrameStore) -> str:
    height, width = frames.size
    return f"{len(frames)} frames of {width}x{height}"
