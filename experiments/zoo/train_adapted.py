"""Adapt the generator to a target look by distilling an image operator.

    python -m experiments.zoo.train_adapted --look sketch --faces FOLDER --labels faces.csv \\
        --out tempcons/assets/nada_sketch.safetensors

StyleGAN-NADA steers a generator with CLIP; without CLIP's weights the look comes from an image
operator (looks.py): the adapted generator learns to draw, from the same codes, what the operator makes of the
base generator's picture. The coarsest convolutions stay; only differences of weights are stored, so
that they can be added to a generator tuned on a clip. To survive that tuning, the look is learned on
several generators at once: the base, and copies of it tuned on a few pictures of one training person
each. A look without colours has RGB outputs of its own, the same for all channels, which replace
those of the generator instead of being added: what tuning taught them about colour must go.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from experiments.zoo import faces
from experiments.zoo.faces import to_range
from experiments.zoo.looks import LOOKS, Look
from experiments.zoo.networks import read_encoder
from experiments.zoo.train_gan import write_grid
from tempcons.check import WeightsError
from tempcons.family import generator_from_asset
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import ASSETS, read_asset, save_asset

FIRST_TRAINED_LAYER = 3  # convolutions from 16 px up
TESTED, SHOWN = 64, 10  # held-out faces


class Synthesis(torch.nn.Module):
    """Codes to pictures as a module's call, for weights given from outside."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, codes: Tensor) -> Tensor:
        return self.generator.synthesis(codes)

    def with_weights(self, weights: dict[str, Tensor], codes: Tensor) -> Tensor:
        """Pictures of a generator with these weights, by their names in it."""
        return functional_call(self, {f"generator.{k}": v for k, v in weights.items()}, (codes,))


class Adaptation(torch.nn.Module):
    """What is learned: differences of convolutions, and RGB outputs (differences, or new ones if gray)."""

    def __init__(self, base: Generator, gray: bool) -> None:
        super().__init__()
        own = {id(p) for p in base.layer_parameters(FIRST_TRAINED_LAYER)}
        self.gray = gray
        self.learned: dict[str, torch.nn.Parameter] = {}
        for name, value in base.named_parameters():
            if gray and name.startswith("to_rgb"):
                start = value.detach().clone()
                if name.endswith("conv.weight"):
                    start = start.mean(1, keepdim=True)
                self.learned[name] = torch.nn.Parameter(start)
            elif id(value) in own:
                self.learned[name] = torch.nn.Parameter(torch.zeros_like(value))
        self.values = torch.nn.ParameterList(self.learned.values())

    @property
    def replaced(self) -> list[str]:
        """Names of weights that are put in place of the generator's."""
        return [name for name in self.learned if self.gray and name.startswith("to_rgb")]

    def tensors(self) -> dict[str, Tensor]:
        """Differences and replacements, in the generator's shapes."""
        wide = {n for n in self.replaced if n.endswith("conv.weight")}
        return {n: v.expand(-1, 3, -1, -1, -1) if n in wide else v for n, v in self.learned.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`tensors` gave.

        Raises:
            WeightsError: of another generator or kind of look.
        """
        if {n: v.shape for n, v in tensors.items()} != {n: v.shape for n, v in self.tensors().items()}:
            raise WeightsError(
                "zoo", "the start has other layers than the generator's look", "leave --start out"
            )
        for name, value in self.learned.items():
            start = tensors[name]
            value.data.copy_(start if start.shape == value.shape else start[:, :1])

    def applied(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the adapted generator."""
        replaced = set(self.replaced)
        changed = {n: v if n in replaced else weights[n] + v for n, v in self.tensors().items()}
        return weights | changed


def tuned_variants(
    base: Generator, encoder: FaceEncoder, pictures: Tensor, persons: np.ndarray, count: int, steps: int
) -> list[dict[str, Tensor]]:
    """Weights of the base, and of copies tuned on 8 pictures each of the persons with most pictures."""
    variants = [{k: v.detach() for k, v in base.named_parameters()}]
    names, sizes = np.unique(persons, return_counts=True)
    for person in names[np.argsort(-sizes, kind="stable")][:count]:
        at = torch.from_numpy(np.flatnonzero(persons == person)[:8]).to(pictures.device)
        x = to_range(pictures[at])
        with torch.no_grad():
            codes = encoder(x)
        copied = copy.deepcopy(base).requires_grad_(True)
        optimiser = torch.optim.Adam([p for n, p in copied.named_parameters() if "noise" not in n], lr=3e-3)
        for _ in range(steps):
            at = torch.randperm(len(x))[:4].to(x.device)
            loss = (copied.synthesis(codes[at]) - x[at]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(
            json.dumps({"tuned": len(variants), "pictures": len(x), "mse": round(loss.item(), 4)}), flush=True
        )
        variants.append({k: v.detach() for k, v in copied.named_parameters()})
    return variants


@dataclass(frozen=True)
class AdaptationSettings:
    """Steps, pictures a step, and Adam's rate, which rises over 20 steps and falls along a cosine."""

    steps: int
    batch: int
    lr: float

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        share = min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.lr * max(share, 0.01)


def distil(
    adaptation: Adaptation,
    synthesis: Synthesis,
    encoder: FaceEncoder,
    variants: list[dict[str, Tensor]],
    pictures: Tensor,
    look: Look,
    settings: AdaptationSettings,
) -> None:
    """Learn to draw what the operator makes of the generators' pictures, from codes of training faces."""
    distance = Lite0Distance().to(pictures.device)
    optimiser = torch.optim.Adam(adaptation.parameters(), lr=settings.lr, betas=(0.9, 0.99))
    began = time.time()
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        weights = variants[step % len(variants)]
        x = to_range(pictures[torch.randint(len(pictures), (settings.batch,)).to(pictures.device)])
        with torch.no_grad():
            # Between a face and another, so that codes moved by edits are drawn well too.
            codes = encoder(x)
            codes = codes + 0.3 * torch.rand(len(x), 1, 1).to(codes) * (codes.roll(1, 0) - codes)
            wanted = look.operator(synthesis.with_weights(weights, codes).clamp(-1, 1))
        drawn = synthesis.with_weights(adaptation.applied(weights), codes)
        loss = (drawn - wanted).abs().mean() + 2 * (drawn - wanted).square().mean()
        loss = loss + 0.1 * distance(drawn.clamp(-1, 1), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adaptation.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step + 1 == settings.steps:
            seconds = round(time.time() - began)
            print(json.dumps({"step": step, "seconds": seconds, "loss": round(loss.item(), 4)}), flush=True)


@torch.no_grad()
def judge(
    adaptation: Adaptation, synthesis: Synthesis, base: dict[str, Tensor], codes: Tensor, look: Look
) -> tuple[float, Tensor]:
    """PSNR in dB to the operator's pictures, and rows of generator, operator and adapted generator."""
    plain = synthesis(codes).clamp(-1, 1)
    wanted = look.operator(plain)
    drawn = synthesis.with_weights(adaptation.applied(base), codes).clamp(-1, 1)
    psnr = -10 * torch.log10(F.mse_loss(drawn, wanted) / 4)
    return psnr.item(), torch.cat([part[:SHOWN] for part in (plain, wanted, drawn)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--look", choices=sorted(LOOKS), required=True)
    faces.add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="PNG: held-out faces, the operator's, the adapted ones")
    parser.add_argument("--start", type=Path, help="result of another run to go on from")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--persons", type=int, default=4, help="generators tuned on a person, beside the base"
    )
    parser.add_argument("--tuning-steps", type=int, default=60)
    parser.add_argument("--generator", type=Path, default=ASSETS / "generator.safetensors")
    parser.add_argument("--encoder", type=Path, default=ASSETS / "encoder.safetensors")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    base_asset = read_asset(args.generator, "generator")
    base = generator_from_asset(base_asset)
    found = faces.from_arguments(args, base.size)
    base = base.to(args.device)
    encoder = read_encoder(args.encoder).requires_grad_(False).eval().to(args.device)
    look, training = LOOKS[args.look], found.training.to(args.device)
    variants = tuned_variants(
        base, encoder, training, found.identity[~found.held], args.persons, args.tuning_steps
    )
    adaptation, synthesis = Adaptation(base, look.gray), Synthesis(base.requires_grad_(False))
    if args.start is not None:
        adaptation.load(read_asset(args.start, "generator_difference").tensors)
    settings = AdaptationSettings(args.steps, args.batch, args.lr)
    distil(adaptation, synthesis, encoder, variants, training, look, settings)
    with torch.no_grad():
        codes = encoder(to_range(found.testing[:TESTED].to(args.device)))
    psnr, rows = judge(adaptation, synthesis, variants[0], codes, look)
    print(json.dumps({"held_out_psnr_to_operator_db": round(psnr, 2)}))
    if args.sheet is not None:
        write_grid(rows, 3, args.sheet)
    about = {"look": args.look, "base": base_asset.record["sha256"], "replaced": adaptation.replaced}
    licence = base_asset.record["licence"]
    save_asset(args.out, adaptation.tensors(), "generator_difference", about, licence)


if __name__ == "__main__":
    main()
