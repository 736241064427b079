"""Aligned frames -> W+ codes and, with pivotal tuning, a generator that knows the clip."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tempcons.check import ConfigError
from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.models.stylegan2 import Generator
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.fit import TrainerConfig, discard_checkpoint, fit
from tempcons.training.pivotal import PivotalConfig, PivotalTuning, frame_loader
from tempcons.types import Aligned, Latents
from tempcons.weights.assets import load_state, save_state

log = logging.getLogger(__name__)
VERSION = 1


@dataclass(frozen=True)
class InversionConfig:
    """How frames become codes.

    Attributes:
        name: "encoder" (codes only) or "pti" (codes from the encoder, then pivotal tuning).
        pivotal: settings of the tuning.
    """

    name: str = "pti"
    pivotal: PivotalConfig = field(default_factory=PivotalConfig)

    def __post_init__(self) -> None:
        if self.name not in ("encoder", "pti"):
            raise ConfigError("config", f"inversion = {self.name!r}", "known: encoder, pti")


def run(
    aligned: Aligned, family: Family, config: InversionConfig, trainer: TrainerConfig, store: Store, seed: int
) -> Latents:
    """Codes of every aligned frame, and the generator that renders them.

    Raises:
        KeyboardInterrupt: stopped by the user; the next run goes on from the last checkpoint.
    """
    depends = {
        "version": VERSION,
        "aligned": aligned.key,
        "weights": [r["sha256"] for r in family.records],
        "config": asdict(config),
        "seed": seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        codes = encode(family, aligned.frames)
        generator = family.generator
        if config.name == "pti":
            generator = tune(codes, aligned.frames, family, config.pivotal, trainer, folder, seed)
        save_state(folder / "codes.safetensors", {"codes": codes}, {})
        save_state(folder / "generator.safetensors", generator.state_dict(), {})
        frames = render_frames(generator, codes, folder / "frames.npy", family.device)
        psnr = reconstruction_psnr(frames, aligned.frames)
        log.info("invert: %s reconstructs the clip at %.2f dB PSNR", config.name, psnr)
        return {"psnr_db": psnr, "weights": family.records}

    folder = store.produce("invert", depends, make, resumable=True)
    return Latents(
        codes=load_state(folder / "codes.safetensors")[0]["codes"],
        frame_ids=aligned.frame_ids,
        generator=load_generator(folder / "generator.safetensors", family.generator),
        frames=FrameStore.open(folder / "frames.npy"),
        key=folder.name,
    )


def load_generator(path: Path, like: Generator) -> Generator:
    """A generator of the same shape as ``like`` with the weights of a run, frozen."""
    generator = Generator(**like.config)
    generator.load_state_dict(load_state(path)[0])
    return generator.requires_grad_(False).eval()


@torch.no_grad()
def encode(family: Family, frames: FrameStore, batch: int = 8) -> Tensor:
    """(T, L, D) codes of aligned frames."""
    encoder = family.encoder.to(family.device)
    starts = range(0, len(frames), batch)
    pictures = (frames.pictures(slice(at, at + batch)).to(family.device) for at in starts)
    return torch.cat([encoder(part).cpu() for part in pictures])


def tune(
    codes: Tensor,
    frames: FrameStore,
    family: Family,
    config: PivotalConfig,
    trainer: TrainerConfig,
    folder: Path,
    seed: int,
) -> Generator:
    """Pivotal tuning on the whole clip."""
    module = PivotalTuning(family.generator, family.perceptual, config)
    loader = frame_loader(codes, frames, config, seed)
    epochs = math.ceil(config.steps / len(loader))
    checkpoints = folder / "checkpoint"
    fit(
        module,
        loader,
        checkpoints,
        trainer,
        "pivotal tuning",
        quantity="psnr_db",
        epochs=epochs,
        steps=config.steps,
    )
    discard_checkpoint(checkpoints)
    return module.generator.requires_grad_(False).eval()


def reconstruction_psnr(frames: FrameStore, aligned: FrameStore) -> float:
    """PSNR in dB over all frames, from the mean squared error on [0, 1]."""
    error = (frames.pictures() - aligned.pictures()).div(2).square().mean()
    return float(-10 * torch.log10(error))
