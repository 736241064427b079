"""Train a levels mapper in W+ for an emotion: generator and encoder stay as they are.

    python -m experiments.zoo.train_mapper --emotion happiness --faces FOLDER --labels faces.csv \\
        --classifier runs/classifier/classifier.safetensors --out runs/happy \\
        --direction tempcons/assets/direction_happy.safetensors

StyleCLIP's mapper with a classifier in CLIP's place. Copies of the generator tuned to single faces
(tuned_faces.py) take turns with the generator itself, so that the edit outlives pivotal tuning: a direction
that draws a smile with the generator may push the lips out with a tuned one. So what the direction makes of
the generator's own picture is wanted of the tuned ones too. What else keeps the mapper honest: the classifier
sees moved, blurred and toned pictures, and offsets that one person's own pictures do not differ by cost more
than those that they do. Judge it by a classifier that it did not see (evaluate_edits).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.zoo import faces, running
from experiments.zoo.augment import input_changes
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import LICENCE, encode_all, read_encoder, read_generator
from experiments.zoo.train_classifier import (
    EMOTIONS,
    EmotionNetwork,
    flip_rate,
    labels_of,
    read_classifier,
    softened,
)
from experiments.zoo.train_gan import write_grid
from experiments.zoo.train_identity import several, within_persons
from experiments.zoo.train_prop import drawn_loss
from experiments.zoo.tuned_faces import TunedFace, tuned_faces
from tempcons.check import InputError
from tempcons.edits.refine import carried_over, draw
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.mapper import LevelsMapper
from tempcons.models.perceptual import FeatureDistance, Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, read_asset, save_asset

ASSET, CONSTANT_ASSET = "mapper.safetensors", "direction.safetensors"
ENCODED = 1000  # training faces of a kind, at most
PRINCIPAL = 200  # directions in which one person's codes differ
TESTED, SHOWN = 64, 10  # held-out faces


@dataclass(frozen=True)
class MapperSettings:
    """Weights of the losses, pictures a step, and Adam's rate.

    Attributes:
        emotion: one of the classifier's.
        lambda_classifier, lambda_change, lambda_distance, lambda_offset: of the losses: the classifier's
            cross-entropy, error to the wanted picture, perceptual distance to it, cost of the offset.
        strength: of the direction.
        enough: cross-entropy below which the classifier asks for no more.
    """

    emotion: str
    batch: int = 8
    rate: float = 0.2  # large, as the layers scale it by 0.01
    lambda_classifier: float = 0.1
    lambda_change: float = 3.0
    lambda_distance: float = 0.2
    lambda_offset: float = 1e-4
    strength: float = 2.0
    enough: float = 0.15


class ConstantOffset(nn.Module):
    """The same offset (L, D) for all codes (B, L, D).

    Args:
        start: what it begins with.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.offset = nn.Parameter(start.clone())

    def forward(self, codes: Tensor) -> Tensor:
        return self.offset.expand_as(codes)


@dataclass(frozen=True)
class Spread:
    """How codes of one person differ: a basis (L D, k), deviations along it (k,), and beside it."""

    basis: Tensor
    along: Tensor
    beside: Tensor

    def cost(self, offset: Tensor) -> Tensor:
        """(B,) squared lengths of offsets (B, L, D), in deviations."""
        flat = offset.flatten(1)
        part = flat @ self.basis
        rest = flat.square().sum(1) - part.square().sum(1)
        return (part / self.along).square().sum(1) + rest / self.beside.square()


def spread_of(codes: Tensor, persons: np.ndarray) -> Spread:
    """The spread of codes (N, L, D) round their persons' means."""
    flat = codes.flatten(1)
    inside, _, count = within_persons(flat, persons)
    _, values, basis = torch.pca_lowrank(inside, q=min(PRINCIPAL, *inside.shape), center=False, niter=2)
    free = max(1, len(flat) - len(count))
    along = (values.square() / free).sqrt()
    along = along.clamp_min(1e-3 * along.max())
    rest = (inside.square().sum() - values.square().sum()).clamp_min(0) / free / flat.shape[1]
    return Spread(basis, along, rest.sqrt().clamp_min(1e-3 * along.max()))


class MapperTraining(running.ZooModule):
    """The mapper and everything that judges it while it learns.

    Args:
        direction: (L, D) that the mapper starts from.
        found: faces, of which training ones without the emotion are edited, neutral and other ones equally
            often.
        tuned: copies of the generator, which take turns with it.
        constant: one offset for all faces in the mapper's place.

    Raises:
        InputError: no training face without the emotion.
    """

    def __init__(
        self,
        found: Faces,
        encoder: FaceEncoder,
        generator: Generator,
        tuned: list[TunedFace],
        classifier: EmotionNetwork,
        distance: FeatureDistance,
        direction: Tensor,
        settings: MapperSettings,
        constant: bool = False,
    ) -> None:
        super().__init__()
        self.settings, self.target = settings, EMOTIONS.index(settings.emotion)
        self.tuned, self.teacher = tuned, settings.strength * direction
        self.mapper: LevelsMapper | ConstantOffset = (
            ConstantOffset(self.teacher)
            if constant
            else LevelsMapper(generator.style_dim, generator.n_latent, init="zero")
        )
        # In a list: they are read, not trained or saved.
        self.fixed = [(generator, classifier, distance)]
        labels = labels_of(found)
        emotion = np.array(found.emotion)
        usable = ~found.held & (labels != self.target) & (emotion != "")
        if not usable.any():
            raise InputError("zoo", f"no training face that is not {settings.emotion}", "more pictures")
        neutral = np.flatnonzero(usable & (emotion == "neutral"))[:ENCODED]
        other = np.flatnonzero(usable & (emotion != "neutral") & (emotion != "happiness"))[:ENCODED]
        self.sources = [
            encode_all(encoder, found.pictures[torch.from_numpy(at)]).float()
            for at in (neutral, other)
            if len(at)
        ]
        chosen = several(found, ~found.held)[:ENCODED]
        codes = encode_all(encoder, found.pictures[torch.from_numpy(chosen)]).float()
        self.spread = spread_of(codes, found.identity[chosen])
        testing = found.chosen(found.held & (emotion == "neutral"))[:TESTED]
        self.testing = encoder(to_range(testing)) if len(testing) else testing

    def warm_start(self, steps: int) -> None:
        """Bring the mapper to the direction first."""
        optimiser = torch.optim.Adam(self.mapper.parameters(), lr=0.05)
        codes = torch.cat(self.sources)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 0.05 * (1 - step / steps)
            at = torch.randint(len(codes), (64,))
            loss = (self.mapper(codes[at]) - self.teacher).square().sum(dim=(1, 2)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        error = (loss / self.teacher.square().sum()).item()
        print(json.dumps({"warm_start_error": round(error, 4)}), flush=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.mapper.parameters(), lr=self.settings.rate)

    def some_codes(self, random: torch.Generator) -> Tensor:
        """(B, L, D) codes of training faces, each on its way to another one."""
        half = -(-self.settings.batch // len(self.sources))
        parts = [s[torch.randint(len(s), (half,), generator=random)] for s in self.sources]
        codes = torch.cat(parts)[: self.settings.batch]
        return codes + 0.3 * torch.rand(len(codes), 1, 1, generator=random) * (codes.roll(1, 0) - codes)

    def drawn_from(self, random: torch.Generator) -> tuple[Generator, Tensor]:
        """A generator, and codes for it: of a tuned one mostly near the codes of its face."""
        codes, turn = self.some_codes(random), int(self.taken) % (len(self.tuned) + 1)
        if not turn:
            return self.fixed[0][0], codes
        face = self.tuned[turn - 1]
        own = face.codes[torch.randint(len(face.codes), (len(codes),), generator=random)]
        return face.generator, torch.lerp(own, codes, 0.5 * torch.rand(len(codes), 1, 1, generator=random))

    @torch.no_grad()
    def wanted(self, generator: Generator, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, S, S) before the edit, and what is wanted after it, as of a clip's generator."""
        return draw(generator, codes), carried_over(self.teacher, codes, generator, self.fixed[0][0]).wanted

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        settings, (_, classifier, distance) = self.settings, self.fixed[0]
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = settings.rate * running.rate_at(self.share)
        random = self.random()
        generator, codes = self.drawn_from(random)
        offset = self.mapper(codes)
        before, wanted = self.wanted(generator, codes)
        after = generator.synthesis(codes + offset, "none")
        untinted = torch.zeros(len(after), dtype=torch.bool)
        seen = softened(input_changes(after, untinted, random, 1.5), random)
        emotion = torch.full((len(after),), self.target)
        entropy = F.cross_entropy(classifier(seen), emotion, reduction="none")
        losses = {
            "classifier": settings.lambda_classifier * (entropy - settings.enough).clamp_min(0).mean(),
            "change": settings.lambda_change * drawn_loss(after, before, wanted),
            "distance": settings.lambda_distance * distance(after.clamp(-1, 1), wanted).mean(),
            "offset": settings.lambda_offset * self.spread.cost(offset).mean(),
        }
        for name, value in losses.items():
            self.log(name, value)
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Share of held-out neutral faces that the classifier trained against is won over by, and change."""
        if not len(self.testing):
            return {}
        generator, classifier, distance = self.fixed[0]
        offset = self.mapper(self.testing)
        before = generator.synthesis(self.testing, "none").clamp(-1, 1)
        after = generator.synthesis(self.testing + offset, "none").clamp(-1, 1)
        found = {
            "own_flip_rate": flip_rate(classifier, before, after, self.settings.emotion)["flip_rate"],
            "distance": distance(after, before).mean().item(),
            "offset": offset.flatten(1).norm(dim=1).mean().item(),
            "offset_in_deviations": self.spread.cost(offset).mean().sqrt().item(),
        }
        return {name: round(value, 4) for name, value in found.items()}

    @torch.no_grad()
    def keep(self, folder: Path) -> None:
        label = {"label": self.settings.emotion}
        if isinstance(self.mapper, ConstantOffset):
            tensors = {"direction": self.mapper.offset.detach() / self.settings.strength}
            save_asset(folder / CONSTANT_ASSET, tensors, "direction", label, LICENCE, half=False)
        else:
            config = {"mapper": self.mapper.config, **label}
            save_asset(folder / ASSET, self.mapper.state_dict(), "mapper", config, LICENCE)
        own = [(self.fixed[0][0], self.testing)] if len(self.testing) else []
        rows = []
        for generator, codes in own + [(face.generator, face.codes) for face in self.tuned]:
            shown = codes[torch.arange(SHOWN) % len(codes)]
            for offset in (0, self.teacher, self.mapper(shown)):
                rows.append(generator.synthesis(shown + offset, "none").clamp(-1, 1))
        if rows:
            write_grid(torch.cat(rows), len(rows), folder / "sheet.png")


def main() -> None:
    parser: Any = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=12)
    parser.add_argument("--emotion", choices=EMOTIONS, required=True)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--direction", type=Path, required=True, help="to start from")
    parser.add_argument("--constant", action="store_true", help="one offset for all faces: a direction")
    parser.add_argument("--tuned", type=int, default=4, help="copies of the generator tuned to a face")
    parser.add_argument("--tuning-steps", type=int, default=150)
    parser.add_argument("--tuned-folder", type=Path, help="where these copies are kept; default OUT/tuned")
    numbers = {n: f.default for n, f in MapperSettings.__dataclass_fields__.items() if n != "emotion"}
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    generator = read_generator(args.generator).eval().requires_grad_(False)
    encoder = read_encoder(args.encoder).eval().requires_grad_(False)
    found, distance = faces.from_arguments(args, generator.size), Lite0Distance()
    tuned = tuned_faces(
        generator,
        encoder,
        distance,
        found,
        args.tuned,
        args.tuning_steps,
        args.tuned_folder or args.out / "tuned",
    )
    settings = MapperSettings(**{name: getattr(args, name) for name in MapperSettings.__dataclass_fields__})
    direction = read_asset(args.direction, "direction").tensors["direction"]
    module = MapperTraining(
        found,
        encoder,
        generator,
        tuned,
        read_classifier(args.classifier),
        distance,
        direction,
        settings,
        args.constant,
    )
    if not args.constant and not (args.out / running.CHECKPOINT).exists():
        module.warm_start(300)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
