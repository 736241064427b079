"""Every shipped configuration composes and is accepted; short names reach what they name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from composed import parsed

from tempcons.check import ConfigError

CONF = Path(__file__).parent.parent / "conf"
NEEDS = {
    "clip=file": ["clip.path=some.mp4"],
    "clip=ravdess": ["clip.path=some.mp4"],
    "baselines=folder": [f"baselines.folder={CONF}"],
    "baselines=latent_transformer": ["family=ffhq", "edit=eyeglasses"],
} | {f"inversion={name}": ["family=ffhq"] for name in ("e4e", "restyle_psp", "restyle_e4e", "optimization")}


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def needs(choice: str) -> list[str]:
    """What an option can't do without: an edit that isn't embedded its family, and the paper's inversion."""
    group, name = choice.split("=")
    if group != "edit":
        return NEEDS.get(choice, [])
    if name in ("direction", "style"):
        return [f"edit.file={CONF / 'config.yaml'}"]  # any file that is there
    if name == "stack":
        return ["+edit@edit.layers.surprised=surprised", "+edit@edit.layers.happy=happy"]
    edit = yaml.safe_load((CONF / "edit" / f"{name}.yaml").read_text())
    if "embedded" in edit["sources"]:
        return []
    return ["family=ffhq", "inversion=restyle_psp" if edit["domain"] == "out" else "inversion=pti"]


def group_choices() -> list[str]:
    """Of the groups in the defaults list."""
    listed = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    groups = [next(iter(item)) for item in listed if isinstance(item, dict)]
    return [f"{g}={name}" for g in groups if (CONF / g).is_dir() for name in names(g)]


@pytest.mark.parametrize("choice", group_choices())
def test_every_option_composes(choice):
    group, name = choice.split("=")
    config = parsed(choice, *needs(choice))
    assert config.composed["phase"] == config.phase
    if group in ("edit", "recipe"):
        assert {"edit": config.edit.name, "recipe": config.recipe}[group] == name


@pytest.mark.parametrize("edit", names("edit"))
@pytest.mark.parametrize("recipe", names("recipe"))
def test_every_edit_goes_with_every_recipe(edit, recipe):
    config = parsed(f"edit={edit}", f"recipe={recipe}", *needs(f"edit={edit}"))
    assert config.edit.name == edit and config.edit.description
    assert config.edit.sources_in(config.family.name)
    assert config.hyper.phase2.epochs > 0
    if config.edit.domain == "out":
        assert config.hyper.lambda_m == 0 or recipe != "paper"


def test_the_default_is_our_recipe_on_the_demo_clip_with_the_paper_beside_it():
    config = parsed()
    assert (config.family.name, config.edit.name, config.phase) == ("embedded", "surprised", "both")
    assert (config.recipe, config.comparison_recipe) == ("tempcons", "paper")
    assert (config.clip.path, config.clip.num_frames) == ("demo", 32)
    assert config.logger.wandb == "offline"


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (["clip.path=talk.mp4"], None),
        (["clip.path=talk.mp4", "clip.num_frames=7"], 7),
        (["clip=file", "clip.path=talk.mp4"], None),
        (["clip.num_frames=null"], None),
        (["clip.num_frames=7"], 7),
        ([], 32),
    ],
)
def test_only_the_demo_clip_is_cut_short_unasked(told, taken):
    assert parsed(*told).clip.num_frames == taken


@pytest.mark.parametrize(
    ("edit", "phase1", "phase2", "frozen"),
    [("surprised", (0.05, 10), (1e-4, 5), 0), ("nada_sketch", (0.005, 5), (8e-4, 5), 8 / 18)],
)
def test_the_papers_values(edit, phase1, phase2, frozen):
    hyper = parsed("recipe=paper", f"edit={edit}").hyper
    assert (hyper.phase1.lr, hyper.phase1.epochs) == phase1
    assert (hyper.phase2.lr, hyper.phase2.epochs) == phase2
    assert hyper.frozen_share == pytest.approx(frozen, abs=1e-3)
    assert (hyper.alpha, hyper.lambda_r, hyper.lambda_rf, hyper.lambda_eps) == (0.04, 200, 0.1, 10)
    assert (hyper.lambda_l2, hyper.pairs, hyper.visibility, hyper.outside_power) == (0.1, "anchor", 10, 1)
    assert (hyper.lambda_target, hyper.lambda_sharp, hyper.regularise_every) == (0, 0, 1)
    assert (hyper.lambda_m > 0) == (edit == "surprised")  # Eq. 8 has no L_M
    assert hyper.mask_detach and hyper.mapper_init == "zero"


def test_comparison_is_the_paper_whole():
    for edit in ("surprised", "nada_sketch"):
        assert parsed(f"edit={edit}").comparison == parsed(f"edit={edit}", "recipe=paper").hyper


def test_no_comparison_with_itself_or_without_phases_or_when_unwanted():
    for overrides in (["recipe=paper"], ["phase=direct"], ["compare=false"]):
        config = parsed(*overrides)
        assert config.comparison is None and config.comparison_recipe is None


@pytest.mark.parametrize("edit", ["surprised", "nada_sketch"])
@pytest.mark.parametrize("name", ["lambda_r", "alpha", "lambda_eps", "lambda_rf"])
def test_short_names_work_at_top_level(edit, name):
    changed, plain = parsed(f"edit={edit}", f"{name}=0.625"), parsed(f"edit={edit}")
    assert getattr(changed.hyper, name) == 0.625 != getattr(plain.hyper, name)
    assert changed.comparison == plain.comparison  # the other recipe stays as it is
    others = {k: v for k, v in vars(changed.hyper).items() if k != name}
    assert others == {k: v for k, v in vars(plain.hyper).items() if k != name}


def test_phase_settings_work_at_top_level():
    hyper = parsed("phase1.epochs=3", "phase2.lr=0.01").hyper
    assert hyper.phase1.epochs == 3 and hyper.phase2.lr == 0.01


def test_an_edit_may_have_its_own_alpha():
    own = parsed("recipe=paper", "+edit.alpha.paper=0.12")
    assert own.hyper.alpha == 0.12
    beside = parsed("recipe=tempcons", "+edit.alpha.paper=0.12")
    assert beside.comparison is not None and beside.comparison.alpha == 0.12
    assert beside.hyper.alpha == parsed("recipe=tempcons").hyper.alpha


def test_a_whole_file_needs_a_path():
    with pytest.raises(ConfigError, match=r"clip\.path"):
        parsed("clip=file")
