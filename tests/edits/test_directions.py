"""Directions in W+ and in style space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tempcons.check import WeightsError
from tempcons.edits.directions import affine_layers, load_direction, load_ganspace, sefa_directions
from tempcons.edits.style_space import global_direction, shift_styles, style_channels, style_layers
from tempcons.models.stylegan2 import Generator

ROWS, DIM = 6, 8


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(16, DIM, 2, channels={4: 6, 8: 5, 16: 4}).eval()


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
@pytest.mark.parametrize("shape", [(DIM,), (1, DIM), (ROWS, DIM), (1, ROWS, DIM)])
def test_accepted_shapes_become_rows(shape: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    value = torch.randn(shape)
    file = tmp_path / f"direction{suffix}"
    if suffix == ".npy":
        np.save(file, value.double().numpy())
    else:
        torch.save(value, file)
    torch.testing.assert_close(load_direction(file, ROWS, DIM), value.reshape(-1, DIM).expand(ROWS, DIM))


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS - 1, DIM), (2, ROWS, DIM), (DIM, ROWS), (DIM, 1), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.save(torch.zeros(shape), tmp_path / "d.pt")
    with pytest.raises(WeightsError, match="has shape"):
        load_direction(tmp_path / "d.pt", ROWS, DIM)


def test_rows_are_kept_and_checked(tmp_path: Path) -> None:
    torch.save(torch.ones(DIM), tmp_path / "d.pt")
    direction = load_direction(tmp_path / "d.pt", ROWS, DIM, rows=[1, 3])
    assert direction.sum(dim=1).tolist() == [0, DIM, 0, DIM, 0, 0]
    with pytest.raises(WeightsError, match="rows"):
        load_direction(tmp_path / "d.pt", ROWS, DIM, rows=[ROWS])


def test_directions_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save(torch.full((DIM,), float("nan")), tmp_path / "d.pt")
    with pytest.raises(WeightsError, match="finite"):
        load_direction(tmp_path / "d.pt", ROWS, DIM)


def test_ganspace_component_is_scaled_to_its_spread(tmp_path: Path) -> None:
    comp, std = torch.eye(DIM)[:3, None], torch.tensor([2.0, 3.0, 4.0])
    torch.save({"comp": comp, "std": std, "mean": torch.zeros(1, DIM)}, tmp_path / "pca.pt")
    direction = load_ganspace(tmp_path / "pca.pt", 1, ROWS, DIM, rows=[0])
    assert direction[0, 1] == 3 and direction.abs().sum() == 3
    with pytest.raises(WeightsError, match=r"components 0\.\.2"):
        load_ganspace(tmp_path / "pca.pt", 3, ROWS, DIM)


def test_sefa_finds_the_direction_that_moves_the_styles_most(generator: Generator) -> None:
    layers = affine_layers(generator)
    assert len(layers) == ROWS
    for layer in layers:
        torch.nn.init.normal_(layer.weight, std=0.01)
        layer.weight.data[:, 5] += torch.randn(len(layer.weight))
    directions = sefa_directions(generator, count=3)
    assert directions.shape == (3, ROWS, DIM)
    assert directions[0, :, 5].min() > 0.99
    gram = directions[:, 0] @ directions[:, 0].T
    torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)


def test_sefa_moves_only_the_rows_it_analysed(generator: Generator) -> None:
    directions = sefa_directions(generator, rows=[2, 3], count=2)
    assert directions.norm(dim=2)[:, [0, 1, 4, 5]].abs().max() == 0
    assert not torch.allclose(directions[:, 2], sefa_directions(generator, count=2)[:, 2])


@torch.no_grad()
def test_shifting_styles_equals_adding_to_them(generator: Generator) -> None:
    w = torch.randn(2, ROWS, DIM)
    direction = torch.randn(style_channels(generator, with_rgb=True))
    edited = shift_styles(generator, direction, 0.5)
    layers, parts = style_layers(generator, True), []
    for layer, part in zip(layers, direction.split([len(x.bias) for x in layers]), strict=True):
        parts.append(layer.register_forward_hook(lambda _, __, out, p=part: out + 0.5 * p))
    expected = generator.synthesis(w)
    for hook in parts:
        hook.remove()
    torch.testing.assert_close(edited.synthesis(w), expected)
    assert not torch.allclose(generator.synthesis(w), expected)


def test_style_space_of_the_official_generator_has_the_published_length() -> None:
    with torch.device("meta"):
        official = Generator(1024)
    assert (style_channels(official, False), style_channels(official, True)) == (6048, 9088)


def test_style_direction_of_another_length_is_refused(generator: Generator) -> None:
    with pytest.raises(WeightsError, match="wanted"):
        shift_styles(generator, torch.zeros(7), 1.0)


def test_global_direction_keeps_relevant_channels_only() -> None:
    relevance = torch.tensor([[0.5, 0.0], [-0.1, 0.0], [-0.25, 9.0]])
    direction = global_direction(relevance, torch.tensor([2.0, 0.0]), threshold=0.2)
    assert direction.tolist() == [1.0, 0.0, -0.5]
    spread = torch.tensor([1.0, 2.0, 4.0])
    assert global_direction(relevance, torch.tensor([2.0, 0.0]), 0.2, spread).tolist() == [1.0, 0.0, -2.0]
    with pytest.raises(WeightsError, match="threshold"):
        global_direction(relevance, torch.tensor([1.0, 0.0]), 0.9)
