"""Find the direction in W+ that draws glasses, or a beard, from labels that are true by construction.

    python -m experiments.zoo.train_prop --prop eyeglasses --faces FOLDER --labels faces.csv \\
        --out tempcons/assets/direction_eyeglasses.safetensors

Nobody labelled who wears glasses, and the embedded family draws many who do without them. So the thing is
drawn (props.py) on what generators draw, at the landmarks of the CSV, and the direction learns to draw the
same: moved along it, codes of training faces are to give the picture with the thing on it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.zoo import faces
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import LICENCE, read_encoder, read_generator
from experiments.zoo.props import PROPS, Prop
from experiments.zoo.train_gan import write_grid
from tempcons.check import InputError
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import FeatureDistance, Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, save_asset

DRAWN_WEIGHT = 5.0  # of pixels that the drawing changes, beside 1 of the others
DISTANCE_WEIGHT = 0.1
TESTED, SHOWN = 64, 10  # held-out faces


@dataclass(frozen=True)
class Wearers:
    """Who a thing is drawn on: a generator, its codes (N, L, D) and their faces' landmarks (N, 5, 2)."""

    generator: Generator
    codes: Tensor
    points: Tensor

    @torch.no_grad()
    def drawn(self, count: int, prop: Prop) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of ``count`` chosen at random, their pictures, and these with the thing drawn on."""
        at = torch.randint(len(self.codes), (count,)).to(self.codes.device)
        plain = self.generator.synthesis(self.codes[at], "none").clamp(-1, 1)
        return self.codes[at], plain, prop(plain, self.points[at])


def drawn_loss(drawn: Tensor, plain: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute and squared error to ``wanted``, heavier where it differs from ``plain``."""
    change = (wanted - plain).abs().amax(1, keepdim=True)
    weight = 1 + (DRAWN_WEIGHT - 1) * (change / 0.3).clamp(max=1)
    error = (drawn - wanted).abs()
    return (weight * (error + 2 * error.square())).mean()


def fitted(
    wearers: Wearers, prop: Prop, distance: FeatureDistance, steps: int, batch: int, lr: float
) -> Tensor:
    """(L, D) direction after ``steps`` of Adam, from zero; the rate falls along a cosine."""
    direction = torch.zeros_like(wearers.codes[0]).requires_grad_(True)
    optimiser = torch.optim.Adam([direction])
    began = time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        codes, plain, wanted = wearers.drawn(batch, prop)
        drawn = wearers.generator.synthesis(codes + direction, "none")
        loss = drawn_loss(drawn, plain, wanted)
        loss = loss + DISTANCE_WEIGHT * distance(drawn.clamp(-1, 1), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 25 == 0 or step + 1 == steps:
            told = {"step": step, "seconds": round(time.time() - began), "loss": round(loss.item(), 4)}
            print(json.dumps(told | {"norm": round(direction.norm().item(), 2)}), flush=True)
    return direction.detach()


@torch.no_grad()
def judge(direction: Tensor, wearers: Wearers, prop: Prop) -> tuple[dict[str, float], Tensor]:
    """Figures, and rows of the generator's pictures, drawn on, and edited.

    ``drawn_share`` is how much of the drawing is there: 1 less the squared error to it, as a share of the
    drawing's own squared change. ``outside_change`` is the mean absolute change where nothing is drawn.
    """
    plain = wearers.generator.synthesis(wearers.codes, "none").clamp(-1, 1)
    wanted = prop(plain, wearers.points)
    drawn = wearers.generator.synthesis(wearers.codes + direction, "none").clamp(-1, 1)
    there = ((wanted - plain).abs().amax(1, keepdim=True) > 0.1).float().expand_as(plain)
    missing = ((drawn - wanted).square() * there).sum() / ((plain - wanted).square() * there).sum()
    outside = ((drawn - plain).abs() * (1 - there)).sum() / (1 - there).sum()
    figures = {"drawn_share": 1 - missing.item(), "outside_change": outside.item() / 2}
    rows = torch.cat([part[:SHOWN] for part in (plain, wanted, drawn)])
    return {name: round(value, 4) for name, value in figures.items()}, rows


def coloured_first(found: Faces, flags: np.ndarray) -> Tensor:
    """Indices where ``flags`` is true, of coloured pictures before those of gray ones."""
    return torch.from_numpy(
        np.concatenate([np.flatnonzero(flags & c) for c in (found.colour, ~found.colour)])
    )


def with_points(found: Faces, flags: np.ndarray) -> np.ndarray:
    """(N,) where ``flags`` is true and landmarks are known.

    Raises:
        InputError: nowhere.
    """
    assert found.points is not None
    known = flags & found.points.isfinite().all(dim=(1, 2)).numpy()
    if not known.any():
        raise InputError("zoo", "no face with landmarks", f"the CSV needs columns {faces.POINTS[0]}_x, ...")
    return known


@torch.no_grad()
def encoded(found: Faces, at: Tensor, encoder: FaceEncoder, generator: Generator) -> Wearers:
    """The pictures' faces as the family's generator draws them, where it is."""
    assert found.points is not None
    device = generator.input.input.device
    codes = torch.cat([encoder(to_range(found.pictures[part].to(device))) for part in at.split(32)])
    return Wearers(generator, codes, found.points[at].to(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prop", choices=sorted(PROPS), required=True)
    faces.add_arguments(parser)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="PNG: held-out faces, drawn on, moved along the direction")
    parser.add_argument("--encoded", type=int, default=2000, help="faces drawn by the generator itself")
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    generator = read_generator(args.generator).eval().requires_grad_(False)
    found, prop = faces.from_arguments(args, generator.size), PROPS[args.prop]
    generator = generator.to(args.device)
    encoder = read_encoder(args.encoder).eval().requires_grad_(False).to(args.device)
    distance = Lite0Distance().to(args.device)
    training, testing = (with_points(found, flags) for flags in (~found.held, found.held))
    own = encoded(found, coloured_first(found, training)[: args.encoded], encoder, generator)
    direction = fitted(own, prop, distance, args.steps, args.batch, args.lr)
    tested = torch.from_numpy(np.flatnonzero(testing)[:TESTED])
    figures, rows = judge(direction, encoded(found, tested, encoder, generator), prop)
    print(json.dumps({"held_out": figures}))
    if args.sheet is not None:
        write_grid(rows, 3, args.sheet)
    config = {"label": args.prop} | figures
    save_asset(args.out, {"direction": direction}, "direction", config, LICENCE, half=False)


if __name__ == "__main__":
    main()
