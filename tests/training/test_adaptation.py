"""Adapting a generator to a text, with a small stand-in for CLIP, and with CLIP's own code at small size."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from small_family import colour_model, one_edit, quick, small_clip, small_family, stacked, write_official
from tiny import CPU, sample_codes, state_copy, tiny_generator

from tempcons.check import ConfigError, WeightsError
from tempcons.edits.config import AdaptConfig, EditConfig
from tempcons.losses.text_direction import SHORTEST, directional_loss, global_loss
from tempcons.stages import adapt, edit
from tempcons.store.artefact import Store
from tempcons.training.adaptation import GeneratorAdaptation, code_loader
from tempcons.training.fit import fit
from tempcons.weights import registry

TEXTS = ("green", "red")


def unit(*values: float) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(values).float(), dim=0)


def test_directional_loss_is_the_angle_between_the_changes():
    before, direction = unit(1, 0, 0)[None], unit(0, 1, 0)
    for way, wanted in ((1.0, 0.0), (-1.0, 2.0)):
        assert directional_loss(before, before + way * direction, direction).item() == pytest.approx(wanted)
    assert directional_loss(before, before + unit(0, 0, 1), direction).item() == pytest.approx(1.0)


def test_directional_loss_is_tame_where_nothing_has_changed_yet():
    before = unit(1, 2, 3)[None]
    after = before.clone().requires_grad_(True)
    loss = directional_loss(before, after, unit(0, 1, 0))
    loss.backward()
    assert loss.item() == 1.0 and after.grad is not None
    assert after.grad.norm().item() == pytest.approx(1 / SHORTEST, rel=1e-4)


def test_global_loss_is_the_angle_to_the_text():
    features = torch.stack([unit(1, 0), unit(0, 1)])
    assert global_loss(features, unit(1, 0)).item() == pytest.approx(0.5)


def module(config: AdaptConfig, seed: int = 0) -> GeneratorAdaptation:
    return GeneratorAdaptation(tiny_generator(), [(colour_model(), 1.0)], TEXTS, sample_codes, config, seed)


def adaptation(folder, config: AdaptConfig, *callbacks: pl.Callback, epochs: int = 2) -> GeneratorAdaptation:
    made = module(config)
    loader = code_loader(sample_codes, config, 0)
    fit(made, loader, folder, CPU, "adapting", epochs=epochs, steps=config.steps, callbacks=callbacks)
    return made


def redness(generator) -> float:
    with torch.no_grad():
        picture = generator.synthesis(sample_codes(8, torch.Generator().manual_seed(5))).clamp(-1, 1)
    return (picture[:, 0] - picture[:, 1]).mean().item()


@pytest.mark.parametrize("loss", ["lambda_direction", "lambda_global"])
def test_pictures_go_where_the_text_goes(tmp_path, loss):
    other = {"lambda_direction", "lambda_global"} - {loss}
    made = adaptation(tmp_path, quick(steps=40, **{loss: 1.0, other.pop(): 0.0}), epochs=1)
    assert redness(made.generator) > redness(tiny_generator()) + 0.05


def test_constant_and_convolutions_change_and_nothing_else(tmp_path):
    made = adaptation(tmp_path, quick(), epochs=1)
    assert all(torch.equal(v, tiny_generator().state_dict()[k]) for k, v in state_copy(made.frozen).items())
    changed = set(made.differences())
    assert {"input.input", "conv1.conv.weight", "convs.5.conv.weight"} <= changed
    assert not [name for name in changed if name.startswith(("style.", "to_rgb", "noises."))]


class StopAt(pl.Callback):
    """Stops a fit in its second epoch, as Ctrl-C would."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_stopped_adaptation_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempcons.training.adaptation.STEPS_AN_EPOCH", 3)
    config = quick(layers=2)
    unbroken = adaptation(tmp_path / "unbroken", config)
    with pytest.raises(KeyboardInterrupt):
        adaptation(tmp_path / "broken", config, StopAt())
    resumed = adaptation(tmp_path / "broken", config)
    wanted, got = unbroken.differences(), resumed.differences()
    assert wanted.keys() == got.keys() and all(torch.equal(got[k], v) for k, v in wanted.items())


class Trained(pl.Callback):
    """Which convolutions have a gradient in each step."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        grads = [c.conv.weight.grad is not None for c in pl_module.convolutions()]
        assert pl_module.generator.input.input.grad is None
        self.seen.append([i for i, has in enumerate(grads) if has])


def test_only_so_many_layers_are_trained_in_a_step(tmp_path):
    trained = Trained()
    adaptation(tmp_path, quick(layers=2), trained, epochs=1)
    assert len(trained.seen) == 6 and all(len(layers) == 2 for layers in trained.seen)


@pytest.mark.parametrize("row", [0, 3])
def test_the_layers_chosen_are_those_whose_codes_the_text_moves(row):
    made = module(quick(layers=1))
    made.on_fit_start()
    layers = made.convolutions()
    for block in [*layers, made.generator.to_rgb1, *made.generator.to_rgbs]:
        if block is not layers[row]:  # the others do not listen to their codes
            torch.nn.init.zeros_(block.conv.modulation.weight)
    assert made.moved_layers(1) == [row]


def test_no_change_between_texts_is_an_error():
    with pytest.raises(WeightsError, match="no change from 'yellow' to 'white'"):
        colour_model().direction("yellow", "white")


# The stage


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(adapt, "load_clip", lambda path: colour_model())
    write_official(tmp_path, {registry.entry("clip-vit-b-32").file: torch.zeros(1)})
    return Store(tmp_path / "cache")


def by_text(target: str = "red", **changes) -> EditConfig:
    told: dict[str, Any] = {"source": "green", "target": target, "training": quick()}
    return one_edit("text", name="nada_text", **told | changes)


def edited(config: EditConfig, store: Store, seed: int = 0):
    family = small_family()
    latents, aligned = small_clip(family)
    return edit.run(latents, aligned, family, config, None, store, CPU, seed)


def test_the_trained_generator_is_kept_and_renders_the_edit(store):
    first = edited(by_text(), store)
    assert first.domain == "out" and torch.equal(first.codes, small_clip(small_family())[0].codes)
    assert redness(first.generator) > redness(tiny_generator())
    info = store.info(next(store.root.glob("edit/*/manifest.json")).parent)["weights"]
    assert [w["name"] for w in info] == ["nada_text", "clip-vit-b-32"]
    assert all(len(w["sha256"]) == 64 and w["licence"] for w in info)
    made = list(store.records)
    assert edited(by_text(), store).key == first.key and store.records == made
    half = edited(by_text(strength=0.5), store)
    base, whole, part = (g.conv1.conv.weight for g in (tiny_generator(), first.generator, half.generator))
    torch.testing.assert_close(part, (base + whole) / 2)
    assert [r["reused"] for r in store.records if r["stage"] == "adapt"] == [False]


def test_texts_settings_and_seed_are_part_of_its_key(store):
    keys = {
        edited(by_text(), store).key,
        edited(by_text("blue"), store).key,
        edited(by_text(training=quick(steps=5)), store).key,
        edited(by_text(), store, seed=1).key,
    }
    assert len(keys) == len(list(store.root.glob("adapt/*/manifest.json"))) == 4


def test_a_trained_generator_in_a_stack(store):
    alone, together = edited(by_text(), store), edited(stacked(by_text(), one_edit("sefa")), store)
    assert together.domain == "out" and not torch.equal(together.codes, alone.codes)
    assert torch.equal(together.generator.conv1.conv.weight, alone.generator.conv1.conv.weight)


def test_an_adaptation_that_diverges_is_refused(store):
    with pytest.raises(WeightsError, match=r"not finite.*edit\.training\.lr"):
        edited(by_text(training=quick(steps=3, lr=1e30)), store)


def test_without_the_package_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "open_clip" else find(name))
    with pytest.raises(WeightsError, match=re.escape("pip install 'tempcons[clip]'")):
        by_text().check_packages("embedded")
    one_edit("sefa").check_packages("embedded")  # others don't need it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"layers": 0}, "layers"),
        ({"layer_batch": 0}, "layer_batch"),
        ({"lr": float("nan")}, "lr"),
        ({"lambda_global": -1.0}, "lambda_global"),
        ({"lambda_direction": 0.0}, "no loss"),
        ({"clip": {}}, "clip names no network"),
        ({"clip": {"clip-vit-b-32": 0.0}}, "clip-vit-b-32 = 0"),
    ],
    ids=str,
)
def test_wrong_training_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        quick(**changes)


def tiny_clip_state() -> dict[str, torch.Tensor]:
    from open_clip.model import CLIP

    vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    return CLIP(8, vision, text, quick_gelu=True).state_dict()


@pytest.mark.slow
def test_clips_own_code_with_random_weights(tmp_path, monkeypatch):
    pytest.importorskip("open_clip", reason="the extra clip is not installed")
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    item = registry.entry("clip-vit-b-32")
    item.path.parent.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in tiny_clip_state().items()}, item.path)
    model = adapt.load_clip(item.path)
    assert model.size == 16
    shown = torch.rand(2, 3, 16, 16)
    own = model.network.encode_image((shown - model.mean) / model.std)
    torch.testing.assert_close(model.pictures(2 * shown - 1), torch.nn.functional.normalize(own, dim=1))
    assert model.prompted("a face").shape == (80, 8)
    torch.testing.assert_close(model.text("a face").norm(), torch.tensor(1.0))
    config = by_text(training=quick(steps=2, layers=2, lambda_global=1.0))
    result = edited(config, Store(tmp_path / "cache"))
    base = tiny_generator().state_dict()
    assert [k for k, v in result.generator.state_dict().items() if not torch.equal(v, base[k])]
