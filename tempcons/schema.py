"""The typed configuration: what Hydra composed, checked as a whole before anything runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tempcons.check import ConfigError, near_names
from tempcons.family import FamilyConfig
from tempcons.stages.align import AlignConfig
from tempcons.stages.clip import ClipConfig
from tempcons.stages.edit import EditConfig
from tempcons.stages.evaluate import MetricsConfig
from tempcons.stages.invert import InversionConfig
from tempcons.training.fit import TrainerConfig
from tempcons.training.hyper import Hyper
from tempcons.training.logging import LoggerConfig

PHASES = ("direct", "latent", "generator", "both")


@dataclass(frozen=True)
class OutputConfig:
    """Where runs (root) and the cache shared by all of them go."""

    root: str
    cache: str


@dataclass(frozen=True)
class Config:
    """Everything a run is told.

    Attributes:
        hyper: the chosen recipe for the edit's domain, with the command line's changes.
        comparison: the other recipe for the same domain, or None.
        composed: the composed settings as plain values, for the manifest.
    """

    family: FamilyConfig
    clip: ClipConfig
    align: AlignConfig
    inversion: InversionConfig
    edit: EditConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    metrics: MetricsConfig
    output: OutputConfig
    phase: str
    anchor: int | None
    seed: int
    recipe: str
    hyper: Hyper
    comparison_recipe: str | None
    comparison: Hyper | None
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
    origin = getattr(hint, "__origin__", None)
    arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
    if arguments and type(None) in arguments:
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else convert(inner, value, where)
    if origin is dict and isinstance(value, dict):
        return {k: convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return origin(convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and (not isinstance(value, hint) or wrong_bool):
        raise ConfigError("config", f"{where} = {value!r}", f"a value of type {hint.__name__} expected")
    return value


HYPER_NAMES = [f.name for f in dataclasses.fields(Hyper)]


def parse(config: DictConfig) -> Config:
    """Check the composed configuration.

    Raises:
        ConfigError: the first thing that is wrong.
    """
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
    recipe, other = values["recipe"]["name"], values["comparison"]["name"]
    compare = bool(values["compare"]) and other != recipe and phase != "direct"
    family = build(FamilyConfig, values["family"], "family")
    inversion = build(InversionConfig, values["inversion"], "inversion")
    check_together(family, edit, inversion)
    trainer = build(TrainerConfig, values["trainer"], "trainer")
    if trainer.pairs_per_step < 1:
        raise ConfigError("config", f"trainer.pairs_per_step = {trainer.pairs_per_step}", "1 or more")
    return Config(
        family=family,
        clip=build(ClipConfig, values["clip"], "clip"),
        align=build(AlignConfig, values["align"], "align"),
        inversion=inversion,
        edit=edit,
        trainer=trainer,
        logger=build(LoggerConfig, values["logger"], "logger"),
        metrics=build(
            MetricsConfig,
            values["metrics"],
            "metrics",
        ),
        output=build(OutputConfig, values["output"], "output"),
        phase=phase,
        anchor=convert(int | None, values["anchor"], "anchor"),
        seed=convert(int, values["seed"], "seed"),
        recipe=recipe,
        hyper=build(Hyper, {k: values[k] for k in HYPER_NAMES}, "recipe"),
        comparison_recipe=other if compare else None,
        comparison=comparison_hyper(values["comparison"], edit) if compare else None,
        composed=values,
    )


def check_together(family: FamilyConfig, edit: EditConfig, inversion: InversionConfig) -> None:
    """Raise ConfigError unless the family has the edit and the inversion, and they fit each other."""
    source = edit.source(family.name)
    inversion.check_family(family.name)
    if source.kind == "checkpoint" and inversion.name == "pti":
        raise ConfigError(
            "config",
            f"edit={edit.name} brings its own generator, inversion=pti tunes another",
            "take inversion=restyle_psp, as the paper does (Section 4.2)",
        )


def comparison_hyper(recipe: dict[str, Any], edit: EditConfig) -> Hyper:
    """The recipe shown beside the chosen one, with the paper's alpha for this edit if it has one."""
    values = dict(recipe[edit.domain])
    if recipe["name"] in edit.alpha:
        values["alpha"] = edit.alpha[recipe["name"]]
    return build(Hyper, values, f"comparison.{edit.domain}")


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
