"""A direction fitted to a tuned generator: what is wanted, and that the offset comes closer to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from small_family import one_edit
from tiny import tiny_codes, tiny_generator

from tempcons.check import ConfigError
from tempcons.edits import change, refine
from tempcons.edits.change import apply_all, load_change, with_added
from tempcons.edits.config import EditConfig, EditSource
from tempcons.edits.refine import (
    FITS,
    Fit,
    FittedEdit,
    blurred,
    draw,
    goal_at,
    goal_error,
    offset_error,
    refined,
    squared_error,
)
from tempcons.geometry.warp import warp
from tempcons.models.stylegan2 import Generator
from tempcons.stages.edit import part_key
from tempcons.weights import assets
from tempcons.weights.assets import save_asset


def tuned_from(base: Generator) -> Generator:
    """Another generator near the first."""
    tuned = tiny_generator()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in tuned.parameters():
            value.add_(0.2 * value.abs().mean() * torch.randn(value.shape, generator=random))
    return tuned


def direction_of(base: Generator) -> torch.Tensor:
    return 0.5 * torch.randn(base.n_latent, base.style_dim, generator=torch.Generator().manual_seed(4))


class Painter:
    """Stands in for a generator: draws by one number of a code."""

    def __init__(self, paint: Callable[[float], torch.Tensor]) -> None:
        self.paint = paint

    def synthesis(self, codes: torch.Tensor, noise: str) -> torch.Tensor:
        return torch.stack([self.paint(code[0, 0].item()) for code in codes])


def goal_of(fit: Fit, base: Callable, tuned: Callable) -> torch.Tensor:
    """What is wanted of one frame at code 0, the direction being 1."""
    direction = torch.ones(2, 4)
    return fit.goal(direction, torch.zeros(1, 2, 4), Painter(tuned), Painter(base)).wanted  # type: ignore


def texture(softness: float) -> torch.Tensor:
    """(3, 64, 64) gray blobs of one size, in [-0.5, 0.5]."""
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(5))
    blobs = blurred(noise, softness)[0]
    return (0.5 * blobs / blobs.abs().amax()).expand(3, -1, -1)


def shifted(picture: torch.Tensor, pixels: float) -> torch.Tensor:
    flow = torch.zeros(1, 2, *picture.shape[-2:])
    flow[:, 0] = pixels
    return warp(picture[None], flow, "border")[0][0]


def test_an_expression_moves_the_clips_own_detail():
    soft, fine = texture(1 / 20), 0.5 * texture(1 / 64)
    found = goal_of(FITS["expression"], lambda at: shifted(soft, 5 * at), lambda at: soft + fine)
    inside = (..., slice(8, 56), slice(8, 56))
    moved, unmoved = shifted(soft + fine, 5), shifted(soft, 5) + fine
    far = (found[0] - moved)[inside].square().mean()
    assert far < 0.1 * (unmoved - moved)[inside].square().mean()


def test_what_motion_cannot_say_of_an_expression_is_added():
    def opening(at: float) -> torch.Tensor:
        picture = torch.zeros(3, 64, 64)
        picture[:, 28:36, 24:40] = -0.8 * at
        return picture

    found = goal_of(FITS["expression"], opening, lambda at: torch.full((3, 64, 64), 0.1))
    torch.testing.assert_close(found[0], opening(1) + 0.1, rtol=0, atol=1e-3)


def test_a_thing_covers_and_leaves_the_rest():
    def put(at: float) -> torch.Tensor:
        picture = torch.full((3, 64, 64), 0.1 * at)
        picture[:, 40:] = 0.8 * at
        return picture

    found = goal_of(FITS["thing"], put, lambda at: torch.full((3, 64, 64), 0.3))
    torch.testing.assert_close(found[..., :20, :], torch.full_like(found[..., :20, :], 0.3))
    torch.testing.assert_close(found[..., 56:, :], torch.full_like(found[..., 56:, :], 0.8))


def test_errors_weigh_what_changes():
    drawn, wanted = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    weight = torch.ones(1, 1, 4, 4)
    weight[..., :2] = 4
    assert offset_error(drawn, wanted, weight).item() == pytest.approx(2.5 * (0.5 + 2 * 0.25))
    assert squared_error(drawn, wanted, weight).item() == pytest.approx(2.5 * 0.25)


def test_a_kind_of_edit_that_no_fit_knows_is_refused():
    with pytest.raises(ConfigError, match=r"edit\.refine_as"):
        one_edit("direction", "own", refine_as="things")


Told = tuple[torch.Tensor, torch.Tensor, Generator, Generator]


@pytest.fixture
def told() -> Iterator[Told]:
    """Direction, codes, the clip's generator and the base; the clip's generator has to stay as it is."""
    base = tiny_generator()
    tuned = tuned_from(base)
    fixed = {k: v.clone() for k, v in tuned.state_dict().items()}
    yield direction_of(base), tiny_codes(base), tuned, base
    assert all(torch.equal(fixed[k], v) for k, v in tuned.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_the_tuned_generator_comes_closer_to_the_edit(told: Told, fit):
    direction, codes, tuned, _ = told
    offset, weights = refined(*told, 40, fit)
    asked = goal_at(*told, fit), torch.arange(len(codes))
    assert goal_error(tuned, offset, *asked) < 0.9 * goal_error(tuned, direction, *asked)
    half = len(direction) // 2
    assert torch.equal(offset[half:], direction[half:]) is not fit.finer_rows
    assert (offset[:half] != direction[:half]).any(1).all()
    assert not weights and torch.equal(offset, refined(*told, 40, fit).offset)


@torch.no_grad()
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_a_copy_of_the_generator_that_learns_the_edit_comes_closer_still(told: Told, fit):
    _, codes, tuned, _ = told
    offset, weights = refined(*told, 20, fit, 60)
    asked = offset, goal_at(*told, fit), torch.arange(len(codes)), squared_error
    assert goal_error(with_added(tuned, weights), *asked) < 0.9 * goal_error(tuned, *asked)
    lower = {"conv1.conv.weight", "convs.0.conv.weight", "convs.1.conv.weight"}
    assert weights.keys().isdisjoint(lower) and any("convs.2" in name for name in weights)
    again = refined(*told, 20, fit, 60)
    assert torch.equal(again.offset, offset) and all(
        torch.equal(again.weights[k], weights[k]) for k in weights
    )


@torch.no_grad()
def test_without_steps_of_its_own_the_offset_is_the_direction(told: Told):
    offset, weights = refined(*told, 0, FITS["thing"], 2)
    assert torch.equal(offset, told[0]) and weights


@torch.no_grad()
def test_a_generator_that_draws_what_is_wanted_learns_nothing(told: Told):
    direction, codes, _, base = told
    same = refined(direction, codes, base, base, 3, FITS["expression"], 3)
    assert torch.equal(same.offset, direction) and not same.weights
    other: FittedEdit = refined(direction, codes, base, base, 3, FITS["thing"], 3)
    assert not torch.equal(other.offset, direction) and other.weights


@torch.no_grad()
@pytest.mark.parametrize(("kind", "pictures"), [("thing", 3), ("expression", 6)])
def test_what_is_wanted_of_a_frame_is_drawn_once(monkeypatch, kind, pictures):
    base, drawn = tiny_generator(), []

    def counted(generator: Generator, codes: torch.Tensor) -> torch.Tensor:
        drawn.append(len(codes))
        return draw(generator, codes)

    monkeypatch.setattr(refine, "draw", counted)
    codes = tiny_codes(base)
    refined(direction_of(base), codes, tuned_from(base), base, 30, FITS[kind])
    # And a part of them once more, to see whether they are drawn already.
    assert sum(drawn) == pictures * len(codes) + min(refine.BATCH, len(codes))


@torch.no_grad()
def test_rows_that_the_edit_does_not_name_stay():
    base = tiny_generator()
    direction = direction_of(base)
    direction[1:] = 0
    offset, _ = refined(direction, tiny_codes(base), tuned_from(base), base, 2, FITS["thing"])
    assert not offset[1:].any() and (offset[0] != direction[0]).any()


@torch.no_grad()
def test_an_edit_is_fitted_where_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    base = tiny_generator()
    direction, codes, tuned = direction_of(base), tiny_codes(base), tuned_from(base)
    save_asset(tmp_path / "own.safetensors", {"direction": direction}, "direction", {}, half=False)
    keys = []
    for steps, kind in ((0, "expression"), (3, "expression"), (3, "thing")):
        config = one_edit("direction", "own", refine=steps, refine_as=kind)
        source = config.source_in("embedded")
        found = load_change(config, source, "embedded", base, 2.0)
        moved, same = apply_all([found], codes, tuned)
        told = 2 * direction, codes, tuned, base
        wanted = refined(*told, steps, FITS[kind]).offset if steps else 2 * direction
        torch.testing.assert_close(moved, codes + wanted)
        assert same is tuned
        keys.append(part_key(config, change.Change([]), "embedded"))
    assert [key["refine"] for key in keys] == [0, 3, 3] and keys[1] != keys[2]
    learning = one_edit("direction", "own", refine=3, refine_as="thing", refine_generator=2)
    found = load_change(learning, learning.source_in("embedded"), "embedded", base, 2.0)
    moved, learned = apply_all([found], codes, tuned)
    offset, weights = refined(2 * direction, codes, tuned, base, 3, FITS["thing"], 2)
    torch.testing.assert_close(moved, codes + offset)
    for name, value in tuned.state_dict().items():
        assert torch.equal(learned.state_dict()[name], value + weights.get(name, 0))
    assert part_key(learning, change.Change([]), "embedded") != keys[2]


@pytest.mark.parametrize(
    ("kind", "family"), [("direction", "ffhq"), ("mapper", "embedded"), ("sefa", "embedded")]
)
def test_nothing_but_embedded_directions_is_fitted(kind, family):
    sources = {family: EditSource(kind, "own")}
    with pytest.raises(ConfigError, match=r"edit\.refine=3 has nothing to fit"):
        EditConfig("own", "in", 1.0, "", sources, refine=3).sources_in(family)
    with pytest.raises(ConfigError, match=r"edit\.refine_generator=3 has nothing to fit"):
        EditConfig("own", "in", 1.0, "", sources, refine_generator=3).sources_in(family)
    EditConfig("own", "in", 1.0, "", sources).sources_in(family)


def test_a_stack_is_fitted_edit_by_edit():
    layers = {
        name: EditConfig(name, "in", 1.0, "", {"embedded": EditSource("direction", name)}, refine=3)
        for name in "ab"
    }
    with pytest.raises(ConfigError, match=r"edit\.layers\.NAME\.refine"):
        EditConfig("stack", "in", 1.0, "", {}, layers=layers, refine=3).sources_in("embedded")
    assert len(EditConfig("stack", "in", 1.0, "", {}, layers=layers).sources_in("embedded")) == 2


def test_steps_are_a_count():
    with pytest.raises(ConfigError, match=r"edit\.refine"):
        one_edit("direction", "own", refine=-1)
    with pytest.raises(ConfigError, match=r"edit\.refine_generator"):
        one_edit("direction", "own", refine_generator=-1)
