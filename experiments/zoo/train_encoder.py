"""Train the encoder to W+ with the generator fixed.

    python -m experiments.zoo.train_encoder --faces FOLDER --labels faces.csv --out runs/encoder \\
        --generator runs/gan/generator.safetensors --encoder runs/gan/encoder_start.safetensors

Squared and absolute differences, perceptual distance, and e4e's delta regularisation, which holds the rows of
a code near their mean, where edits and the mapping network's codes are. ``--adversarial`` adds a
discriminator (``--parts``: a GAN's, trained on), which asks for detail that the differences average out.
Runs in pieces (running.py).

Source: Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.zoo import faces, running
from experiments.zoo.augment import input_changes
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import (
    LICENCE,
    load_parts,
    new_discriminator,
    read_encoder,
    read_generator,
    save_parts,
    with_prefix,
)
from experiments.zoo.reconstruction import reconstruction_figures
from experiments.zoo.train_gan import R1_EVERY, r1_penalty, write_grid
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights.assets import ASSETS, save_asset


@dataclass(frozen=True)
class CodesSettings:
    """Settings of every training of codes for a fixed generator.

    Attributes:
        batch: pictures in a step.
        rate: highest learning rate.
        l1, l2, perceptual: weights of the losses between picture and reconstruction.
        colour_weight: how much oftener a coloured picture is drawn than a gray one.
        half_life: of the averaged weights, in pictures.
        test_pictures: of held-out persons in a report.
    """

    batch: int = 64
    rate: float = 6e-4
    l1: float = 0.3
    l2: float = 6.0
    perceptual: float = 0.1
    colour_weight: float = 4.0
    half_life: float = 10_000.0
    test_pictures: int = 512


@dataclass(frozen=True)
class EncoderSettings(CodesSettings):
    """Settings of the encoder's training.

    Attributes:
        delta, adversarial: weights of its further losses.
        r1: gamma of the discriminator's gradient penalty.
    """

    delta: float = 1e-3
    adversarial: float = 0.0
    r1: float = 1.0


def delta_penalty(codes: Tensor) -> Tensor:
    """Mean squared distance of the rows of (B, L, D) codes from their mean row."""
    return (codes - codes.mean(1, keepdim=True)).square().mean()


class CodesTraining(running.ZooModule):
    """A network that makes or corrects codes, its averaged copy, the fixed generator, and faces."""

    pictures: Tensor
    testing: Tensor

    def __init__(
        self, found: Faces, generator: Generator, encoder: FaceEncoder, settings: CodesSettings
    ) -> None:
        super().__init__()
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
        return [torch.optim.Adam(self.encoder.parameters(), self.settings.rate, (0.9, 0.99))]

    @torch.no_grad()
    def draw(self) -> Tensor:
        """(B, 3, S, S) changed faces; less changed towards the end, when they are as users' faces will be."""
        random = self.random(3)
        assert isinstance(self.chance, Tensor) and isinstance(self.colour, Tensor)
        at = torch.multinomial(self.chance, self.settings.batch, replacement=True, generator=random)
        return input_changes(to_range(self.pictures[at]), ~self.colour[at], random, max(0.2, 1 - self.share))

    def training_step(self, batch: int, batch_idx: int) -> None:
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.settings.rate * running.rate_at(self.share)
        with torch.autocast(self.device.type, enabled=False):
            real = self.draw()
        self.toggle_optimizer(optimisers[0])
        drawn = self.encoder_step(optimisers[0], real)
        self.untoggle_optimizer(optimisers[0])
        self.after_step(optimisers[1:], real, drawn)

    def encoder_step(self, optimiser: Any, real: Tensor) -> Tensor:
        """One step of the network on (B, 3, S, S) faces; returns what was drawn of them."""
        raise NotImplementedError

    def after_step(self, optimisers: list[Any], real: Tensor, drawn: Tensor) -> None:
        """Steps of other networks, with their optimisers."""

    def difference(self, drawn: Tensor, real: Tensor) -> Tensor:
        """Weighted losses between (B, 3, S, S) reconstructions and faces, in single precision."""
        wanted = self.settings
        loss = wanted.l1 * F.l1_loss(drawn, real) + wanted.l2 * F.mse_loss(drawn, real)
        if self.distance is not None:
            loss = loss + wanted.perceptual * self.distance(drawn.clamp(-1, 1), real).mean()
        return loss

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
    """The encoder, and a discriminator where one is wanted."""

    settings: EncoderSettings

    def __init__(
        self,
        found: Faces,
        generator: Generator,
        encoder: FaceEncoder,
        discriminator: Discriminator | None,
        settings: EncoderSettings,
    ) -> None:
        super().__init__(found, generator, encoder, settings)
        self.discriminator = discriminator

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        found = super().configure_optimizers()
        if self.discriminator is not None:
            found.append(torch.optim.Adam(self.discriminator.parameters(), self.settings.rate, (0.0, 0.99)))
        return found

    def after_step(self, optimisers: list[Any], real: Tensor, drawn: Tensor) -> None:
        for optimiser in optimisers:
            self.toggle_optimizer(optimiser)
            self.discriminator_step(optimiser, real, drawn)
            self.untoggle_optimizer(optimiser)

    def encoder_step(self, optimiser: Any, real: Tensor) -> Tensor:
        wanted = self.settings
        codes = self.encoder(real)
        drawn = self.generator.synthesis(codes, "none").float()
        with torch.autocast(self.device.type, enabled=False):
            penalty = delta_penalty(codes.float())
            loss = self.difference(drawn, real) + wanted.delta * penalty
        if self.discriminator is not None:
            fooled = F.softplus(-self.discriminator(drawn).float()).mean()
            self.log("loss/fooled", fooled)
            loss = loss + wanted.adversarial * fooled
        self.log_dict({"loss": loss, "loss/delta": penalty, "share": self.share})
        optimiser.zero_grad()
        self.manual_backward(loss)
        self.descend(optimiser)
        return drawn.detach()

    def discriminator_step(self, optimiser: Any, real: Tensor, drawn: Tensor) -> None:
        assert self.discriminator is not None
        of_real, of_drawn = self.discriminator(real).float(), self.discriminator(drawn).float()
        loss = F.softplus(of_drawn).mean() + F.softplus(-of_real).mean()
        if int(self.taken) % R1_EVERY == 0:
            loss = loss + 0.5 * self.settings.r1 * R1_EVERY * r1_penalty(self.discriminator, real)
        self.log("loss/discriminator", loss)
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()

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
    for name in ("rate", "l1", "l2", "perceptual", "delta", "adversarial", "colour_weight"):
        default = getattr(EncoderSettings, name)
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default)
    args = parser.parse_args()
    found = faces.from_arguments(args)
    names = (
        "batch",
        "test_pictures",
        "rate",
        "l1",
        "l2",
        "perceptual",
        "delta",
        "adversarial",
        "colour_weight",
    )
    settings = EncoderSettings(**{name: getattr(args, name) for name in names})
    generator = read_generator(args.generator)
    rows = (num_layers(generator.size), generator.style_dim)
    encoder = FaceEncoder(*rows) if args.encoder is None else read_encoder(args.encoder)
    judge = None
    if settings.adversarial:
        judge = new_discriminator(size=generator.size)
        if args.parts is not None:
            judge.load_state_dict(with_prefix(load_parts(args.parts), "discriminator."))
    module = EncoderTraining(found, generator, encoder, judge, settings)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
