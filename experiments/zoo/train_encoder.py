"""Train the encoder to W+ with the generator fixed.

    python -m experiments.zoo.train_encoder --faces FOLDER --labels faces.csv --out runs/encoder \\
        --generator runs/gan/generator.safetensors --encoder runs/gan/encoder.safetensors

Squared and absolute differences, perceptual distance, and e4e's delta regularisation, which holds the rows of
a code near their mean, where edits and the mapping network's codes are. ``--pull`` adds a discriminator
(``--parts``: a GAN's, trained on), which asks for detail that the differences average out. Runs in pieces
(running.py).

Source: Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from experiments.zoo import faces, running
from experiments.zoo.adversarial import R1_EVERY, combined_pull, fooling_loss, judging_loss, r1_penalty
from experiments.zoo.augment import input_changes, strength_at
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import (
    LICENCE,
    read_encoder,
    read_generator,
    read_judge,
    save_parts,
)
from experiments.zoo.reconstruction import Weights, delta_penalty, reconstruction_figures, weighted_difference
from experiments.zoo.train_gan import write_grid
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights.assets import ASSETS, save_asset


@dataclass(frozen=True)
class CodesSettings(Weights):
    """Settings of every training of codes for a fixed generator.

    Attributes:
        batch: pictures in a step.
        rate: highest learning rate.
        pull: of a discriminator, in multiples of the faces' own; 0: there is none.
        judge_rate: learning rate of the discriminator.
        r1: gamma of its gradient penalty.
        moved_share: of the faces, that are moved a little.
        colour_weight: how much oftener a coloured picture is drawn than a gray one.
        half_life: of the averaged weights, in pictures.
        test_pictures: of held-out persons in a report.
    """

    batch: int = 64
    rate: float = 6e-4
    pull: float = 0.0
    judge_rate: float = 1e-3
    r1: float = 1.0
    moved_share: float = 1.0
    colour_weight: float = 4.0
    half_life: float = 10_000.0
    test_pictures: int = 512


@dataclass(frozen=True)
class EncoderSettings(CodesSettings):
    """Settings of the encoder's training.

    Attributes:
        delta: weight of e4e's regularisation.
    """

    delta: float = 1e-3


class CodesTraining(running.ZooModule):
    """A network that makes or corrects codes, its averaged copy, the fixed generator, and faces.

    Args:
        found: faces; training persons are learned from.
        generator: stays as it is.
        encoder: the network.
        settings: of the training.
        discriminator: learns too; None where ``settings.pull`` is 0.
    """

    pictures: Tensor
    testing: Tensor

    def __init__(
        self,
        found: Faces,
        generator: Generator,
        encoder: FaceEncoder,
        settings: CodesSettings,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.automatic_optimization = False
        self.settings = settings
        self.generator = generator.eval().requires_grad_(False)
        self.encoder = encoder
        self.average = copy.deepcopy(encoder).eval().requires_grad_(False)
        self.distance = Lite0Distance() if settings.perceptual else None
        self.register_buffer("pictures", found.training, persistent=False)
        self.register_buffer("testing", found.testing[: settings.test_pictures], persistent=False)
        colour = torch.from_numpy(found.colour[~found.held])
        self.register_buffer("colour", colour, persistent=False)
        weight = 1.0 + (settings.colour_weight - 1) * colour
        self.register_buffer("chance", weight / weight.sum(), persistent=False)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        wanted = self.settings
        found: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self.encoder.parameters(), wanted.rate, (0.9, 0.99))
        ]
        if self.discriminator is not None:
            judge = self.discriminator.parameters()
            found.append(torch.optim.Adam(judge, wanted.judge_rate, (0.0, 0.99)))
        return found

    @torch.no_grad()
    def draw(self) -> Tensor:
        """(B, 3, S, S) changed faces; less changed towards the end, when they are as users' faces will be."""
        random = self.random(3)
        assert isinstance(self.chance, Tensor) and isinstance(self.colour, Tensor)
        at = torch.multinomial(self.chance, self.settings.batch, replacement=True, generator=random)
        shown, moved_share = to_range(self.pictures[at]), self.settings.moved_share
        return input_changes(shown, ~self.colour[at], random, strength_at(self.share), moved_share)

    def training_step(self, batch: int, batch_idx: int) -> None:
        optimisers: list[Any] = self.optimizers()  # type: ignore[assignment]
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        wanted = self.settings
        for optimiser, rate in zip(optimisers, (wanted.rate, wanted.judge_rate), strict=False):
            for group in optimiser.param_groups:
                group["lr"] = rate * running.rate_at(self.share)
        with torch.autocast(self.device.type, enabled=False):
            real = self.draw()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        drawn = self.encoder_step(optimisers[0], real)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            self.discriminator_step(optimisers[1], self.discriminator, real, drawn)

    def encoder_step(self, optimiser: Any, real: Tensor) -> Tensor:
        """One step of the network on (B, 3, S, S) faces; returns what was drawn of them."""
        raise NotImplementedError

    def discriminator_step(
        self, optimiser: Any, discriminator: Discriminator, real: Tensor, drawn: Tensor
    ) -> None:
        """One step of the discriminator."""
        loss = judging_loss(discriminator(real).float(), discriminator(drawn).float())
        if int(self.taken) % R1_EVERY == 0:
            loss = loss + 0.5 * self.settings.r1 * R1_EVERY * r1_penalty(discriminator, real)
        self.log("loss/discriminator", loss)
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()

    def pulled(self, drawn: Tensor, real: Tensor) -> Tensor:
        """Loss of (B, 3, S, S) reconstructions: the pull of the faces, and of the discriminator if any."""
        with torch.autocast(self.device.type, enabled=False):
            loss = weighted_difference(drawn, real, self.settings, self.distance)
        self.log("loss/difference", loss)
        if self.discriminator is None:
            return loss
        fooled = fooling_loss(self.discriminator(drawn).float())
        self.log("loss/fooled", fooled)
        return combined_pull(drawn, loss, fooled, self.settings.pull)

    def descend(self, optimiser: Any) -> None:
        """A step of the network by its gradient, clipped; none where that is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        if torch.isfinite(norm):
            optimiser.step()

    def on_train_batch_end(self, *args: Any) -> None:
        batch = self.settings.batch * self.trainer.world_size
        decay = running.average_decay(int(self.taken) + 1, self.settings.half_life / batch)
        running.update_average(self.average, self.encoder, decay)


class EncoderTraining(CodesTraining):
    """The encoder."""

    settings: EncoderSettings

    def encoder_step(self, optimiser: Any, real: Tensor) -> Tensor:
        codes = self.encoder(real)
        drawn = self.generator.synthesis(codes, "none").float()
        penalty = delta_penalty(codes.float())
        loss = self.pulled(drawn, real) + self.settings.delta * penalty
        self.log_dict({"loss/delta": penalty, "share": self.share})
        optimiser.zero_grad()
        self.manual_backward(loss)
        self.descend(optimiser)
        return drawn.detach()

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        with torch.autocast(self.device.type, enabled=False):
            return reconstruction_figures(self.average, self.generator, self.testing, self.distance)

    @torch.no_grad()
    def keep(self, folder: Path) -> None:
        """The averaged encoder as an asset and in parts that can be sent, and pictures to look at."""
        config = {"encoder": self.average.config}
        save_asset(folder / "encoder.safetensors", self.average.state_dict(), "encoder", config, LICENCE)
        save_parts({f"average.{k}": v for k, v in self.average.state_dict().items()}, folder / "parts")
        some = to_range(self.testing[:8])
        drawn = self.generator.synthesis(self.average(some), "none").clamp(-1, 1)
        write_grid(torch.cat([some, drawn]), 2, folder / "reconstructions.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=5)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, help="asset to start from; without: random weights")
    parser.add_argument("--parts", type=Path, help="folder `parts` of a GAN: its discriminator")
    parser.add_argument("--batch", type=int, default=EncoderSettings.batch)
    parser.add_argument("--test-pictures", type=int, default=EncoderSettings.test_pictures)
    numbers = [name for name, kind in get_type_hints(EncoderSettings).items() if kind is float]
    for name in numbers:
        default = getattr(EncoderSettings, name)
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default)
    args = parser.parse_args()
    found = faces.from_arguments(args)
    settings = EncoderSettings(**{name: getattr(args, name) for name in ("batch", "test_pictures", *numbers)})
    generator = read_generator(args.generator)
    rows = (num_layers(generator.size), generator.style_dim)
    encoder = FaceEncoder(*rows) if args.encoder is None else read_encoder(args.encoder)
    judge = read_judge(args.parts, generator.size) if settings.pull else None
    module = EncoderTraining(found, generator, encoder, settings, judge)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
