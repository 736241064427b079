"""Every kind of edit, from its file to the moved codes or the changed generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_family import colour_model, one_edit, small_clip, small_family, write_official
from tiny import CPU, STYLE_DIM, tiny_generator

from tempcons.check import ConfigError, WeightsError
from tempcons.edits import change
from tempcons.edits.change import apply_all, load_change
from tempcons.edits.config import EditConfig
from tempcons.edits.directions import sefa_directions
from tempcons.edits.style_space import style_channels, style_spread
from tempcons.models.latent_transformer import LatentTransformer
from tempcons.models.stylegan2 import Generator
from tempcons.stages import edit
from tempcons.store.artefact import Store
from tempcons.weights import registry


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def applied(config: EditConfig, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, Generator]:
    """Codes before and after, and the generator after."""
    family = small_family("ffhq")
    latents, _ = small_clip(family)
    found = load_change(config, config.source_in("ffhq"), "ffhq", family.generator, strength)
    return latents.codes, *apply_all([found], latents.codes, latents.generator)


@torch.no_grad()
def test_sefa_goes_along_the_component_asked_for():
    codes, moved, _ = applied(one_edit("sefa", component=2, rows=[1, 2]), strength=3.0)
    wanted = 3 * sefa_directions(small_family().generator, [1, 2], 3)[2]
    torch.testing.assert_close(moved - codes, wanted.expand_as(codes))


@torch.no_grad()
def test_ganspace_goes_along_the_component_asked_for(cache):
    file = registry.entry("ganspace-ffhq").file
    write_official(cache, {file: {"comp": torch.eye(STYLE_DIM)[:3], "std": torch.tensor([1.0, 2.0, 4.0])}})
    codes, moved, _ = applied(one_edit("ganspace", "ganspace-ffhq", component=1, rows=[0]))
    assert (moved - codes)[:, 0, 1].tolist() == pytest.approx([2.0] * len(codes), abs=1e-5)
    assert (moved - codes).abs().sum() == pytest.approx(2.0 * len(codes), abs=1e-3)


@torch.no_grad()
def test_latent_transformer_moves_codes_by_its_coefficient(cache):
    generator = small_family().generator
    network = LatentTransformer(generator.n_latent, STYLE_DIM)
    name = "latent-transformer-smiling"
    write_official(cache, {registry.entry(name).file: network.state_dict()})
    codes, moved, _ = applied(one_edit("transformer", name), strength=0.5)
    torch.testing.assert_close(moved, network(codes, torch.full((len(codes),), 0.5)))


@torch.no_grad()
def test_a_style_direction_changes_the_pictures_and_leaves_the_codes(tmp_path):
    generator = small_family().generator
    np.save(tmp_path / "s.npy", np.ones(style_channels(generator, False)))
    codes, moved, shifted = applied(one_edit("style", str(tmp_path / "s.npy")), strength=0.5)
    assert torch.equal(moved, codes)
    bias = "conv1.conv.modulation.bias"
    torch.testing.assert_close(shifted.state_dict()[bias], generator.state_dict()[bias] + 0.5)
    np.save(tmp_path / "s.npy", np.full(7, np.nan))
    with pytest.raises(WeightsError, match="finite"):
        applied(one_edit("style", str(tmp_path / "s.npy")))


@torch.no_grad()
def test_a_style_direction_from_two_texts(cache, monkeypatch):
    monkeypatch.setattr(change, "load_clip", lambda path: colour_model())
    generator = small_family().generator
    relevance = np.zeros((style_channels(generator, False), 6), np.float32)
    relevance[3] = (colour_model().text("red") - colour_model().text("green")).numpy()
    write_official(cache, {registry.entry("styleclip-global-directions").file: relevance})
    write_official(cache, {registry.entry("clip-vit-b-32").file: torch.zeros(1)})
    config = one_edit("style_text", "styleclip-global-directions", source="green", target="red")
    codes, moved, shifted = applied(config, strength=2.0)
    assert torch.equal(moved, codes)
    bias = "conv1.conv.modulation.bias"
    difference = shifted.state_dict()[bias] - generator.state_dict()[bias]
    assert difference[3] == pytest.approx(2 * style_spread(generator, False)[3].item(), rel=1e-4)
    assert difference.count_nonzero() == 1  # the one channel that matters to the texts
    write_official(cache, {registry.entry("styleclip-global-directions").file: relevance[:, :5]})
    with pytest.raises(WeightsError, match=r"wanted: \(S, 6\)"):
        applied(config)


@torch.no_grad()
def test_a_checkpoint_takes_the_generators_place(cache):
    adapted = tiny_generator(seed=3)
    write_official(cache, {registry.entry("nada-elf").file: {"g_ema": adapted.state_dict()}})
    codes, moved, shown = applied(one_edit("checkpoint", "nada-elf"))
    assert torch.equal(moved, codes)
    assert torch.equal(shown.synthesis(codes), adapted.synthesis(codes))


@pytest.mark.parametrize(
    "texts", [{}, {"source": "a"}, {"source": " ", "target": "b"}, {"source": "a", "target": "a "}]
)
def test_edits_by_text_need_two_texts(texts):
    with pytest.raises(ConfigError, match="two different texts"):
        one_edit("style_text", "x", **texts).source_in("ffhq")


@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", float("nan")), ("component", -1), ("threshold", -0.1), ("alpha", {"paper": -1.0})],
)
def test_wrong_numbers_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"edit\.{name}"):
        one_edit("sefa", **{name: value})


def test_component_and_rows_are_part_of_the_key(tmp_path):
    store, family = Store(tmp_path / "cache"), small_family()
    latents, aligned = small_clip(family)
    told: list[dict[str, Any]] = [{}, {"component": 1}, {"rows": [1]}, {"strength": 2.0}]
    keys = {edit.run(latents, aligned, family, one_edit("sefa", **t), None, store, CPU, 0).key for t in told}
    assert len(keys) == len(told)


def test_kind_texts_and_strength_are_in_the_key_side_by_side():
    config = one_edit("style_text", "weights", source="a", target="b", strength=2.0)
    key = edit.part_key(config, change.Change([{"sha256": "0"}]), "ffhq")
    told = {"kind": "style_text", "weights": "weights", "source": "a", "target": "b", "strength": 2.0}
    assert told.items() <= key.items() and key["sha256"] == ["0"]
