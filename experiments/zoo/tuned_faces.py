"""Copies of the generator tuned to one face each, as pivotal tuning does to a clip: edits must outlive it."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.zoo.augment import input_changes
from experiments.zoo.faces import Faces, to_range
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import load_state, save_state

VIEWS, BATCH = 8, 4
RATE, SQUARED, PERCEPTUAL = 4e-3, 30.0, 0.05  # conf/inversion/pti.yaml


@dataclass(frozen=True)
class TunedFace:
    """A generator that knows a face, and the codes (n, L, D) of the views it was tuned on."""

    generator: Generator
    codes: Tensor


def chosen_faces(found: Faces, count: int) -> Tensor:
    """(count, 3, S, S) uint8 training faces, coloured ones as far as there are any."""
    for flags in (~found.held & found.colour, ~found.held):
        if flags.sum() >= count:
            return found.chosen(flags)[:count]
    return found.training[:count]


def tune(
    base: Generator, encoder: FaceEncoder, distance: FeatureDistance, face: Tensor, steps: int
) -> TunedFace:
    """Tune a copy on shifted, turned and mirrored views of a face (1, 3, S, S) in [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    views = input_changes(face.expand(VIEWS, -1, -1, -1), torch.zeros(VIEWS, dtype=torch.bool), random, 2.0)
    with torch.no_grad():
        codes = encoder(views)
    tuned = copy.deepcopy(base).requires_grad_(True)
    optimiser = torch.optim.Adam([p for n, p in tuned.named_parameters() if "noise" not in n], lr=RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        at = torch.randperm(VIEWS, generator=random)[:BATCH]
        drawn = tuned.synthesis(codes[at])
        loss = SQUARED / 4 * (drawn - views[at]).square().mean()
        loss = loss + PERCEPTUAL * distance(drawn.clamp(-1, 1), views[at]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        error = ((tuned.synthesis(codes).clamp(-1, 1) - views) / 2).square().mean()
    print(json.dumps({"tuned_psnr_db": round(-10 * math.log10(max(error.item(), 1e-12)), 2)}), flush=True)
    return TunedFace(tuned.requires_grad_(False).eval(), codes)


def tuned_faces(
    base: Generator,
    encoder: FaceEncoder,
    distance: FeatureDistance,
    found: Faces,
    count: int,
    steps: int,
    folder: Path,
) -> list[TunedFace]:
    """``count`` tuned copies, kept in ``folder`` and read from there where they were made before."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned = []
    for at, face in enumerate(chosen_faces(found, count)):
        path = folder / f"tuned{at}.safetensors"
        if not path.exists():
            made = tune(base, encoder, distance, to_range(face[None]), steps)
            save_state(path, {**made.generator.state_dict(), "codes": made.codes}, {})
        tensors, _ = load_state(path)
        generator, codes = copy.deepcopy(base), tensors.pop("codes")
        generator.load_state_dict(tensors)
        tuned.append(TunedFace(generator, codes))
    return tuned
