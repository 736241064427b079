"""Aligned frames -> W+ codes and, with pivotal tuning, a generator that knows the clip."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tempcons.baselines.controls import smooth_codes
from tempcons.check import ConfigError, check_number, near_names
from tempcons.family import REFINED, Family
from tempcons.media.frames import FrameStore
from tempcons.models.face_encoder import RefiningEncoder
from tempcons.models.stylegan2 import Generator
from tempcons.progress import track
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.projection import ProjectionConfig, project
from tempcons.training.settings import PivotalConfig, TrainerConfig
from tempcons.types import Aligned, Latents
from tempcons.weights.assets import load_state, save_state

log = logging.getLogger(__name__)
VERSION = 1
OPTIMIZATION = "optimization"
ENCODE_BATCH = 8
SHORT_CLIP = 32  # frames that the steps of tuning are told for
ENCODERS = ("e4e", "restyle_psp", "restyle_e4e")
METHODS = {"embedded": ("encoder", REFINED, "pti"), "ffhq": ("pti", *ENCODERS, OPTIMIZATION)}
# What tuning starts from.
PIVOTS = {"embedded": ("encoder", REFINED), "ffhq": (*ENCODERS, OPTIMIZATION)}


@dataclass(frozen=True)
class InversionConfig:
    """How frames become codes.

    Attributes:
        name: "encoder" (codes only), "refined" (those, corrected), one of several encoders by name,
            "optimization", or "pti" (codes as ``pivot`` says, then pivotal tuning).
        pivot: where the codes of "pti" come from.
        correction_smoothing: sigma, in frames, of the Gaussian over time through which the corrections of
            "refined" go; 0: every frame's as it is. What they put right is who the person is and how
            the clip is lit, which stays; what changes from frame to frame is noise that flickers.
        passes: how often tuning sees the whole clip, in place of ``pivotal.steps``; null: as told there.
        growth: tuning of a clip of n frames, more than 32, takes (n / 32) to this power times
            ``pivotal.steps``: with 0 as many for any clip, with 1 as many a frame. Not with ``passes``.
        pivotal: settings of the tuning.
        projection: settings of the optimisation.
    """

    name: str = "pti"
    pivot: str = "encoder"
    correction_smoothing: float = 1.0
    passes: int | None = None
    growth: float = 0.0
    pivotal: PivotalConfig = field(default_factory=PivotalConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)

    def __post_init__(self) -> None:
        known = sorted({name for names in METHODS.values() for name in names})
        if self.name not in known:
            raise ConfigError("config", f"inversion = {self.name!r}", f"known: {', '.join(known)}")
        if self.passes is not None and self.passes < 1:
            raise ConfigError("config", f"inversion.passes = {self.passes}", "1 or more, or null")
        check_number("inversion.correction_smoothing", self.correction_smoothing, 0)
        check_number("inversion.growth", self.growth, 0)

    def check_family(self, family: str) -> None:
        """Raise ConfigError unless a family has the method and its pivots."""
        known = METHODS.get(family, ())
        if self.name not in known:
            what = f"inversion = {self.name} does not exist for family={family}"
            raise ConfigError("config", what, f"it has: {', '.join(known)}")
        if self.name == "pti" and self.pivot not in PIVOTS[family]:
            raise ConfigError(
                "config", f"inversion.pivot = {self.pivot!r}", near_names(self.pivot, PIVOTS[family])
            )

    @property
    def source(self) -> str:
        """Where the codes come from: "encoder", an encoder's name, or "optimization"."""
        return self.pivot if self.name == "pti" else self.name

    @property
    def encoder(self) -> str | None:
        """The encoder, by name, where a family has several."""
        return self.source if self.source in (*ENCODERS, REFINED) else None

    @property
    def regularised(self) -> bool:
        """Whether tuning samples codes around the pivots."""
        return self.name == "pti" and self.pivotal.lambda_r > 0

    def tuning(self, frames: int) -> PivotalConfig:
        """Settings of the tuning of a clip of so many frames."""
        if self.passes is not None:
            return self.pivotal.over(self.passes, frames)
        longer = max(1.0, frames / SHORT_CLIP) ** self.growth
        return replace(self.pivotal, steps=round(self.pivotal.steps * longer))

    def depends(self) -> dict[str, Any]:
        """What the codes and the generator depend on; settings of parts that aren't used are left out."""
        values: dict[str, Any] = {"name": self.name, "pivotal": asdict(self.pivotal)}
        if self.name == "pti" and self.pivot != "encoder":
            values["pivot"] = self.pivot
        if self.passes is not None:
            values["passes"] = self.passes
        elif self.name == "pti" and self.growth:
            values["growth"] = self.growth
        if self.source == REFINED:
            values["correction_smoothing"] = self.correction_smoothing
        if self.source == OPTIMIZATION:
            values["projection"] = asdict(self.projection)
        return values


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
        **family.reads("networks", "perceptual"),
        "config": config.depends(),
        "precision": trainer.numerics,
        "devices": trainer.devices,
        "seed": seed,
    }
    if config.regularised:
        depends |= family.reads("sampling")

    def make(folder: Path) -> dict[str, Any]:
        if config.source == OPTIMIZATION:
            codes = optimise(family, aligned.frames, config.projection)
        else:
            codes = encode(family, aligned, config.correction_smoothing)
        generator = family.generator
        if config.name == "pti":
            pivotal = config.tuning(len(codes))
            generator = tune(codes, aligned.frames, family, pivotal, trainer, folder, seed)
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
def encode(family: Family, aligned: Aligned, smoothing: float, batch: int = ENCODE_BATCH) -> Tensor:
    """(T, L, D) codes of aligned frames; a refining encoder's corrections are smoothed scene by scene.

    Args:
        smoothing: sigma in frames; only a refining encoder's corrections are smoothed.

    Raises:
        ConfigError: the family has no encoder.
    """
    if family.encoder is None:
        raise ConfigError("invert", f"family={family.name} was loaded without an encoder")
    encoder, frames = family.encoder.to(family.device), aligned.frames
    starts = range(0, len(frames), batch)
    pictures = (frames.pictures(slice(at, at + batch)).to(family.device) for at in starts)
    if not isinstance(encoder, RefiningEncoder):
        return torch.cat([encoder(part).cpu() for part in pictures])
    parts = [encoder.corrected(part) for part in pictures]
    first, correction = (torch.cat([each.cpu() for each in kind]) for kind in zip(*parts, strict=True))
    smooth = [smooth_codes(correction[scene.start : scene.stop], smoothing) for scene in aligned.scenes]
    return first + torch.cat(smooth)


def optimise(family: Family, frames: FrameStore, config: ProjectionConfig) -> Tensor:
    """(T, L, D) codes of aligned frames by optimisation from the mean code."""
    family.place()
    generator = family.generator.to(family.device)
    starts = range(0, len(frames), config.batch)
    steps = track((slice(at, at + config.batch) for at in starts), "optimising codes", len(starts))
    parts = [
        project(
            frames.pictures(part).to(family.device), family.mean_code, generator, family.perceptual, config
        ).cpu()
        for part in steps
    ]
    family.generator.to("cpu")
    return torch.cat(parts)


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
    # Here, as settings are checked before the seconds that Lightning takes to load.
    from tempcons.training.fit import discard_checkpoint, fit
    from tempcons.training.pivotal import PivotalTuning, frame_loader

    surroundings = (family.sample_codes, family.alpha_interp) if config.lambda_r else None
    module = PivotalTuning(family.generator, family.perceptual, config, surroundings, seed)
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
    parts = [slice(at, at + ENCODE_BATCH) for at in range(0, len(frames), ENCODE_BATCH)]
    errors = [(frames.pictures(p) - aligned.pictures(p)).div(2).square().mean(dim=(1, 2, 3)) for p in parts]
    return float(-10 * torch.log10(torch.cat(errors).mean()))
