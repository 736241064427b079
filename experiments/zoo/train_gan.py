"""Train a StyleGAN2 at 128 px with a discriminator: non-saturating loss, lazy R1, ADA, averaged weights.

    python -m experiments.zoo.train_gan --faces FOLDER --labels faces.csv --out runs/gan --minutes 10

By default it starts from the embedded generator and encoder, in coordinates that give them a W space
(rebase.py), and both learn: half of the drawn pictures are reconstructions of real faces by the encoder's
codes, which the face and the discriminator pull at together (adversarial.py); the other half are from noise.
``--from-nothing`` starts from random weights, ``--code-share 0`` is plain StyleGAN2-ADA. Runs in pieces
(running.py).

Colour: most pictures may be gray. A fixed share of every batch is judged in colour, against coloured
pictures alone; the rest is judged by luminance, against all pictures. So the many gray pictures teach shape
and texture and never that faces are gray, and the generator always draws colours.

Sources: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" and "Training Generative
Adversarial Networks with Limited Data".
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_type_hints

import cv2
import torch
from torch import Tensor

from experiments.zoo import faces, running
from experiments.zoo.adversarial import R1_EVERY, combined_pull, fooling_loss, judging_loss, r1_penalty
from experiments.zoo.augment import adapted, augment, gray, input_changes, strength_at
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.frechet import Gaussian, frechet_distance, gaussian
from experiments.zoo.networks import (
    LICENCE,
    encode_all,
    load_parts,
    new_discriminator,
    new_generator,
    read_encoder,
    read_generator,
    read_judge,
    save_parts,
)
from experiments.zoo.rebase import (
    centred_on,
    load_basis,
    principal_basis,
    rebase_encoder,
    rebase_generator,
    save_basis,
)
from experiments.zoo.reconstruction import Weights, delta_penalty, reconstruction_figures, weighted_difference
from tempcons.media.range import to_frames
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights.assets import ASSETS, save_asset

PATH_EVERY, ADAPT_EVERY = 8, 4
RAMP = 0.05  # share of the training in which the rates of generator and encoder rise
GRID = (4, 8)
MAPPED = 10_000  # vectors of the mapping network that its spread is measured on
GENERATOR, ENCODER, BASIS = "generator.safetensors", "encoder.safetensors", "basis.safetensors"


@dataclass(frozen=True)
class GanSettings(Weights):
    """Settings of the training.

    Attributes:
        colour_share: of a batch that is judged in colour, against coloured pictures.
        code_share: of a batch that are reconstructions of real faces.
        pull: of the discriminator at these, in multiples of the faces' own.
        delta: weight of e4e's regularisation of the encoder's codes.
        encoder_rate: highest learning rate of the encoder.
        moved_share: of the faces that the encoder sees, that are moved a little.
        r1: gamma of the gradient penalty.
        path_length: weight of the path length regularisation; 0 for none.
        alone: share of the training at whose start only the discriminator learns.
        ada_target: of the mean sign of the logits of real pictures.
        ada_pictures: real pictures in which p can go from 0 to 1.
        half_life: of the averaged weights, in pictures.
        judged_pictures: drawn, and real, for the Fréchet distances of a report.
        test_pictures: of held-out persons in a report.
    """

    batch: int = 64
    rate: float = 1.5e-3
    colour_share: float = 0.25
    code_share: float = 0.5
    pull: float = 0.4
    perceptual: float = 0.05
    delta: float = 1e-2
    encoder_rate: float = 3e-4
    moved_share: float = 0.3
    r1: float = 1.0
    path_length: float = 0.0
    alone: float = 0.02
    ada_target: float = 0.6
    ada_pictures: int = 100_000
    half_life: float = 20_000.0
    judged_pictures: int = 2000
    test_pictures: int = 512


@dataclass(frozen=True)
class Drawn:
    """Pictures of the generator; those at ``known`` should show ``faces``, by the encoder's ``codes``."""

    pictures: Tensor
    known: Tensor
    faces: Tensor
    codes: Tensor


class GanTraining(running.ZooModule):
    """Generator, encoder, their averaged copies, discriminator; the faces, on the device.

    Args:
        found: faces; training persons only are used.
        generator: with a mapping network.
        encoder: to the generator's W+.
        discriminator: of the same size.
        settings: of the training.
    """

    p: Tensor
    mean_path: Tensor
    pictures: Tensor
    testing: Tensor
    coloured: Tensor
    colour: Tensor

    def __init__(
        self,
        found: Faces,
        generator: Generator,
        encoder: FaceEncoder,
        discriminator: Discriminator,
        settings: GanSettings,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.average = copy.deepcopy(generator).eval().requires_grad_(False)
        self.average_encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        self.distance = Lite0Distance() if settings.perceptual else None
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("mean_path", torch.zeros(()))
        self.register_buffer("pictures", found.training, persistent=False)
        self.register_buffer("testing", found.testing[: settings.test_pictures], persistent=False)
        colour = torch.from_numpy(found.colour[~found.held])
        self.register_buffer("colour", colour, persistent=False)
        self.register_buffer("coloured", torch.nonzero(colour)[:, 0], persistent=False)
        self.signs: list[Tensor] = []
        self.real_features: dict[str, Gaussian] = {}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam with little momentum against the discriminator, which is corrected for the lazy penalty."""
        late, rate = R1_EVERY / (R1_EVERY + 1), self.settings.rate
        trained = [p for n, p in self.generator.named_parameters() if ".noise" not in n]
        judge = self.discriminator.parameters()
        adam = partial(torch.optim.Adam, fused=self.device.type == "cuda")
        return [
            adam(trained, lr=rate, betas=(0.5, 0.99)),
            adam(judge, lr=rate * late, betas=(0.0, 0.99**late)),
            adam(self.encoder.parameters(), lr=self.settings.encoder_rate, betas=(0.9, 0.99)),
        ]

    @property
    def in_colour(self) -> int:
        """How many pictures of a batch are judged in colour: the first ones."""
        return round(self.settings.colour_share * self.settings.batch) if len(self.coloured) else 0

    def indices(self, random: torch.Generator) -> Tensor:
        """(B,) faces: coloured ones first, then any."""
        batch, n = self.settings.batch, self.in_colour
        found = torch.randint(len(self.pictures), (batch,), generator=random, device=self.device)
        if n:
            at = torch.randint(len(self.coloured), (n,), generator=random, device=self.device)
            found[:n] = self.coloured[at]
        return found

    def reals(self, random: torch.Generator) -> Tensor:
        """(B, 3, S, S) real faces, mirrored at random."""
        pictures = to_range(self.pictures[self.indices(random)])
        mirrored = torch.rand(len(pictures), 1, 1, 1, generator=random, device=self.device) < 0.5
        return torch.where(mirrored, pictures.flip(3), pictures)

    def draw(self, random: torch.Generator) -> Drawn:
        """Pictures from noise, and from codes of real faces at evenly spread places of the batch."""
        generator, batch, share = self.generator, self.settings.batch, self.settings.code_share
        z = torch.randn(batch, generator.z_dim, generator=random, device=self.device)
        codes = generator.mapping(z).float()
        steps = torch.arange(batch + 1, device=self.device) * share
        known = torch.nonzero(steps[1:].floor() > steps[:-1].floor())[:, 0]
        chosen = self.indices(random)[known]
        shown = to_range(self.pictures[chosen])
        if not len(known):
            return Drawn(generator.synthesis(codes, "none").float(), known, shown, codes[known])
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            moved_share = self.settings.moved_share
            shown = input_changes(shown, ~self.colour[chosen], random, strength_at(self.share), moved_share)
        found = self.encoder(shown.contiguous(memory_format=torch.channels_last)).float()
        codes = codes.index_copy(0, known, found)
        return Drawn(generator.synthesis(codes, "none").float(), known, shown, found)

    def judged(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """What the discriminator sees: the first ones in colour, of the others the luminance; augmented."""
        n = self.in_colour
        # Positions in half precision would be off by half a pixel.
        with torch.autocast(self.device.type, enabled=False):
            pictures = pictures.float()
            seen = torch.cat([pictures[:n], gray(pictures[n:])])
            return augment(seen, float(self.p), random)

    def training_step(self, batch: int, batch_idx: int) -> None:
        of_generator, of_discriminator, of_encoder = cast(list[Any], self.optimizers())
        wanted = self.settings
        late = R1_EVERY / (R1_EVERY + 1)
        # Adam's first steps are as long as any: what is good already starts slowly.
        ramp = min(1.0, max(0.0, self.share - wanted.alone) / RAMP)
        rates = ((of_generator, ramp * wanted.rate), (of_discriminator, wanted.rate * late))
        for optimiser, rate in (*rates, (of_encoder, ramp * wanted.encoder_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * running.rate_at(self.share)
        random = self.random(1)
        if self.share < wanted.alone:
            with torch.no_grad():
                drawn = self.draw(random).pictures
        else:
            self.discriminator.requires_grad_(False)
            drawn = self.generator_step([of_generator, of_encoder], random)
            self.discriminator.requires_grad_(True)
        self.discriminator_step(of_discriminator, drawn, random)

    def discriminator_step(self, optimiser: Any, drawn: Tensor, random: torch.Generator) -> None:
        """One step on (B, 3, S, S) drawn pictures and as many real ones."""
        real = self.judged(self.reals(random), random)
        of_real = self.discriminator(real).float()
        of_drawn = self.discriminator(self.judged(drawn, random)).float()
        loss = judging_loss(of_real, of_drawn)
        self.log_dict({"loss/discriminator": loss, "share": self.share, "p": self.p})
        self.step([optimiser], loss)
        self.signs.append(of_real.detach().sign().mean())
        if len(self.signs) >= ADAPT_EVERY:
            self.adapt()
        if int(self.taken) % R1_EVERY == 0:
            penalty = r1_penalty(self.discriminator, real.float())
            self.log("loss/r1", penalty)
            self.step([optimiser], 0.5 * self.settings.r1 * R1_EVERY * penalty)

    def adapt(self) -> None:
        """Move p of the augmentation."""
        sureness = float(self.trainer.strategy.reduce(torch.stack(self.signs).mean(), reduce_op="mean"))
        seen = len(self.signs) * self.settings.batch * self.trainer.world_size
        wanted = self.settings
        self.p.fill_(adapted(float(self.p), sureness, seen, wanted.ada_target, wanted.ada_pictures))
        self.signs.clear()
        self.log("sureness", sureness)

    def generator_step(self, optimisers: list[Any], random: torch.Generator) -> Tensor:
        """One step of generator and encoder; returns what they drew."""
        drawn = self.draw(random)
        fooled = fooling_loss(self.discriminator(self.judged(drawn.pictures, random)).float())
        self.log("loss/generator", fooled)
        loss = fooled
        if len(drawn.known):
            with torch.autocast(self.device.type, enabled=False):
                again = drawn.pictures[drawn.known]
                difference = weighted_difference(again, drawn.faces, self.settings, self.distance)
                penalty = delta_penalty(drawn.codes)
            self.log_dict({"loss/difference": difference, "loss/delta": penalty})
            loss = combined_pull(drawn.pictures, difference, fooled, self.settings.pull, drawn.known)
            loss = loss + self.settings.delta * penalty
        self.step(optimisers, loss)
        if self.settings.path_length and int(self.taken) % PATH_EVERY == 0:
            self.path_step(optimisers[0], random)
        return drawn.pictures.detach()

    def path_step(self, optimiser: Any, random: torch.Generator) -> None:
        """Path length regularisation on a quarter of a batch."""
        count = max(1, self.settings.batch // 4)
        z = torch.randn(count, self.generator.z_dim, generator=random, device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            codes = self.generator.mapping(z)
            lengths = path_lengths(self.generator.synthesis(codes, "none"), codes, random)
        self.mean_path.lerp_(lengths.detach().mean(), 0.01)
        penalty = (lengths - self.mean_path).square().mean()
        self.log("loss/path", penalty)
        self.step([optimiser], self.settings.path_length * PATH_EVERY * penalty)

    def step(self, optimisers: list[Any], loss: Tensor) -> None:
        """One step of some optimisers; none by gradients that aren't finite."""
        for optimiser in optimisers:
            optimiser.zero_grad()
        self.manual_backward(loss)
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        trained = [p for group in groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if torch.isfinite(norm):
            for optimiser in optimisers:
                optimiser.step()

    def on_train_batch_end(self, *args: Any) -> None:
        batch = self.settings.batch * self.trainer.world_size
        decay = running.average_decay(int(self.taken) + 1, self.settings.half_life / batch)
        running.update_average(self.average, self.generator, decay)
        running.update_average(self.average_encoder, self.encoder, decay)

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Fréchet distances of pictures from noise, luminance to all faces, colours to the coloured ones; and
        figures of the reconstructions of held-out faces."""
        with torch.autocast(self.device.type, enabled=False):
            network = self.distance or Lite0Distance().to(self.device)
            drawn = list(drawn_pictures(self.average, self.settings.judged_pictures))
            found: dict[str, float] = {}
            for name, chosen in {"gray": self.pictures, "colour": self.pictures[self.coloured]}.items():
                if len(chosen) < 2:
                    continue
                seen = gray if name == "gray" else torch.Tensor.clone
                if name not in self.real_features:
                    some = chosen[
                        torch.randperm(len(chosen))[: self.settings.judged_pictures].to(self.device)
                    ]
                    parts = (seen(to_range(part)) for part in some.split(64))
                    self.real_features[name] = gaussian(network, parts)
                of_drawn = gaussian(network, (seen(part) for part in drawn))
                found[f"frechet/{name}"] = round(frechet_distance(self.real_features[name], of_drawn), 3)
            if self.settings.code_share and len(self.testing):
                found |= reconstruction_figures(
                    self.average_encoder, self.average, self.testing, self.distance
                )
        return {**found, "p": round(float(self.p), 3)}

    @torch.no_grad()
    def keep(self, folder: Path) -> None:
        """Averaged generator and encoder, discriminator in parts that can be sent, pictures to look at."""
        config = {"generator": self.average.config}
        save_asset(folder / GENERATOR, self.average.state_dict(), "generator", config, LICENCE)
        judge = {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
        save_parts(judge | {"p": self.p, "taken": self.taken}, folder / "parts")
        drawn = torch.cat(list(drawn_pictures(self.average, math.prod(GRID))))
        write_grid(drawn, GRID[0], folder / "samples.png")
        if self.settings.code_share:
            config = {"encoder": self.average_encoder.config}
            save_asset(folder / ENCODER, self.average_encoder.state_dict(), "encoder", config, LICENCE)
            some = to_range((self.testing if len(self.testing) else self.pictures)[: GRID[1]])
            again = self.average.synthesis(self.average_encoder(some), "none").clamp(-1, 1)
            write_grid(torch.cat([some, again]), 2, folder / "reconstructions.png")


def path_lengths(pictures: Tensor, codes: Tensor, random: torch.Generator) -> Tensor:
    """(B,) lengths of the change of pictures, in a random direction, with the codes."""
    noise = torch.randn(pictures.shape, generator=random, device=pictures.device)
    noise = noise / math.sqrt(math.prod(pictures.shape[2:]))
    [gradient] = torch.autograd.grad((pictures * noise).sum(), codes, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


@torch.no_grad()
def drawn_pictures(
    generator: Generator, count: int, truncation: float = 1.0, batch: int = 32
) -> Iterator[Tensor]:
    """``count`` pictures in [-1, 1] from noise of seed 0, in batches."""
    device = generator.input.input.device
    random = torch.Generator().manual_seed(0)
    z = torch.randn(count, generator.z_dim, generator=random).to(device)
    mean = generator.style(z).mean(0)
    for part in z.split(batch):
        yield generator.synthesis(generator.mapping(part, truncation, mean), "none").clamp(-1, 1)


def write_grid(pictures: Tensor, rows: int, path: Path) -> None:
    """Write pictures (N, 3, S, S) in [-1, 1] as one file."""
    lines = [torch.cat(list(row), 2) for row in pictures.cpu().chunk(rows)]
    bgr = to_frames(torch.cat(lines, 1)[None])[0][..., ::-1]
    temporary = path.with_suffix(f".tmp{path.suffix}")
    cv2.imwrite(str(temporary), bgr)
    temporary.replace(path)


@dataclass(frozen=True)
class Start:
    """What a training starts from."""

    generator: Generator
    encoder: FaceEncoder
    discriminator: Discriminator


def start_from_assets(found: Faces, args: argparse.Namespace, device: str) -> Start:
    """The embedded networks; coordinates with a W space where the generator has no mapping network.

    The coordinates are found once and kept in the training's folder.
    """
    old, inverter = read_generator(args.generator), read_encoder(args.encoder)
    judge = new_discriminator(size=old.size)
    if old.n_mlp:
        return Start(old, inverter, judge)
    fresh = Generator(**{**old.config, "n_mlp": args.mapping_layers})
    kept = args.out / BASIS
    if not kept.exists():
        codes = encode_all(inverter.to(device), found.training.to(device)).float().cpu()
        with torch.no_grad():
            mapped = fresh.style(torch.randn(MAPPED, fresh.z_dim))
        save_basis(centred_on(principal_basis(codes, old.style_dim), mapped), kept)
    basis = load_basis(kept)
    return Start(rebase_generator(old, basis, fresh), rebase_encoder(inverter.cpu(), basis), judge)


def start_from_nothing(mapping_layers: int) -> Start:
    """Random weights."""
    generator = new_generator(mapping_layers)
    encoder = FaceEncoder(num_layers(generator.size), generator.style_dim)
    return Start(generator, encoder, new_discriminator())


def in_channels_last(start: Start) -> None:
    """Put the networks into the layout in which half precision is fast."""
    for network in (start.encoder, start.discriminator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The whole generator follows its first tensor.
    first = start.generator.input.input
    first.data = first.data.contiguous(memory_format=torch.channels_last)


def start_from_lost(folder: Path, encoder: Path) -> tuple[Start, dict[str, Tensor]]:
    """The networks that a training sent back, and its counters; ``encoder`` where it trained none."""
    generator = read_generator(folder / GENERATOR)
    own = folder / ENCODER
    parts = folder / "parts"
    start = Start(
        generator, read_encoder(own if own.exists() else encoder), read_judge(parts, generator.size)
    )
    state = load_parts(parts)
    return start, {name: state[name] for name in ("p", "taken")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=14)
    parser.add_argument("--from-nothing", action="store_true", help="random weights, no codes")
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--lost", type=Path, help="what came back of a training whose checkpoint is lost")
    parser.add_argument("--mapping-layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=GanSettings.batch)
    parser.add_argument("--judged-pictures", type=int, default=GanSettings.judged_pictures)
    parser.add_argument("--test-pictures", type=int, default=GanSettings.test_pictures)
    numbers = [name for name, kind in get_type_hints(GanSettings).items() if kind is float]
    for name in numbers:
        default = getattr(GanSettings, name)
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default)
    args = parser.parse_args()
    found = faces.from_arguments(args)
    names = ("batch", "judged_pictures", "test_pictures", *numbers)
    settings = GanSettings(**{name: getattr(args, name) for name in names})
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    counters: dict[str, Tensor] = {}
    if args.lost is not None:
        start, counters = start_from_lost(args.lost, args.encoder)
    elif args.from_nothing:
        start = start_from_nothing(args.mapping_layers)
    else:
        device = "cuda" if torch.cuda.is_available() and args.accelerator != "cpu" else "cpu"
        start = start_from_assets(found, args, device)
    in_channels_last(start)
    module = GanTraining(found, start.generator, start.encoder, start.discriminator, settings)
    for name, value in counters.items():
        getattr(module, name).copy_(value)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
