"""Train the network that corrects the encoder's codes, with encoder and generator fixed.

    python -m experiments.zoo.train_refiner --faces FOLDER --labels faces.csv --out runs/refiner

It sees a picture and what the generator draws from its codes, and says how to change them; the losses are
those of train_encoder.py, after each of ``--passes`` corrections, each trained by itself. ``--change``
holds corrections small: codes stay where edits were learned. Runs in pieces (running.py).

Source: Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement", ICCV 2021.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.zoo import faces, running
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import LICENCE, read_encoder, read_generator, read_judge
from experiments.zoo.reconstruction import reconstruction_figures
from experiments.zoo.train_encoder import CodesSettings, CodesTraining
from experiments.zoo.train_gan import write_grid
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder, RefiningEncoder
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, save_asset

# The head holds most of an encoder's weights; corrections need less of it, and less still once trained.
HEAD_CHANNELS, KEPT_RANK = 40, 320
START_SCALE = 0.1


@dataclass(frozen=True)
class RefinerSettings(CodesSettings):
    """Settings of the training.

    Attributes:
        passes: corrections in a step.
        change: weight of the corrections' mean square.
    """

    batch: int = 16
    rate: float = 1e-3
    perceptual: float = 0.0
    passes: int = 2
    change: float = 0.05


def new_refiner(encoder: FaceEncoder) -> FaceEncoder:
    """A refiner for an encoder, with the encoder's trunk; its corrections start small."""
    refiner = FaceEncoder(encoder.n_latent, encoder.style_dim, HEAD_CHANNELS, channels=6)
    for own, given in ((refiner.downs, encoder.downs), (refiner.blocks, encoder.blocks)):
        own.load_state_dict(given.state_dict())
    with torch.no_grad():
        refiner.head.weight.mul_(START_SCALE)
    return refiner


class RefinerTraining(CodesTraining):
    """The refiner is what :class:`CodesTraining` trains and averages; the encoder is fixed."""

    settings: RefinerSettings

    def __init__(
        self,
        found: Faces,
        generator: Generator,
        encoder: FaceEncoder,
        refiner: FaceEncoder,
        settings: RefinerSettings,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__(found, generator, refiner, settings, discriminator)
        self.first = encoder.eval().requires_grad_(False)
        # The whole generator follows its first tensor's layout; on a CPU a step takes a quarter less time so.
        start = self.generator.input.input
        start.data = start.data.contiguous(memory_format=torch.channels_last)

    def draw(self) -> Tensor:
        """(B, 3, S, S) changed faces."""
        return super().draw().contiguous(memory_format=torch.channels_last)

    def refining(self, passes: int) -> RefiningEncoder:
        """The whole encoder with averaged weights."""
        return RefiningEncoder(self.first, self.average, self.generator, passes)

    def encoder_step(self, optimiser: Any, real: Tensor) -> Tensor:
        """One step of the refiner over all its passes; returns what the last one drew."""
        wanted = self.settings
        whole = RefiningEncoder(self.first, self.encoder, self.generator, wanted.passes)
        optimiser.zero_grad()
        with torch.no_grad():
            codes = self.first(real).float()
        for number in range(1, wanted.passes + 1):
            change = whole.change(real, codes).float()
            drawn = self.generator.synthesis(codes + change, "none").float()
            loss = self.pulled(drawn, real) + wanted.change * change.square().mean()
            self.manual_backward(loss)
            codes = (codes + change).detach()
            self.log_dict({f"loss/{number}": loss, f"change/{number}": change.square().mean().sqrt()})
        self.log("share", self.share)
        self.descend(optimiser)
        return drawn.detach()

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Figures after one pass, as many as are trained, and one more."""
        found: dict[str, float] = {}
        with torch.autocast(self.device.type, enabled=False):
            for passes in (1, self.settings.passes, self.settings.passes + 1):
                figures = reconstruction_figures(
                    self.refining(passes), self.generator, self.testing, self.distance
                )
                found |= {f"{name}_{passes}": value for name, value in figures.items()}
        return found

    @torch.no_grad()
    def keep(self, folder: Path) -> None:
        """The averaged refiner as an asset, and pictures to look at."""
        small = self.average.with_head_of(KEPT_RANK)
        config = {"encoder": small.config}
        save_asset(folder / "refiner.safetensors", small.state_dict(), "refiner", config, LICENCE)
        some = to_range(self.testing[:8])
        codes = self.refining(self.settings.passes)(some)
        rows = [some] + [self.generator.synthesis(w, "none").clamp(-1, 1) for w in (self.first(some), codes)]
        write_grid(torch.cat(rows), 3, folder / "reconstructions.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=45)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--refiner", type=Path, help="asset to start from; without: the encoder's trunk")
    numbers = list(RefinerSettings.__dataclass_fields__)
    for name in numbers:
        default = getattr(RefinerSettings, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    parser.add_argument("--parts", type=Path, help="folder `parts` of a GAN: its discriminator")
    args = parser.parse_args()
    found = faces.from_arguments(args)
    settings = RefinerSettings(**{name: getattr(args, name) for name in numbers})
    generator, encoder = read_generator(args.generator), read_encoder(args.encoder)
    refiner = new_refiner(encoder) if args.refiner is None else read_encoder(args.refiner, "refiner")
    judge = read_judge(args.parts, generator.size) if settings.pull else None
    module = RefinerTraining(found, generator, encoder, refiner, settings, judge)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
