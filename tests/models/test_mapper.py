"""The levels mapper: rows, normalisation across rows, and the start near zero."""

from __future__ import annotations

import pytest
import torch
from tiny import gradient

from tempcons.models.mapper import LevelsMapper


def test_start_near_zero_still_passes_gradients_to_every_layer() -> None:
    mapper = LevelsMapper(8, 12, init="zero")
    w = torch.randn(3, 12, 8)
    residual = mapper(w)
    assert residual.abs().max() < 0.05
    residual.square().sum().backward()
    weights = [p for name, p in mapper.named_parameters() if name.endswith("weight")]
    assert len(weights) == 12 and all(gradient(p).abs().max() > 0 for p in weights)


def test_random_start_moves_the_codes() -> None:
    torch.manual_seed(0)
    assert LevelsMapper(64, 12)(torch.randn(2, 12, 64)).abs().mean() > 0.1


def test_levels_read_only_their_own_rows() -> None:
    mapper = LevelsMapper(8, 12)
    w = torch.randn(1, 12, 8)
    changed = w.clone()
    changed[:, 5] += 1
    moved = (mapper(w) - mapper(changed)).abs().amax(dim=(0, 2)) > 0
    assert moved.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_each_feature_is_normalised_across_the_rows_of_its_level() -> None:
    """Scaling one feature in all rows of a level changes nothing: the norm is per feature."""
    mapper = LevelsMapper(8, 12)
    w = torch.randn(1, 12, 8)
    scaled = w.clone()
    scaled[:, :4, 2] *= 3
    torch.testing.assert_close(mapper(scaled), mapper(w), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [4, 6, 8, 9, 18])
def test_any_number_of_rows(rows: int) -> None:
    mapper = LevelsMapper(8, rows)
    residual = mapper(torch.randn(2, rows, 8))
    assert residual.shape == (2, rows, 8) and residual.isfinite().all()
    again = LevelsMapper(**mapper.config)
    assert again.state_dict().keys() == mapper.state_dict().keys()


def test_levels_that_are_off_leave_their_rows() -> None:
    mapper = LevelsMapper(8, 12, coarse=False, fine=False)
    assert mapper.config["medium"] and not mapper.config["coarse"]
    rows = mapper(torch.randn(1, 12, 8)).abs().amax(dim=(0, 2)) > 0
    assert rows.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_wrong_shapes_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="W\\+ codes"):
        LevelsMapper(8, 12)(torch.zeros(1, 10, 8))
    with pytest.raises(ValueError, match="init"):
        LevelsMapper(8, 12, init="ones")  # type: ignore[arg-type]
