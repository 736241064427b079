"""Networks that the training scripts start from, and what they leave: assets, and parts that can be sent."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.zoo.faces import to_range
from experiments.zoo.train_autoencoder import CHANNELS, SIZE, STYLE_DIM
from tempcons.check import InputError
from tempcons.family import encoder_from_asset, generator_from_asset
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder, RefiningEncoder
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import read_asset

DISCRIMINATOR_CHANNELS = {4: 256, 8: 256, 16: 192, 32: 96, 64: 48, 128: 24}
PART_BYTES = 15 * 2**20
LICENCE = "Apache-2.0 (weights trained by this project; see the model card for the data)"


def new_generator(n_mlp: int, channels: dict[int, int] | None = None, size: int = SIZE) -> Generator:
    """A generator of the embedded family's shape with a mapping network; no noise pictures."""
    generator = Generator(size, STYLE_DIM, n_mlp, channels or CHANNELS)
    for noise in generator.const_noises():
        noise.zero_()
    return generator


def new_discriminator(channels: dict[int, int] | None = None, size: int = SIZE) -> Discriminator:
    """A discriminator of about the generator's cost."""
    return Discriminator(size, channels or DISCRIMINATOR_CHANNELS)


def read_judge(parts: Path | None, size: int) -> Discriminator:
    """The discriminator of a GAN's folder ``parts``; None: a new one."""
    judge = new_discriminator(size=size)
    if parts is not None:
        judge.load_state_dict(with_prefix(load_parts(parts), "discriminator."))
    return judge


def read_generator(path: Path) -> Generator:
    """A generator's asset, ready to train."""
    return generator_from_asset(read_asset(path, "generator")).requires_grad_(True).train()


def read_encoder(path: Path, kind: str = "encoder") -> FaceEncoder:
    """An encoder's asset, or a refiner's, ready to train."""
    return encoder_from_asset(read_asset(path, kind)).requires_grad_(True).train()


def read_whole_encoder(encoder: Path, refiner: Path | None, passes: int, generator: Generator) -> nn.Module:
    """The encoder that users have, ready to use: with its refiner, if there is one."""
    first = encoder_from_asset(read_asset(encoder, "encoder"))
    if refiner is None:
        return first
    return RefiningEncoder(first, encoder_from_asset(read_asset(refiner, "refiner")), generator, passes)


@torch.no_grad()
def encode_all(encoder: nn.Module, pictures: Tensor, batch: int = 128) -> Tensor:
    """(N, L, D) codes of uint8 pictures, in half precision on their device."""
    return torch.cat([encoder(to_range(part)).half() for part in pictures.split(batch)])


def save_parts(tensors: dict[str, Tensor], folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write tensors in half precision, into files of at most ``part_bytes`` where no tensor is larger."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, value in tensors.items():
        kept = (value.half() if value.is_floating_point() else value).detach().cpu().contiguous().clone()
        if filled + kept.nbytes > part_bytes and parts[-1]:
            parts.append({})
            filled = 0
        parts[-1][name] = kept
        filled += kept.nbytes
    for old in folder.glob("part*.safetensors"):
        old.unlink()
    written = [folder / f"part{at}.safetensors" for at in range(len(parts))]
    for path, part in zip(written, parts, strict=True):
        save_file(part, path)
    return written


def load_parts(folder: Path) -> dict[str, Tensor]:
    """What :func:`save_parts` wrote, in single precision.

    Raises:
        InputError: no parts in the folder.
    """
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("part*.safetensors")):
        found |= load_file(path)
    if not found:
        raise InputError("zoo", f"no part*.safetensors in {folder}", "the folder `parts` of a training")
    return {k: v.float() if v.is_floating_point() else v for k, v in found.items()}


def with_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
