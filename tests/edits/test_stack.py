"""Several edits at once: told in one list, composed by Hydra, added up, and cached by what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from composed import parsed
from small_family import one_edit, small_clip, small_family, stacked
from tiny import CPU, STYLE_DIM

from tempcons.check import ConfigError
from tempcons.cli import expand_stack
from tempcons.edits.change import Change, apply_all
from tempcons.edits.config import EditConfig
from tempcons.stages import edit
from tempcons.store.artefact import Store
from tempcons.types import Edited

CONF = Path(__file__).parents[2] / "conf"


def told(*arguments: str) -> EditConfig:
    return parsed(*expand_stack(["train.py", *arguments], CONF)[1:]).edit


def test_a_list_of_edits_is_composed_with_their_strengths():
    config = told("edit.stack=[surprised, happy:0.5]", "edit.layers.surprised.strength=3")
    assert (config.name, config.domain) == ("surprised+happy", "in")
    assert {p.name: p.strength for p in config.parts} == {"happy": 0.5, "surprised": 3.0}
    assert {n: s.weights for n, s in config.sources_in("embedded").items()} == {
        "happy": "direction_happy",
        "surprised": "direction_surprised",
    }


def test_usual_strengths_and_downloads_go_by_the_family():
    config = told("family=ffhq", "edit.stack=[angry,smile]")
    assert {p.name: p.strength for p in config.parts} == {"angry": 0.1, "smile": 3.0}
    assert config.official_weights("ffhq") == ["styleclip-angry", "interfacegan-smile"]


@pytest.mark.parametrize(
    ("name", "steps"),
    [("eyeglasses", (60, 150)), ("beard", (60, 150))]
    + [(expression, (0, 100)) for expression in ("surprised", "happy", "angry")],
)
def test_directions_are_fitted_to_the_clip(name, steps):
    def fitting(edit: EditConfig) -> tuple[int, int]:
        return edit.refine, edit.refine_generator

    assert fitting(parsed("family=embedded", f"edit={name}").edit) == steps
    if name != "happy":  # the paper's family has none
        assert fitting(parsed("family=ffhq", f"edit={name}").edit) == (0, 0)
    assert fitting(told(f"edit.stack=[nada_elf,{name}]").layers[name]) == steps


def test_one_generator_may_be_among_them_and_comes_first():
    config = told("family=ffhq", "inversion=restyle_psp", "edit.stack=[smile,nada_elf]")
    assert config.domain == "out" and [p.name for p in config.parts] == ["nada_elf", "smile"]
    whole = parsed(*expand_stack(["train.py", "recipe=paper", "edit.stack=[happy,nada_sketch]"], CONF)[1:])
    assert whole.hyper.frozen_share > 0  # the recipe's out-of-domain values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edit.stack=[surprised,hapy]"], "no edit named 'hapy'.*happy"),
        (["edit.stack=[surprised,stack]"], "no edit named 'stack'"),
        (["edit.stack=[happy,happy]"], "happy twice"),
        (["edit.stack=[]"], "no list of edits"),
        (["edit.stack=[surprised,"], "no list of edits.*quotes"),
        (["edit.stack=surprised"], "no list of edits"),
        (["edit.stack=[happy],[angry]"], "no list of edits"),
        (["edit=angry", "edit.stack=[happy]"], "one list names all"),
        (["edit.stack=[nada_sketch,nada_pixar]"], "nada_pixar and nada_sketch each bring a generator"),
        (["edit.stack=[happy,nada_sketch]", "edit.domain=in"], "edit.domain=in but nada_sketch is out"),
        (["edit.stack=[happy,angry]", "edit.domain=out"], "all edits of the stack are in-domain"),
        (["edit.stack=[happy,depp]"], "depp does not exist for family=embedded"),
        (["edit.stack=[happy,angry]", "edit.layers.happy.domain=out"], "happy is a direction"),
        (["family=ffhq", "edit.stack=[smile,nada_elf]"], "nada_elf brings its own generator"),
        (["edit=stack"], r"without edits.*edit\.stack="),
        (["edit.stack=[happy:many,angry]"], "strength = 'many'.*float"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_stacks_get_one_clear_error(arguments, message):
    with pytest.raises(ConfigError, match=message):
        told(*arguments)


def test_arguments_without_a_stack_stay_as_they_are():
    assert expand_stack(["train.py", "edit=happy"], CONF) == ["train.py", "edit=happy"]


def test_residuals_are_taken_at_the_inversions_codes_and_added():
    generator = small_family().generator
    squares, ones = Change([], move=torch.square), Change([], move=torch.ones_like)
    codes = torch.randn(2, 3, 4)
    for order in ((squares, ones), (ones, squares)):
        moved, same = apply_all(order, codes, generator)
        torch.testing.assert_close(moved, codes + codes**2 + 1)
        assert same is generator


@pytest.fixture
def files(tmp_path) -> list[str]:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(ord(name)).normal(size=STYLE_DIM))
    return [str(tmp_path / f"{name}.npy") for name in ("a", "b")]


def edited(config: EditConfig, store: Store) -> Edited:
    family = small_family()
    latents, aligned = small_clip(family)
    return edit.run(latents, aligned, family, config, None, store, CPU, 0)


def test_a_stack_moves_codes_by_all_of_its_edits_and_has_its_own_key(files, tmp_path):
    store = Store(tmp_path / "cache")
    a, b = (one_edit("file", path, name=Path(path).stem) for path in files)
    half = one_edit("file", files[1], name="b", strength=0.5)
    codes = small_clip(small_family())[0].codes
    steps = [torch.from_numpy(np.load(path)).float() for path in files]
    whole, softer = edited(stacked(a, b), store), edited(stacked(a, half), store)
    torch.testing.assert_close(whole.codes, codes + steps[0] + steps[1])
    torch.testing.assert_close(softer.codes, codes + steps[0] + 0.5 * steps[1])
    doubled = edited(stacked(a, b, strength=2.0), store)
    torch.testing.assert_close(doubled.codes, codes + 2 * steps[0] + 2 * steps[1])
    keys = {edited(config, store).key for config in (a, b, stacked(a), stacked(b))}
    assert len(keys | {whole.key, softer.key, doubled.key}) == 7 - 2  # a stack of one is the edit
    assert edited(stacked(b, a), store).key == whole.key  # the order does not matter
    assert len(store.records) == 5  # as many as keys: nothing was made a second time


def test_a_changed_file_is_another_edit(files, tmp_path):
    store = Store(tmp_path / "cache")
    stack = stacked(*(one_edit("file", path, name=Path(path).stem) for path in files))
    before = edited(stack, store).key
    np.save(files[0], np.zeros(STYLE_DIM))
    assert edited(stack, store).key != before
