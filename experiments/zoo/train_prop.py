"""Find the direction in W+ that draws glasses, or a beard, from labels that are true by construction.

    python -m experiments.zoo.train_prop --prop eyeglasses --faces FOLDER --labels faces.csv \\
        --out tempcons/assets/direction_eyeglasses.safetensors

Nobody labelled who wears glasses, and the embedded family draws many who do without them. So the thing is
drawn on training faces (props.py), at the landmarks of the CSV, and both pictures are encoded: the direction
starts as the mean difference of their codes. It is then refined through the fixed generator: moved along it,
codes of training faces are to give what drawing on the generator's own pictures gives, most of all where
something is drawn.
"""

from __future__ import annotations

import argparse
import json
import math
import time
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
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, save_asset

DRAWN_WEIGHT = 8.0  # of pixels that the drawing changes, beside 1 of the others
TESTED, SHOWN = 64, 10  # held-out faces


@torch.no_grad()
def mean_difference(encoder: FaceEncoder, pictures: Tensor, points: Tensor, prop: Prop) -> Tensor:
    """(L, D) mean difference of the codes of uint8 pictures with and without the thing drawn on."""
    parts = [
        encoder(prop(to_range(some), at)) - encoder(to_range(some))
        for some, at in zip(pictures.split(32), points.split(32), strict=True)
    ]
    return torch.cat(parts).mean(0)


def drawn_loss(drawn: Tensor, plain: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute and squared error to ``wanted``, heavier where it differs from ``plain``."""
    change = (wanted - plain).abs().amax(1, keepdim=True)
    weight = 1 + (DRAWN_WEIGHT - 1) * (change / 0.3).clamp(max=1)
    error = (drawn - wanted).abs()
    return (weight * (error + 2 * error.square())).mean()


def refine(
    start: Tensor,
    encoder: FaceEncoder,
    generator: Generator,
    found: tuple[Tensor, Tensor],
    prop: Prop,
    steps: int,
    batch: int,
    lr: float,
) -> Tensor:
    """The direction after ``steps`` of Adam through the generator.

    Args:
        found: training pictures (N, 3, S, S) uint8 and their landmarks.
    """
    direction = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([direction], lr=lr)
    distance, (pictures, points) = Lite0Distance(), found
    began = time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        at = torch.randint(len(pictures), (batch,))
        with torch.no_grad():
            codes = encoder(to_range(pictures[at]))
            plain = generator.synthesis(codes, "none").clamp(-1, 1)
            wanted = prop(plain, points[at])
        drawn = generator.synthesis(codes + direction, "none")
        loss = drawn_loss(drawn, plain, wanted) + 0.1 * distance(drawn.clamp(-1, 1), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 25 == 0 or step + 1 == steps:
            told = {"step": step, "seconds": round(time.time() - began), "loss": round(loss.item(), 4)}
            print(json.dumps(told | {"norm": round(direction.norm().item(), 2)}), flush=True)
    return direction.detach()


@torch.no_grad()
def judge(
    direction: Tensor,
    encoder: FaceEncoder,
    generator: Generator,
    pictures: Tensor,
    points: Tensor,
    prop: Prop,
) -> tuple[dict[str, float], Tensor]:
    """Figures on held-out faces, and rows of generator, drawing and edit.

    ``drawn_share`` is how much of the drawing is there: 1 less the squared error to it, as a share of the
    drawing's own squared change. ``outside_change`` is the mean absolute change where nothing is drawn.
    """
    codes = encoder(to_range(pictures))
    plain = generator.synthesis(codes, "none").clamp(-1, 1)
    wanted = prop(plain, points)
    drawn = generator.synthesis(codes + direction, "none").clamp(-1, 1)
    there = ((wanted - plain).abs().amax(1, keepdim=True) > 0.1).float().expand_as(plain)
    missing = ((drawn - wanted).square() * there).sum() / ((plain - wanted).square() * there).sum()
    outside = ((drawn - plain).abs() * (1 - there)).sum() / (1 - there).sum()
    figures = {"drawn_share": 1 - missing.item(), "outside_change": outside.item() / 2}
    rows = torch.cat([part[:SHOWN] for part in (plain, wanted, drawn)])
    return {name: round(value, 4) for name, value in figures.items()}, rows


def with_points(found: Faces, flags: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
    """At most ``count`` of the pictures where ``flags`` is true and landmarks are known, and these.

    Raises:
        InputError: there are none.
    """
    assert found.points is not None
    known = found.points.isfinite().all(dim=(1, 2)).numpy()
    at = torch.from_numpy(np.flatnonzero(flags & known)[:count])
    if not len(at):
        raise InputError("zoo", "no face with landmarks", f"the CSV needs columns {faces.POINTS[0]}_x, ...")
    return found.pictures[at], found.points[at]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prop", choices=sorted(PROPS), required=True)
    faces.add_arguments(parser)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="PNG: held-out faces, drawn on, moved along the direction")
    parser.add_argument("--encoded", type=int, default=1000, help="faces in the mean difference")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    generator = read_generator(args.generator).eval().requires_grad_(False)
    found = faces.read(args.faces, args.labels, generator.size, args.limit)
    prop = PROPS[args.prop]
    encoder = read_encoder(args.encoder).eval().requires_grad_(False)
    training = with_points(found, ~found.held, len(found.held))
    testing = with_points(found, found.held, TESTED)
    some = training[0][: args.encoded], training[1][: args.encoded]
    start = mean_difference(encoder, *some, prop)
    print(json.dumps({"mean difference": judge(start, encoder, generator, *testing, prop)[0]}), flush=True)
    direction = refine(start, encoder, generator, training, prop, args.steps, args.batch, args.lr)
    figures, rows = judge(direction, encoder, generator, *testing, prop)
    print(json.dumps({"refined": figures}))
    if args.sheet is not None:
        write_grid(rows, 3, args.sheet)
    save_asset(
        args.out, {"direction": direction}, "direction", {"label": args.prop} | figures, LICENCE, half=False
    )


if __name__ == "__main__":
    main()
