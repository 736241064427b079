"""Adapt the generator to a target look by distilling an image operator.

    python experiments/zoo/train_adapted.py --look sketch --faces FOLDER \\
        --out tempcons/assets/nada_sketch.safetensors

StyleGAN-NADA steers a generator with CLIP; without CLIP's weights the look comes from an image
operator: the adapted generator learns to draw, from the same codes, what the operator makes of the
base generator's picture. The coarsest convolutions stay; only differences of weights are stored, so
that they can be added to a generator tuned on a clip. To survive that tuning, the look is learned on
several generators at once: the base, and copies of it tuned on a few pictures of one training person
each. A look without colours has RGB outputs of its own, the same for all channels, which replace
those of the generator instead of being added: what tuning taught them about colour must go.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.filters import bilateral_blur, gaussian_blur2d
from torch import Tensor
from torch.func import functional_call
from train_autoencoder import read_faces

from tempcons.family import generator_from_asset
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import load_asset, save_asset

FIRST_TRAINED_LAYER = 3  # convolutions from 16 px up


def pencil_sketch(picture: Tensor) -> Tensor:
    """Gray pencil on paper: shading by a dodge blend, contours by a difference of Gaussians."""
    gray = rgb_to_grayscale((picture + 1) / 2)
    soft = gaussian_blur2d(gray, (31, 31), (6.0, 6.0), border_type="replicate")
    shading = (gray / (soft + 0.05)).clamp(0, 1).pow(1.5)
    narrow = gaussian_blur2d(gray, (9, 9), (0.8, 0.8), border_type="replicate")
    wide = gaussian_blur2d(gray, (13, 13), (1.6, 1.6), border_type="replicate")
    contour = 1 + torch.tanh(((narrow - 0.985 * wide) - 0.002).clamp(max=0) * 30)
    tone = 0.30 + 0.70 * torch.sigmoid((gray - 0.30) * 7)
    drawing = (0.55 * shading + 0.45 * tone) * contour
    paper = torch.tensor([1.0, 0.985, 0.955], device=picture.device).view(1, 3, 1, 1)
    return (drawing * paper).clamp(0, 1) * 2 - 1


def cartoon(picture: Tensor) -> Tensor:
    """Smooth, warm and saturated: edges kept, texture gone, a lifted and stretched tone curve."""
    x = (picture + 1) / 2
    for _ in range(2):
        x = bilateral_blur(x, (7, 7), 0.12, (2.5, 2.5), border_type="replicate")
    gray = rgb_to_grayscale(x)
    skin = torch.cat([0.16 + 0.92 * gray, 0.02 + 0.86 * gray.pow(1.15), 0.03 + 0.78 * gray.pow(1.35)], 1)
    saturated = gray + 1.6 * (x - gray)
    x = 0.5 * saturated + 0.5 * skin
    x = x + 0.5 * (x - gaussian_blur2d(x, (21, 21), (4.0, 4.0), border_type="replicate"))
    return ((x - 0.5) * 1.25 + 0.56).clamp(0, 1) * 2 - 1


def read_identities(labels: Path) -> np.ndarray:
    """(N,) person of every picture, in the order of the pictures."""
    with labels.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    return np.array([int(row["identity"]) for row in rows])


@dataclass(frozen=True)
class Look:
    """An image operator, and whether it draws without colours."""

    operator: Callable[[Tensor], Tensor]
    gray: bool


LOOKS = {"sketch": Look(pencil_sketch, gray=True), "pixar": Look(cartoon, gray=False)}


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

    def applied(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the adapted generator."""
        replaced = set(self.replaced)
        changed = {n: v if n in replaced else weights[n] + v for n, v in self.tensors().items()}
        return weights | changed


def tuned_variants(
    base: Generator, encoder: FaceEncoder, pictures: np.ndarray, persons: np.ndarray, count: int, steps: int
) -> list[dict[str, Tensor]]:
    """Weights of the base, and of copies tuned on 8 pictures each of the persons with most pictures."""
    variants = [{k: v.detach() for k, v in base.named_parameters()}]
    names, sizes = np.unique(persons, return_counts=True)
    for person in names[np.argsort(-sizes, kind="stable")][:count]:
        x = torch.from_numpy(pictures[persons == person][:8]).float() / 127.5 - 1
        with torch.no_grad():
            codes = encoder(x)
        copied = copy.deepcopy(base).requires_grad_(True)
        optimiser = torch.optim.Adam([p for n, p in copied.named_parameters() if "noise" not in n], lr=3e-3)
        for _ in range(steps):
            at = torch.randperm(len(x))[:4]
            loss = (copied.synthesis(codes[at]) - x[at]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(
            json.dumps({"tuned": len(variants), "pictures": len(x), "mse": round(loss.item(), 4)}), flush=True
        )
        variants.append({k: v.detach() for k, v in copied.named_parameters()})
    return variants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--look", choices=sorted(LOOKS), required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--persons", type=int, default=4, help="generators tuned on a person, beside the base"
    )
    parser.add_argument("--tuning-steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    base_asset, encoder_asset = load_asset("generator", "generator"), load_asset("encoder", "encoder")
    base = generator_from_asset(base_asset)
    encoder = FaceEncoder(**encoder_asset.config["encoder"])
    encoder.load_state_dict(encoder_asset.tensors)
    encoder.requires_grad_(False).eval()
    pictures, held, _ = read_faces(args.faces, args.labels)
    persons = read_identities(args.labels)
    train, test = pictures[~held], pictures[held][:64]
    variants = tuned_variants(base, encoder, train, persons[~held], args.persons, args.tuning_steps)
    look, distance = LOOKS[args.look], Lite0Distance()
    adaptation, synthesis = Adaptation(base, look.gray), Synthesis(base.requires_grad_(False))
    optimiser = torch.optim.Adam(adaptation.parameters(), lr=args.lr, betas=(0.9, 0.99))
    began = time.time()
    for step in range(args.steps):
        rate = min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = args.lr * max(rate, 0.01)
        weights = variants[step % len(variants)]
        x = torch.from_numpy(train[torch.randint(len(train), (args.batch,)).numpy()]).float() / 127.5 - 1
        with torch.no_grad():
            # Between a face and another, so that codes moved by edits are drawn well too.
            codes = encoder(x)
            codes = codes + 0.3 * torch.rand(len(x), 1, 1) * (codes.roll(1, 0) - codes)
            wanted = look.operator(synthesis.with_weights(weights, codes).clamp(-1, 1))
        drawn = synthesis.with_weights(adaptation.applied(weights), codes)
        loss = (drawn - wanted).abs().mean() + 2 * (drawn - wanted).square().mean()
        loss = loss + 0.1 * distance(drawn.clamp(-1, 1), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adaptation.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step + 1 == args.steps:
            seconds = round(time.time() - began)
            print(json.dumps({"step": step, "seconds": seconds, "loss": round(loss.item(), 4)}), flush=True)
    with torch.no_grad():
        codes = encoder(torch.from_numpy(test).float() / 127.5 - 1)
        wanted = look.operator(synthesis(codes).clamp(-1, 1))
        drawn = synthesis.with_weights(adaptation.applied(variants[0]), codes).clamp(-1, 1)
        psnr = -10 * torch.log10(F.mse_loss(drawn, wanted) / 4)
    print(json.dumps({"held_out_psnr_to_operator_db": round(psnr.item(), 2)}))
    about = {"look": args.look, "base": base_asset.record["sha256"], "replaced": adaptation.replaced}
    licence = base_asset.record["licence"]
    save_asset(args.out, adaptation.tensors(), "generator_difference", about, licence)


if __name__ == "__main__":
    main()
