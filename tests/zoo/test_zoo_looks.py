"""Looks and drawn things are what they say, and the trainings that learn them leave edits that work."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny import TinyDistance, tiny_generator
from tiny_assets import write_assets

from experiments.zoo import faces, train_adapted, train_prop
from experiments.zoo.looks import FACE, LOOKS, SIDES, disc, ear_masks, plane, pull, swell
from experiments.zoo.props import PROPS, beard, glasses
from tempcons.check import InputError, WeightsError
from tempcons.edits.change import apply_difference
from tempcons.weights.assets import read_asset

SIZE = 64
POINTS = torch.tensor([FACE[name] for name in faces.POINTS])[None]


def picture(count: int = 2, size: int = SIZE) -> torch.Tensor:
    """(count, 3, size, size) smooth and colourful."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_is_a_picture_and_always_the_same(name):
    look, before = LOOKS[name], picture()
    drawn = look.operator(before)
    assert drawn.shape == before.shape and drawn.min() >= -1 and drawn.max() <= 1
    assert (drawn - before).abs().mean() > 0.05
    torch.testing.assert_close(drawn[1:], look.operator(before[1:]), rtol=0, atol=1e-5)
    spread = (drawn.amax(1) - drawn.amin(1)).mean()
    assert (spread < 0.1) == look.gray


def test_nothing_pulled_is_the_same_picture():
    nowhere = torch.zeros(SIZE, SIZE)
    torch.testing.assert_close(pull(picture(), nowhere, nowhere), picture(), rtol=0, atol=1e-5)


def test_swelling_enlarges_what_is_there_alone():
    spot = disc(picture(1), FACE["eye_left"], (0.05, 0.05)).expand(1, 3, -1, -1) * 2 - 1
    larger = pull(spot, *swell(spot, FACE["eye_left"], (0.1, 0.1), 0.5))
    assert (larger > 0).sum() > 1.3 * (spot > 0).sum()
    elsewhere = pull(spot, *swell(spot, FACE["eye_right"], (0.05, 0.05), 0.5))
    torch.testing.assert_close(elsewhere, spot, rtol=0, atol=1e-2)


def test_ears_are_beside_the_face_and_point_up():
    left, right = (ear_masks(picture(1), side)[0] for side in SIDES)
    torch.testing.assert_close(left, right.flip(1), rtol=0, atol=1e-4)
    x, y = plane(picture(1))
    assert (x[right > 0.5] > 0.7).all()
    high, low = (x[(right > 0.5) & part].mean() for part in (y < 0.3, y > 0.4))
    assert high > low
    ear, hollow = ear_masks(picture(1), 1)
    assert (ear[hollow > 0.5] > 0.5).float().mean() > 0.9


def test_the_zombie_is_green_and_its_sockets_dark():
    drawn = LOOKS["zombie"].operator(torch.full((1, 3, SIZE, SIZE), 0.5))
    red, green, blue = drawn[0].mean(dim=(1, 2))
    assert green > red and green > blue
    x, y = plane(drawn)
    ring = disc(drawn, FACE["eye_left"], (0.13, 0.10)) * (1 - disc(drawn, FACE["eye_left"], (0.07, 0.06)))
    assert drawn.mean(1)[0][ring > 0.5].mean() < drawn.mean(1)[0][(x > 0.4) & (x < 0.6) & (y < 0.2)].mean()


@pytest.mark.parametrize("name", PROPS)
def test_a_thing_is_drawn_at_the_landmarks(name):
    before = picture(1)
    moved = POINTS + torch.tensor([0.0625, 0.0])
    one, other = ((PROPS[name](before, at) - before).abs().amax(1) > 0.1 for at in (POINTS, moved))
    assert 0.01 < one.float().mean() < 0.4
    shifted = torch.roll(one, round(0.0625 * SIZE), dims=2)
    assert (shifted[..., 8:-8] & other[..., 8:-8]).sum() > 0.5 * other[..., 8:-8].sum()


def test_glasses_are_at_the_eyes_and_a_beard_is_below_the_nose():
    before = picture(1)
    _, y = plane(before)
    for prop, free in ((glasses, y > 0.55), (beard, y < 0.45)):
        change = (prop(before, POINTS) - before).abs().amax(1)[0]
        assert change[free].max() < 0.06 < change[~free].max()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Tiny assets, and eight faces with landmarks and labels."""
    assets = write_assets(tmp_path / "assets")
    for module in (train_adapted, train_prop):
        monkeypatch.setattr(module, "ASSETS", assets)
        monkeypatch.setattr(module, "Lite0Distance", TinyDistance)
    (tmp_path / "faces").mkdir()
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "identity", *(f"{p}_{a}" for p in faces.POINTS for a in "xy")])
        for at, each in enumerate(picture(60, 32)):
            path = tmp_path / "faces" / f"{at:02d}.png"
            cv2.imwrite(str(path), ((each.permute(1, 2, 0) + 1) * 127.5).numpy()[..., ::-1])
            writer.writerow([path.name, at // 2, *np.round(POINTS[0].flatten().numpy() * 128 - 0.5, 1)])
    return tmp_path


@pytest.fixture
def told(place, monkeypatch, capsys) -> Callable[..., list[dict[str, Any]]]:
    """Runs a script on the faces with options, and gives the lines it printed."""

    def run(module: ModuleType, *options: str) -> list[dict[str, Any]]:
        call = ["script", "--faces", f"{place}/faces", "--labels", f"{place}/labels.csv", "--threads", "1"]
        files = ["--out", f"{place}/out.safetensors", "--sheet", f"{place}/sheet.png"]
        monkeypatch.setattr(sys, "argv", [*call, *files, *options])
        with torch.random.fork_rng():
            module.main()
        assert (place / "sheet.png").is_file()
        return [json.loads(row) for row in capsys.readouterr().out.splitlines()]

    return run


@pytest.mark.parametrize("look", ["zombie", "sketch"])
def test_an_adapted_generator_comes_nearer_to_its_look(place, told, look):
    options = ("--look", look, "--steps", "60", "--persons", "1", "--tuning-steps", "2")
    rows = told(train_adapted, *options)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.8 * losses[0] and "held_out_psnr_to_operator_db" in rows[-1]
    asset = read_asset(place / "out.safetensors", "generator_difference")
    assert asset.config["look"] == look and bool(asset.config["replaced"]) == LOOKS[look].gray
    apply_difference(tiny_generator(), asset, 1.0)


@pytest.mark.parametrize("look", ["zombie", "sketch"])
def test_an_adaptation_goes_on_from_another_and_from_its_own_kind_alone(place, told, look):
    few = ("--persons", "0", "--steps", "30")
    first = told(train_adapted, "--look", look, *few)
    (place / "out.safetensors").rename(place / "start.safetensors")
    second = told(train_adapted, "--look", look, *few, "--start", f"{place}/start.safetensors")
    assert second[0]["loss"] < 0.9 * first[0]["loss"]
    other = {"zombie": "sketch", "sketch": "zombie"}[look]
    with pytest.raises(WeightsError, match="leave --start out"):
        told(train_adapted, "--look", other, *few, "--start", f"{place}/start.safetensors")


def test_a_direction_draws_what_was_drawn(place, told):
    rows = told(train_prop, "--prop", "beard", "--steps", "60", "--encoded", "8")
    assert rows[-2]["loss"] < 0.9 * rows[0]["loss"] and rows[-1]["held_out"]["drawn_share"] > 0.1
    asset = read_asset(place / "out.safetensors", "direction")
    assert asset.config["label"] == "beard" and asset.tensors["direction"].shape == (8, 16)


def test_coloured_faces_come_first(few_faces):
    order = train_prop.coloured_first(few_faces, ~few_faces.held).numpy()
    assert set(order) == set(np.flatnonzero(~few_faces.held))
    assert (np.diff(few_faces.colour[order].astype(int)) <= 0).all() and not few_faces.colour[order[-1]]


def test_faces_without_landmarks_can_not_be_drawn_on(few_faces):
    points = torch.full((len(few_faces.held), 5, 2), float("nan"))
    unknown = replace(few_faces, points=points)
    with pytest.raises(InputError, match="eye_left_x"):
        train_prop.with_points(unknown, ~unknown.held)
