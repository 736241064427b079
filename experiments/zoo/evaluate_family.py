"""Figures of a generator and an encoder, on held-out persons, and pictures to judge them by.

    python -m experiments.zoo.evaluate_family --faces FOLDER --labels faces.csv --out runs/figures \\
        --generator runs/gan/generator.safetensors --encoder runs/encoder/encoder.safetensors

Fréchet distances and grids of pictures from noise (by the generator's mapping network, else by the code
sampler of ``--sampler``), PSNR, perceptual distance and sharpness of reconstructions, the order in which the
perceptual distance puts known distortions, and with ``--classifier`` how often a direction turns a neutral
face into its emotion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from experiments.zoo import faces
from experiments.zoo.augment import gray
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.frechet import NAME, Gaussian, frechet_distance, gaussian
from experiments.zoo.ladders import ladder_order
from experiments.zoo.networks import read_generator, read_whole_encoder
from experiments.zoo.reconstruction import reconstruction_figures
from experiments.zoo.train_classifier import flip_rate, read_classifier
from experiments.zoo.train_gan import drawn_pictures, write_grid
from tempcons.check import InputError
from tempcons.family import FamilyConfig
from tempcons.media.range import to_pictures
from tempcons.metrics.sharpness import sharpness
from tempcons.models.code_sampler import CodeSampler
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, read_asset

EMOTION_OF = {"happy": "happiness", "surprised": "surprise", "angry": "anger"}
TRUNCATIONS = (1.0, 0.8, 0.6, 0.4)
ORDERED = 64  # pictures that are distorted


class Drawing(Protocol):
    """Pictures (B, 3, S, S) from noise of seed 0, in batches."""

    def __call__(self, count: int, truncation: float = 1.0) -> Iterator[Tensor]: ...


def drawing_of(generator: Generator, sampler: Path | None) -> Drawing | None:
    """By the generator's mapping network, else by a code sampler, a linear map from noise to W+.

    Returns:
        None where there is neither.
    """
    if generator.n_mlp:
        return partial(drawn_pictures, generator)
    if sampler is None:
        return None
    asset = read_asset(sampler, "sampler")
    mean = asset.tensors["mean"]
    sample = CodeSampler(mean, asset.tensors["basis"], asset.config["typical_distance"])

    def drawn(count: int, truncation: float = 1.0) -> Iterator[Tensor]:
        codes = torch.lerp(mean, sample(count, torch.Generator().manual_seed(0)), truncation)
        for part in codes.split(32):
            yield generator.synthesis(part, "none").clamp(-1, 1)

    return drawn


def frechet_figures(
    drawn: dict[str, Iterator[Tensor]], training: Tensor, testing: Tensor, network: Lite0Distance
) -> dict[str, Any]:
    """Distances of drawn pictures, by name, to training and held-out faces (luminance).

    Beside them the distance of held-out to training faces: what a perfect generator would come to with as
    few pictures.

    Args:
        drawn: batches of (B, 3, S, S) in [-1, 1].
        training, testing: (N, 3, S, S) faces in 8 bits.
    """

    def of(batches: Iterable[Tensor]) -> Gaussian:
        return gaussian(network, (gray(part) for part in batches))

    real = {n: of(map(to_range, p.split(64))) for n, p in (("training", training), ("held_out", testing))}
    found: dict[str, Any] = {"floor": round(frechet_distance(real["held_out"], real["training"]), 3)}
    for name, batches in drawn.items():
        moments = of(batches)
        found[name] = {place: round(frechet_distance(moments, real[place]), 3) for place in real}
    return found


def flip_rates(
    generator: Generator,
    encoder: nn.Module,
    found: Faces,
    classifier: Path,
    directions: Path,
    strength: float,
) -> dict[str, Any]:
    """Flip rates of the directions at hand, on held-out neutral faces.

    Raises:
        InputError: there is no such face.
    """
    judge = read_classifier(classifier)
    neutral = found.chosen(found.held & (np.array(found.emotion) == "neutral"))[:256]
    if not len(neutral):
        raise InputError("zoo", "no held-out face is labelled neutral", "more pictures, or no --classifier")
    codes = encoder(to_range(neutral))
    before = generator.synthesis(codes, "none").clamp(-1, 1)
    rates = {}
    for name, emotion in EMOTION_OF.items():
        path = directions / f"direction_{name}.safetensors"
        if path.exists():
            direction = read_asset(path, "direction").tensors["direction"]
            after = generator.synthesis(codes + strength * direction, "none").clamp(-1, 1)
            rates[name] = flip_rate(judge, before, after, emotion)
    return rates


@torch.no_grad()
def clip_figures(aligned: Path, inverted: Path, network: Lite0Distance) -> dict[str, float]:
    """PSNR in dB, perceptual distance and sharpness as a share of the clip's, after pivotal tuning.

    Args:
        aligned: ``frames.npy`` of a run's stage "align" in the cache.
        inverted: of its stage "invert".
    """
    real, drawn = (to_pictures(np.load(path, allow_pickle=False)) for path in (aligned, inverted))
    error = ((real - drawn) / 2).square().mean(dim=(1, 2, 3))
    figures = {
        "psnr_db": (-10 * error.log10()).mean(),
        "distance": network(drawn, real).mean(),
        "sharpness_share_median": (sharpness(drawn) / sharpness(real)).median(),
    }
    return {name: round(value.item(), 4) for name, value in figures.items()}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--refiner", type=Path, help="of the encoder's codes; without: they stay as they are")
    parser.add_argument("--passes", type=int, default=FamilyConfig.refiner_passes, help="of the refiner")
    parser.add_argument("--sampler", type=Path, help="of codes, for a generator without mapping network")
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--directions", type=Path, default=ASSETS)
    parser.add_argument("--strength", type=float, default=2.0)
    parser.add_argument("--drawn", type=int, default=2000)
    parser.add_argument("--pictures", type=int, help="only so many of the held-out faces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clip",
        type=Path,
        nargs=2,
        metavar=("ALIGNED", "INVERTED"),
        help="frames.npy of a run's stages align and invert: figures after pivotal tuning",
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = read_generator(args.generator).eval()
    encoder = read_whole_encoder(args.encoder, args.refiner, args.passes, generator)
    found = faces.from_arguments(args, generator.size)
    testing = found.testing[: args.pictures]
    network = Lite0Distance()
    args.out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {
        "held_out_pictures": len(testing),
        "reconstruction": reconstruction_figures(encoder, generator, testing, network),
        "right_order": {network.name: ladder_order(network, to_range(testing[:ORDERED]))},
    }
    if args.clip is not None:
        aligned, inverted = args.clip
        figures["clip"] = clip_figures(aligned, inverted, network)
    drawing = drawing_of(generator, args.sampler)
    if drawing is not None:
        chosen = np.random.RandomState(0).permutation(len(found.training))[: args.drawn]
        training = found.training[torch.from_numpy(chosen)]
        drawn = {
            "from_noise": drawing(args.drawn),
            # What no mapping network can be better than: codes of the very faces that it is compared with.
            "reconstructed": (
                generator.synthesis(encoder(to_range(part)), "none").clamp(-1, 1)
                for part in training.split(32)
            ),
        }
        figures[NAME] = frechet_figures(drawn, training, found.testing, network)
        write_grid(torch.cat(list(drawing(64))), 8, args.out / "samples.jpg")
        rows = [torch.cat(list(drawing(8, share))) for share in TRUNCATIONS]
        write_grid(torch.cat(rows), len(rows), args.out / "truncation.jpg")
    if args.classifier is not None:
        figures["flips"] = flip_rates(
            generator, encoder, found, args.classifier, args.directions, args.strength
        )
    some = to_range(testing[:10])
    again = generator.synthesis(encoder(some), "none").clamp(-1, 1)
    write_grid(torch.cat([some, again]), 2, args.out / "reconstructions.jpg")
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
