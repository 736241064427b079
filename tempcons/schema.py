"""The typed configuration: what Hydra composed, checked as a whole before anything runs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempcons import resolvers  # noqa: F401  conf/ needs them
from tempcons.check import ConfigError, near_names
from tempcons.edits.config import EditConfig
from tempcons.family import FamilyConfig
from tempcons.stages import baselines
from tempcons.stages.align import AlignConfig
from tempcons.stages.baselines import Baseline, FolderBaseline, RecipeBaseline
from tempcons.stages.clip import ClipConfig
from tempcons.stages.evaluate import MetricsConfig
from tempcons.stages.invert import InversionConfig
from tempcons.stages.render import RenderConfig
from tempcons.stages.stitch import StitchConfig
from tempcons.training.anchors import AnchorsConfig
from tempcons.training.hyper import Hyper
from tempcons.training.settings import LoggerConfig, TrainerConfig
from tempcons.training.speed import SpeedConfig
from tempcons.types import Domain

PHASES = ("direct", "latent", "generator", "both", "stitch", "full")
# Those that contain phase 1, phase 2, and phase 3 with full frames.
LATENT_PHASES, GENERATOR_PHASES = ("latent", "both", "full"), ("generator", "both", "full")
FITTED_PHASES = ("latent", "generator", "both", "full")
FRAME_PHASES = ("stitch", "full")
DOMAINS = get_args(Domain)


@dataclass(frozen=True)
class OutputConfig:
    """Where runs (root) and the cache shared by all of them go."""

    root: str
    cache: str


@dataclass(frozen=True)
class SweepConfig:
    """A multirun's folder and, for sweepers that search, the figures they get (:mod:`tempcons.sweep`)."""

    name: str | None = None
    objectives: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Config:
    """Everything a run is told.

    Attributes:
        hyper: the chosen recipe for the edit's domain, with the command line's changes.
        comparison: the other recipe for the same domain, or None.
        baselines: other methods measured beside the result, by name.
        composed: the composed settings as plain values, for the manifest.
    """

    family: FamilyConfig
    clip: ClipConfig
    align: AlignConfig
    inversion: InversionConfig
    edit: EditConfig
    trainer: TrainerConfig
    speed: SpeedConfig
    logger: LoggerConfig
    metrics: MetricsConfig
    stitch: StitchConfig
    render: RenderConfig
    output: OutputConfig
    phase: str
    anchor: int | None
    anchors: AnchorsConfig
    seed: int
    recipe: str
    hyper: Hyper
    comparison_recipe: str | None
    comparison: Hyper | None
    baselines: dict[str, Baseline]
    composed: dict[str, Any]


def build(kind: type, values: dict[str, Any], where: str) -> Any:
    """A (nested) dataclass from plain values; unknown names and wrong types are refused.

    Raises:
        ConfigError: names the setting, what was found and what is known.
    """
    if not isinstance(values, dict):
        raise ConfigError("config", f"{where} = {values!r}", "settings by name expected")
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ConfigError("config", f"{where} has no setting {unknown[0]!r}", near_names(unknown[0], names))
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError("config", f"{where}.{missing[0]} is not set")
    return kind(**{k: convert(hints[k], v, f"{where}.{k}") for k, v in values.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type of a dataclass field."""
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _one_of(arguments, value, where)
    if origin is dict and isinstance(value, dict):
        return {k: convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hint is float and type(value) is int:
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError("config", f"{where} = {value}", "a finite number expected")
    kind = origin or hint
    wrong_bool = isinstance(value, bool) and kind is not bool
    if isinstance(kind, type) and (not isinstance(value, kind) or wrong_bool):
        raise ConfigError("config", f"{where} = {value!r}", f"a value of type {kind.__name__} expected")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """``value`` as one of several types: null where it is one of them, and the first that it already has."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    return convert(next((kind for kind in others if type(value) is kind), others[-1]), value, where)


HYPER_NAMES = [f.name for f in dataclasses.fields(Hyper)]
# Settings at top level that no field of Config is called after: the recipes, what stands beside, sweeps.
OTHER_NAMES = ("comparison", "compare", "sweep", "dry_run", "hardware")
MADE_HERE = ("hyper", "comparison_recipe", "composed")


def known_names() -> list[str]:
    """Names of all settings and groups at top level."""
    named = [f.name for f in dataclasses.fields(Config) if f.name not in MADE_HERE]
    return [*named, *HYPER_NAMES, *OTHER_NAMES]


def check_names(config: DictConfig) -> None:
    """Raise ConfigError unless the top level has just what is read, and the edit has a known domain.

    Looked at before references are resolved, as those to a recipe go by the domain.
    """
    known, given = known_names(), list(map(str, config))
    for name in given:
        if name not in known:
            raise ConfigError("config", f"no setting {name!r}", near_names(name, known))
    for name in known:
        if name not in given:
            raise ConfigError("config", f"{name} is not set")
    domain = OmegaConf.select(config, "edit.domain")
    if domain is not None and domain not in DOMAINS:
        raise ConfigError("config", f"edit.domain = {domain!r}", f"known: {', '.join(DOMAINS)}")


def parse(config: DictConfig) -> Config:
    """Check the composed configuration.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    check_names(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise ConfigError(
            "config", f"{key}: {str(error).splitlines()[0]}", "set it on the command line"
        ) from error
    assert isinstance(plain, dict)
    values = {str(k): v for k, v in plain.items()}
    phase = values["phase"]
    if phase not in PHASES:
        raise ConfigError("config", f"phase = {phase!r}", near_names(str(phase), PHASES))
    edit = build(EditConfig, values["edit"], "edit")
    recipe, other = (check_recipe(values[group], group) for group in ("recipe", "comparison"))
    compare = convert(bool, values["compare"], "compare") and other != recipe
    compare = compare and phase in FITTED_PHASES
    family = build(FamilyConfig, values["family"], "family")
    trainer = build(TrainerConfig, values["trainer"], "trainer")
    speed = build(SpeedConfig, values["speed"], "speed")
    inversion = build(InversionConfig, values["inversion"], "inversion")
    check_together(family, edit, inversion)
    build(SweepConfig, values["sweep"], "sweep")
    convert(bool, values["dry_run"], "dry_run")
    stitch = build(StitchConfig, values["stitch"], "stitch")
    if phase in FRAME_PHASES:
        stitch.check_domain(edit.domain, edit.name)
    return Config(
        family=family,
        clip=build(ClipConfig, values["clip"], "clip"),
        align=build(AlignConfig, values["align"], "align"),
        inversion=inversion,
        edit=edit,
        trainer=trainer,
        speed=speed,
        logger=build(LoggerConfig, values["logger"], "logger"),
        metrics=build(MetricsConfig, values["metrics"], "metrics"),
        stitch=stitch,
        render=build(RenderConfig, values["render"], "render"),
        output=build(OutputConfig, values["output"], "output"),
        phase=phase,
        anchor=convert(int | None, values["anchor"], "anchor"),
        anchors=build(AnchorsConfig, values["anchors"], "anchors"),
        seed=convert(int, values["seed"], "seed"),
        recipe=recipe,
        hyper=speed.hyper(build(Hyper, {k: values[k] for k in HYPER_NAMES}, "recipe"), trainer),
        comparison_recipe=other if compare else None,
        # The other recipe stays exact.
        comparison=SpeedConfig().hyper(recipe_hyper(values["comparison"], edit, "comparison"), trainer)
        if compare
        else None,
        baselines=check_baselines(values["baselines"], edit, family),
        composed=values,
    )


def check_together(family: FamilyConfig, edit: EditConfig, inversion: InversionConfig) -> None:
    """Raise ConfigError unless the family has the edit and the inversion, and they fit each other."""
    sources = edit.sources_in(family.name)
    inversion.check_family(family.name)
    for name, source in sources.items():
        if source.kind == "checkpoint" and inversion.name == "pti":
            raise ConfigError(
                "config",
                f"edit={name} brings its own generator, inversion=pti tunes another",
                "take inversion=restyle_psp, as the paper does (Section 4.2)",
            )


def check_recipe(recipe: Any, where: str) -> str:
    """Name of a recipe, after a look at the values for both domains.

    Raises:
        ConfigError: an unknown name in it, a missing one, or a value of a wrong type.
    """
    if not isinstance(recipe, dict):
        raise ConfigError("config", f"{where} = {recipe!r}", "settings by name expected")
    known = ("name", *DOMAINS)
    for name in recipe:
        if name not in known:
            raise ConfigError("config", f"{where} has no setting {name!r}", near_names(str(name), known))
    for name in known:
        if name not in recipe:
            raise ConfigError("config", f"{where}.{name} is not set")
    for domain in DOMAINS:
        build(Hyper, recipe[domain], f"{where}.{domain}")
    return convert(str, recipe["name"], f"{where}.name")


def recipe_hyper(recipe: dict[str, Any], edit: EditConfig, where: str) -> Hyper:
    """A recipe shown beside the chosen one, with the alpha that it has for this edit if it has one."""
    values = dict(recipe[edit.domain])
    if recipe["name"] in edit.alpha:
        values["alpha"] = edit.alpha[recipe["name"]]
    return build(Hyper, values, f"{where}.{edit.domain}")


def check_baselines(values: Any, edit: EditConfig, family: FamilyConfig) -> dict[str, Baseline]:
    """The other methods of the table, by name.

    Raises:
        TempconsError: an unknown one, wrong settings, or one that this edit or family can't have.
    """
    if not isinstance(values, dict):
        raise ConfigError("config", f"baselines = {values!r}", "name them in brackets: baselines=[dvp,wplus]")
    found = {str(name): make_baseline(str(name), value, edit) for name, value in values.items()}
    for baseline in found.values():
        baseline.official_weights(edit.name, family.name)
    return found


def make_baseline(name: str, value: Any, edit: EditConfig) -> Baseline:
    """One baseline: a path is another tool's results, values for both domains are a recipe."""
    baselines.check_name(name)
    if isinstance(value, str):
        return FolderBaseline(value)
    where = f"baselines.{name}"
    if isinstance(value, dict) and value.keys() & set(DOMAINS):
        return RecipeBaseline(check_recipe(value, where), recipe_hyper(value, edit, where))
    if name not in baselines.KINDS:
        raise baselines.unknown(name, value)
    return build(baselines.KINDS[name], value, where)


def writable(folder: Path) -> None:
    """Raise ConfigError unless files can be made in ``folder`` (made if need be)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"tempcons" * 128)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            "output", f"can't write to {folder} ({error.strerror})", "set output.root / output.cache"
        ) from error
