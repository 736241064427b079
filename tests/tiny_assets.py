"""Weights of an embedded family in its own file format, small and random: loading takes no time."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import STYLE_DIM, tiny_codes, tiny_generator
from torch import Tensor

from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import save_asset

DIRECTIONS = ("surprised", "happy", "angry", "eyeglasses", "beard")
LOOKS = ("sketch", "pixar", "disney_princess", "elf", "zombie")


def write_assets(folder: Path, seed: int = 0) -> Path:
    """All files that ``family=embedded`` and its edits name; another seed, other numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = tiny_generator(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_networks(folder, generator)
        for name in DIRECTIONS:
            direction = {"direction": 0.3 * torch.randn(generator.n_latent, STYLE_DIM)}
            save_asset(folder / f"direction_{name}.safetensors", direction, "direction", {}, half=False)
        for name in LOOKS:
            changes = changed_layers(generator)
            save_asset(folder / f"nada_{name}.safetensors", changes, "generator_difference", {})
    return folder


def write_networks(folder: Path, generator: Generator) -> None:
    """Generator, encoder, refiner and code sampler."""
    encoder = FaceEncoder(generator.n_latent, STYLE_DIM, head_channels=2)
    encoder.latent_avg.copy_(tiny_codes(generator, 1)[0])
    sampler = {"mean": encoder.latent_avg, "basis": torch.randn(3, generator.n_latent, STYLE_DIM)}
    save_asset(
        folder / "generator.safetensors",
        generator.state_dict(),
        "generator",
        {"generator": generator.config},
    )
    save_asset(folder / "encoder.safetensors", encoder.state_dict(), "encoder", {"encoder": encoder.config})
    refiner = FaceEncoder(generator.n_latent, STYLE_DIM, head_channels=2, channels=6)
    with torch.no_grad():
        refiner.head.weight.mul_(0.1)
    save_asset(folder / "refiner.safetensors", refiner.state_dict(), "refiner", {"encoder": refiner.config})
    save_asset(folder / "sampler.safetensors", sampler, "sampler", {"typical_distance": 5.0})


def changed_layers(generator: Generator) -> dict[str, Tensor]:
    """What an adapted generator adds to some of the convolutions."""
    return {
        key: 0.1 * torch.randn_like(value)
        for key, value in generator.state_dict().items()
        if key.startswith("convs.") and key.endswith("conv.weight")
    }
