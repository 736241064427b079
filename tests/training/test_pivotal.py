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
from tempcons.losses.local_detail import sharpness_loss
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


def moved(generator: Generator) -> set[str]:
    """Names of the weights that differ from the base's."""
    before = tiny_edited().generator.state_dict()
    return {name for name, value in generator.state_dict().items() if not torch.equal(value, before[name])}


def test_layers_below_the_first_stay_as_they_were(tmp_path):
    whole = moved(tuned(tmp_path / "whole", steps=2))
    assert {"input.input", "conv1.conv.weight", "to_rgb1.bias", "convs.0.conv.weight"} <= whole
    assert not any(name.startswith("style.") for name in whole)
    upper = moved(tuned(tmp_path / "upper", steps=2, first_layer=1))
    low = ("input.", "conv1.", "to_rgb1.")
    assert upper == {name for name in whole if not name.startswith(low)}


def test_a_first_layer_that_the_generator_has_not_is_refused():
    edited = tiny_edited()
    layers = edited.generator.num_noises
    PivotalTuning(edited.generator, TinyDistance(), PivotalConfig(first_layer=layers - 1))
    with pytest.raises(ConfigError, match=f"first_layer = {layers}, but the generator has {layers} layers"):
        PivotalTuning(edited.generator, TinyDistance(), PivotalConfig(first_layer=layers))


def test_layers_of_styles_have_a_rate_of_their_own():
    """Adam's first step moves every weight by its rate, or not at all where nothing depends on it."""
    edited = tiny_edited()
    config = PivotalConfig(lr=1e-3, modulation_rate=3.0, beta2=0.9, schedule="constant", steps=1)
    module = PivotalTuning(edited.generator, TinyDistance(), config)
    options: Any = module.configure_optimizers()
    optimiser = options["optimizer"]
    assert all(group["betas"] == (0.9, 0.9) for group in optimiser.param_groups)
    before = state_copy(module.generator)
    frames = edited.aligned.pictures(slice(0, 2))
    (module.generator.synthesis(edited.codes[:2]) - frames).square().mean().backward()
    optimiser.step()
    steps = {n: (w - before[n]).abs().max().item() for n, w in module.generator.named_parameters()}
    learnt = {name for name, step in steps.items() if step}
    assert {"conv1.conv.weight", "conv1.conv.modulation.weight", "to_rgb1.bias"} <= learnt
    for name in learnt:
        wanted = 3e-3 if ".modulation." in name else 1e-3
        assert steps[name] == pytest.approx(wanted, rel=0.05), name


def test_the_sharpness_loss_brings_local_detail(tmp_path):
    edited = tiny_edited()
    frames = edited.aligned.pictures(slice(0, FRAMES))

    def missing(generator: Generator) -> float:
        with torch.no_grad():
            return sharpness_loss(generator.synthesis(edited.codes), frames).item()

    plain, sharp = (missing(tuned(tmp_path / str(w), lambda_sharp=w)) for w in (0.0, 3.0))
    assert sharp < 0.8 * plain


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
    "beta2": 1.0,
    "modulation_rate": 0.0,
    "first_layer": -1,
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
