"""Edits of emotions: a mapper takes two steps and goes on, identity is fitted, and the table is written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_family import small_family
from tiny import STYLE_DIM, TinyDistance, tiny_generator

from experiments.composed import change_of
from experiments.zoo import evaluate_edits, faces, train_identity
from experiments.zoo.running import REPORTS, run
from experiments.zoo.train_classifier import EMOTIONS, EmotionNetwork
from experiments.zoo.train_identity import (
    discriminant,
    read_identity,
    several,
    verification,
    within_persons,
)
from experiments.zoo.train_mapper import MapperSettings, MapperTraining, spread_of
from experiments.zoo.tuned_faces import tuned_faces
from tempcons.check import InputError
from tempcons.edits.change import Change
from tempcons.models.face_encoder import FaceEncoder
from tempcons.weights.assets import read_asset, save_asset, save_state


@pytest.fixture
def encoder() -> FaceEncoder:
    found = FaceEncoder(tiny_generator().n_latent, STYLE_DIM, head_channels=2)
    return found.requires_grad_(False).eval()


def training(few_faces, encoder, folder, constant: bool = False) -> MapperTraining:
    generator, distance = tiny_generator(), TinyDistance()
    large = replace(few_faces, pictures=torch.nn.functional.interpolate(few_faces.pictures, 32))
    tuned = tuned_faces(generator, encoder, distance, large, 1, 2, folder)
    direction = 0.3 * torch.ones(generator.n_latent, STYLE_DIM)
    judge = EmotionNetwork(4, size=32).eval().requires_grad_(False)
    settings = MapperSettings("happiness", batch=2)
    return MapperTraining(large, encoder, generator, tuned, judge, distance, direction, settings, constant)


def test_a_mapper_starts_at_its_direction_takes_two_steps_and_goes_on(
    few_faces, encoder, two_steps, tmp_path
):
    module = training(few_faces, encoder, tmp_path / "tuned")
    module.warm_start(300)
    offset = module.mapper(module.testing)
    assert (offset - module.teacher).norm() < 0.3 * module.teacher.expand_as(offset).norm()
    tuned = (tmp_path / "tuned" / "tuned0.safetensors").stat().st_mtime_ns
    for expected in (2, 4):
        fixed = {k: v.clone() for k, v in module.fixed[0][0].state_dict().items()}
        before = [p.clone() for p in module.mapper.parameters()]
        run(module, two_steps, {})
        assert int(module.taken) == expected
        assert all(torch.equal(fixed[k], v) for k, v in module.fixed[0][0].state_dict().items())
        assert not all(torch.equal(a, b) for a, b in zip(before, module.mapper.parameters(), strict=True))
        module = training(few_faces, encoder, tmp_path / "tuned")
    assert (tmp_path / "tuned" / "tuned0.safetensors").stat().st_mtime_ns == tuned
    last = json.loads((two_steps.out / REPORTS).read_text().splitlines()[-1])
    assert last["offset"] > 0 and (two_steps.out / "sheet.png").exists()
    asset = read_asset(two_steps.out / "mapper.safetensors", "mapper")
    assert asset.config["mapper"] == module.mapper.config
    assert asset.config["label"] == "happiness"


def test_one_offset_for_all_faces_starts_at_the_direction_and_is_kept_as_one(
    few_faces, encoder, two_steps, tmp_path
):
    module = training(few_faces, encoder, tmp_path / "tuned", constant=True)
    torch.testing.assert_close(module.mapper(module.testing)[0], module.teacher)
    run(module, two_steps, {})
    kept = read_asset(two_steps.out / "direction.safetensors", "direction")
    assert kept.config["label"] == "happiness"
    moved = module.settings.strength * kept.tensors["direction"] - module.teacher
    assert 0 < moved.norm() < module.teacher.norm()


def test_points_are_centred_person_by_person():
    """Persons come in any order, with any number, and with different numbers of points."""
    points = torch.tensor([[1.0, 0.0], [10.0, 5.0], [3.0, 4.0], [5.0, 5.0]])
    inside, centres, count = within_persons(points, np.array([7, 2, 7, 7]))
    torch.testing.assert_close(centres, torch.tensor([[10.0, 5.0], [3.0, 3.0]]))
    assert count.tolist() == [1, 3]
    torch.testing.assert_close(inside, torch.tensor([[-2.0, -3.0], [0.0, 0.0], [0.0, 1.0], [2.0, 2.0]]))


def test_what_persons_differ_by_costs_less():
    random = torch.Generator().manual_seed(0)
    axis = torch.zeros(2, 8)
    axis[0, 0] = 1.0
    codes = torch.randn(400, 1, 1, generator=random) * axis
    codes = codes + 0.01 * torch.randn(400, 2, 8, generator=random)
    spread = spread_of(codes, np.repeat(np.arange(100), 4))
    assert spread.cost(axis[None]).item() == pytest.approx(1.0, rel=0.3)
    assert spread.cost(axis.flip(0)[None]).item() > 1e3


def test_an_embedded_mapper_moves_codes(tmp_path, monkeypatch, few_faces, encoder):
    module = training(few_faces, encoder, tmp_path / "tuned")
    monkeypatch.setattr("tempcons.weights.assets.ASSETS", tmp_path)
    monkeypatch.setattr("tempcons.edits.change.ASSETS", tmp_path)
    config = {"mapper": module.mapper.config}
    save_asset(tmp_path / "own.safetensors", module.mapper.state_dict(), "mapper", config, half=False)
    family = small_family()
    told = [
        "edit.sources.embedded={kind: mapper, weights: own}",
        "edit.refine_generator=0",
        "edit.strength=0.5",
    ]
    change = change_of("surprised", family, *told)
    codes = module.testing
    assert change.move is not None and change.records[0]["kind"] == "mapper"
    torch.testing.assert_close(change.move(codes), 0.5 * module.mapper(codes))


@torch.no_grad()
def test_identity_tells_persons_apart():
    random = torch.Generator().manual_seed(0)
    persons = np.repeat(np.arange(60), 4)
    own = torch.randn(60, 8, generator=random).repeat_interleave(4, 0)
    noise = 5 * torch.randn(240, 8, generator=random)
    features = torch.cat([own + 0.3 * torch.randn(240, 8, generator=random), noise], 1)
    mean, projection = discriminant(features[:160], persons[:160])
    found = verification((features[160:] - mean) @ projection, persons[160:])
    assert found["auc"] > 0.85 > verification(features[160:], persons[160:])["auc"] + 0.2
    assert found["same_person"] > found["two_persons"]


def test_identity_needs_persons_with_two_pictures(few_faces):
    alone = replace(few_faces, identity=np.arange(len(few_faces.identity)))
    with pytest.raises(InputError, match="two pictures"):
        several(alone, ~alone.held)


def test_identity_is_fitted_and_the_table_written(face_folder, tmp_path, monkeypatch, encoder):
    monkeypatch.setattr(train_identity, "Lite0Distance", lambda taps: TinyDistance())
    told = [f"--faces={face_folder}/pictures", f"--labels={tmp_path}/labels.csv", "--threads=1"]
    text = (face_folder / "labels.csv").read_text()
    for emotion in EMOTIONS:
        text = text.replace(f",{emotion}", ",neutral")
    lines = text.splitlines()
    head, rows = lines[0], [line.split(",") for line in lines[1:]]
    doubled = [",".join([row[0], str(at // 2), *row[2:]]) for at, row in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join([head, *doubled]) + "\n")
    monkeypatch.setattr(faces, "held_out", partial(faces.held_out, share=0.2))
    monkeypatch.setattr(sys, "argv", ["script", *told, f"--out={tmp_path}/identity.safetensors"])
    train_identity.main()
    assert read_asset(tmp_path / "identity.safetensors", "identity").config["held_out"]["pairs"] > 0

    family = small_family()
    clip = tmp_path / "invert"
    clip.mkdir()
    save_state(
        clip / "codes.safetensors", {"codes": torch.randn(3, family.generator.n_latent, STYLE_DIM)}, {}
    )
    save_state(clip / "generator.safetensors", family.generator.state_dict(), {})
    judge = EmotionNetwork(4, size=32)
    save_asset(tmp_path / "judge.safetensors", judge.state_dict(), "classifier", {"classifier": judge.config})
    monkeypatch.setattr(evaluate_edits, "load_family", lambda *_: replace(family, encoder=encoder))
    identity = read_identity(tmp_path / "identity.safetensors", TinyDistance())
    monkeypatch.setattr(evaluate_edits, "read_identity", lambda path: identity)
    move = Change([], move=torch.ones_like)
    monkeypatch.setattr(evaluate_edits, "change_of", lambda *_: move)
    more = [f"--classifier={tmp_path}/judge.safetensors", f"--identity={tmp_path}/identity.safetensors"]
    where = [f"--clip={clip}", f"--out={tmp_path}/out"]
    edits = ["--edits", "happy", "beard"]
    monkeypatch.setattr(sys, "argv", ["script", *told, *more[1:], *where, *edits])
    with pytest.raises(SystemExit):
        evaluate_edits.main()
    monkeypatch.setattr(sys, "argv", ["script", *told, *more, *where, *edits])
    evaluate_edits.main()
    table = json.loads((tmp_path / "out" / "edits.json").read_text())
    assert table["clip"]["pictures"] == 3 and table["held_out"]["pictures"] > 0
    for place in ("held_out", "clip"):
        for found in (table[place]["happy"], table[place]["beard"]):
            assert -1 <= found["identity_kept"] < 1 and found["distance"] > 0
        assert "flip_rate" in table[place]["happy"] and "flip_rate" not in table[place]["beard"]
        assert (tmp_path / "out" / f"{place}.png").exists()
