"""Pivotal tuning: its local regularisation, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CPU, FRAMES, TinyDistance, sample_codes, state_copy, tiny_edited
from torch.utils.data import DataLoader

from tempcons.check import ConfigError
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import InversionConfig
from tempcons.training.fit import fit
from tempcons.training.pivotal import FrameDataset, PivotalConfig, PivotalTuning, frame_loader
from tempcons.training.projection import ProjectionConfig

DISTANCE = 2.0


def tuned(folder: Path, **changes) -> Generator:
    edited = tiny_edited()
    config = PivotalConfig(**{"steps": 30, "batch": 1, "lr": 5e-3, "lambda_l2": 1.0} | changes)
    surroundings = (sample_codes, DISTANCE) if config.lambda_r else None
    module = PivotalTuning(edited.generator, TinyDistance(), config, surroundings, seed=3)
    before = state_copy(edited.generator)
    fit(module, frame_loader(edited.codes, edited.aligned, config, 0), folder, CPU, "pti", "psnr_db", 1)
    now = edited.generator.state_dict()
    assert all(torch.equal(now[k], v) for k, v in before.items())  # the base stays
    return module.generator


@torch.no_grad()
def drift(generator: Generator) -> float:
    """Mean squared change of the pictures near the pivots."""
    edited = tiny_edited()
    away = torch.randn(edited.codes.shape, generator=torch.Generator().manual_seed(9))
    codes = edited.codes + DISTANCE * away / away.flatten(1).norm(dim=1).view(-1, 1, 1)
    pictures = (generator.synthesis(codes, "none"), edited.generator.synthesis(codes, "none"))
    return (pictures[0] - pictures[1]).square().mean().item()


def test_local_regularisation_keeps_the_generator_near_the_pivots(tmp_path):
    free = tuned(tmp_path / "free")
    held = tuned(tmp_path / "held", lambda_r=100.0, lambda_r_l2=1.0)
    assert drift(held) < 0.5 * drift(free)


def test_regularised_every_few_steps_is_another_tuning(tmp_path):
    often, seldom = (tuned(tmp_path / str(n), lambda_r=1.0, regularise_every=n) for n in (1, 4))
    assert not torch.equal(often.conv1.conv.weight, seldom.conv1.conv.weight)


@pytest.mark.parametrize(("limit", "steps"), [(1.0, FRAMES), (99.0, 3 * FRAMES)])
def test_tuning_stops_early_once_the_clip_is_reconstructed_well_enough(tmp_path, limit, steps):
    edited = tiny_edited()
    config = PivotalConfig(steps=3 * FRAMES, batch=1, lr=1e-3, stop_psnr_db=limit)
    module = PivotalTuning(edited.generator, TinyDistance(), config)
    one_pass = DataLoader(FrameDataset(edited.codes, edited.aligned, 1))
    assert fit(module, one_pass, tmp_path, CPU, "pti", "psnr_db", epochs=3).global_step == steps


def test_its_checkpoint_holds_the_generator_alone(tmp_path):
    tuned(tmp_path, steps=2, lambda_r=1.0)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state and all(name.startswith("generator.") for name in state)


def test_it_needs_to_know_where_to_look():
    edited = tiny_edited()
    module = PivotalTuning(edited.generator, TinyDistance(), PivotalConfig(lambda_r=1.0))
    with pytest.raises(ConfigError, match="nowhere to look"):
        module.local_regularisation(edited.codes)


def test_the_sampler_is_part_of_the_key_only_where_it_is_read():
    off = InversionConfig("pti", "e4e")
    on = dataclasses.replace(off, pivotal=PivotalConfig(lambda_r=1.0))
    assert (off.regularised, on.regularised) == (False, True)
    assert not dataclasses.replace(on, name="e4e").regularised
    assert on.depends() != off.depends()


WRONG: dict[str, Any] = {
    "steps": 0,
    "batch": 0,
    "lr": 0.0,
    "lambda_l2": -1.0,
    "lambda_perceptual": float("nan"),
    "lambda_r": -0.1,
    "lambda_r_l2": float("inf"),
    "lambda_r_perceptual": -1.0,
    "regularise_every": 0,
    "stop_psnr_db": 0.0,
    "schedule": "cosin",
}


@pytest.mark.parametrize("name", WRONG)
def test_pivotal_settings_are_checked_one_by_one(name):
    with pytest.raises(ConfigError, match=rf"inversion\.pivotal\.{name} = "):
        PivotalConfig(**{name: WRONG[name]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch", -1),
        ("size", 0),
        ("lr", -0.1),
        ("rise", -1.0),
        ("fall", 2.0),
        ("lambda_l2", float("nan")),
    ],
)
def test_projection_settings_are_checked_one_by_one(name, value):
    with pytest.raises(ConfigError, match=rf"inversion\.projection.*{name}"):
        ProjectionConfig(**{name: value})


def test_a_tuning_without_a_loss_is_refused():
    for kind in (PivotalConfig, ProjectionConfig):
        with pytest.raises(ConfigError, match="no loss"):
            kind(lambda_l2=0.0, lambda_perceptual=0.0)
