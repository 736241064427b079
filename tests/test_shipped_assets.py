"""The weights that come with the package: light, each with licence and card; the refiner does its work."""

from __future__ import annotations

import pytest
import torch
from composed import parsed
from safetensors import safe_open
from torch import Tensor

from experiments.zoo.flow_truth import clip_frames
from tempcons.family import Family, load_family
from tempcons.media.read import demo_clip
from tempcons.weights.assets import ASSETS, list_assets

MEGABYTES = 45
# Centre square of the clip that the face fills, and its share of the shorter side.
SIZE, FACE = 128, 0.5


def test_all_together_they_are_light():
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < MEGABYTES * 1e6


@pytest.mark.parametrize("name", list_assets())
def test_each_names_its_licence_and_card(name):
    with safe_open(str(ASSETS / f"{name}.safetensors"), "pt") as file:
        header = file.metadata()
    assert header is not None and "Apache-2.0" in header["licence"]
    assert header["card"] == f"{name}.md" and len((ASSETS / header["card"]).read_text()) > 100


def error(family: Family, pictures: Tensor) -> float:
    """Mean squared difference of pictures and their reconstructions."""
    assert family.encoder is not None
    return (family.generator.synthesis(family.encoder(pictures)) - pictures).square().mean().item()


@torch.no_grad()
def test_every_pass_of_the_refiner_brings_unseen_frames_nearer():
    pictures = clip_frames(demo_clip(), 4, SIZE, FACE)
    cpu = torch.device("cpu")
    families = [load_family(parsed().family, cpu)]
    for passes in (1, 2, 3):
        config = parsed("inversion=refined", f"family.refiner_passes={passes}")
        families.append(load_family(config.family, cpu, config.inversion.encoder))
    errors = [error(family, pictures) for family in families]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.85 * errors[0]
