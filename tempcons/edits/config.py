"""What an edit is told: its source in every family, its strength, and several edits at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tempcons.check import ConfigError, check_number, near_names
from tempcons.edits.refine import FITS
from tempcons.models.clip import require_package

# Domain of each kind of source, by family.
COMMON_KINDS = {"file": "in", "sefa": "in", "style": "in", "text": "out"}
KINDS = {
    "embedded": {**COMMON_KINDS, "direction": "in", "mapper": "in", "generator": "out"},
    "ffhq": {
        **COMMON_KINDS,
        "direction": "in",
        "ganspace": "in",
        "mapper": "in",
        "transformer": "in",
        "style_text": "in",
        "checkpoint": "out",
    },
}
OWN_FILES = ("file", "style")
BY_TEXT = ("text", "style_text")
STYLE_CLIP = "clip-vit-b-32"  # StyleCLIP's channel relevance was measured in this network's features
DOWNLOADS = ("direction", "ganspace", "mapper", "transformer", "style_text", "checkpoint")


@dataclass(frozen=True)
class EditSource:
    """Where an edit comes from in one family.

    Attributes:
        kind: what moves in-domain: "direction" (codes along it), "file" (along the user's own), "sefa"
            and "ganspace" (along a component), "mapper" (codes by a StyleCLIP mapper), "transformer" (by
            a latent transformer), "style" (styles along the user's own direction), "style_text" (along
            one from two texts). Out-of-domain: "generator" (weight differences of an adapted one),
            "checkpoint" (a whole adapted generator) or "text" (one adapted here, from two texts).
        weights: name of the file; for "file" and "style" its path.
    """

    kind: str
    weights: str = ""


@dataclass(frozen=True)
class AdaptConfig:
    """How a generator is adapted to a text.

    Attributes:
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate (Adam).
        lambda_direction: weight of the directional loss.
        lambda_global: weight of the global loss.
        layers: how many layers are trained in each step, those whose codes the text moves most; null all.
        layer_steps: steps in which the codes are moved to find them.
        layer_batch: codes that are moved.
        clip: weights of CLIP networks by name.

    Source: Gal et al., StyleGAN-NADA, SIGGRAPH 2022.
    """

    steps: int = 300
    batch: int = 2
    lr: float = 1.6e-3
    lambda_direction: float = 1.0
    lambda_global: float = 0.0
    layers: int | None = None
    layer_steps: int = 1
    layer_batch: int = 8
    clip: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {"steps": self.steps, "batch": self.batch, "layers": self.layers}
        counts |= {"layer_steps": self.layer_steps, "layer_batch": self.layer_batch}
        for name, value in counts.items():
            if value is not None:
                check_number(f"edit.training.{name}", value, 1)
        check_number("edit.training.lr", self.lr, 0, above=True)
        weights = {"lambda_direction": self.lambda_direction, "lambda_global": self.lambda_global}
        for name, weight in weights.items():
            check_number(f"edit.training.{name}", weight, 0)
        for name, weight in self.clip.items():
            check_number(f"edit.training.clip.{name}", weight, 0, above=True)
        if not self.lambda_direction and not self.lambda_global:
            raise ConfigError("config", "edit.training has no loss", "set lambda_direction or lambda_global")
        if not self.clip:
            raise ConfigError("config", "edit.training.clip names no network", "such as {clip-vit-b-32: 1}")


@dataclass(frozen=True)
class EditConfig:
    """An edit, or several at once.

    Attributes:
        name: as given on the command line.
        domain: "in" or "out".
        strength: how far codes or styles move, or share of the generator's difference that is applied;
            of several edits a factor for all.
        description: one line for ``--help``.
        sources: by family.
        alpha: step of phase 1 by recipe, where the paper names one for this edit.
        strengths: the usual strength by family, where it differs; ``strength`` refers to it.
        file: the user's own direction, which sources of kinds "file" and "style" refer to.
        component: which direction of kinds "sefa" and "ganspace", from 0.
        rows: rows of the codes that a direction moves; null all.
        refine: steps in which an embedded direction's offset is fitted to the clip's tuned generator; 0: the
            direction as it is. Edits of other kinds have none.
        refine_as: whether it is an "expression" or a "thing" that is put on the face (edits/refine.py).
        refines: the usual steps of it by family; ``refine`` refers to them.
        refine_generator: steps in which the clip's generator then learns the edit too, in a copy; 0: it
            stays as it is.
        refine_generators: the usual steps of it by family; ``refine_generator`` refers to them.
        source, target: what edits by text go from and to.
        threshold: style channels of smaller relevance to a text stay.
        training: of kind "text".
        layers: several edits by name, applied together; then there are no ``sources``.
    """

    name: str
    domain: str
    strength: float
    description: str
    sources: dict[str, EditSource]
    alpha: dict[str, float] = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)
    file: str | None = None
    component: int = 0
    rows: list[int] | None = None
    refine: int = 0
    refine_as: str = "expression"
    refines: dict[str, int] = field(default_factory=dict)
    refine_generator: int = 0
    refine_generators: dict[str, int] = field(default_factory=dict)
    source: str | None = None
    target: str | None = None
    threshold: float = 0.1
    training: AdaptConfig | None = None
    layers: dict[str, EditConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.domain not in ("in", "out"):
            raise ConfigError("config", f"edit.domain = {self.domain!r}", "known: in, out")
        check_number("edit.strength", self.strength)
        check_number("edit.component", self.component, 0)
        check_number("edit.refine", self.refine, 0)
        check_number("edit.refine_generator", self.refine_generator, 0)
        if self.refine_as not in FITS:
            raise ConfigError(
                "config", f"edit.refine_as = {self.refine_as!r}", near_names(self.refine_as, FITS)
            )
        check_number("edit.threshold", self.threshold, 0)
        for recipe, alpha in self.alpha.items():
            check_number(f"edit.alpha.{recipe}", alpha, 0)

    @property
    def parts(self) -> list[EditConfig]:
        """The edits to apply: this one, or those of a stack; changes of the generator come first."""
        return sorted(self.layers.values(), key=lambda e: (e.domain == "in", e.name)) or [self]

    @property
    def fitting(self) -> str:
        """The setting that has the edit fitted to the clip, as it is written; empty where none does."""
        told = {"refine": self.refine, "refine_generator": self.refine_generator}
        return next((f"edit.{name}={steps}" for name, steps in told.items() if steps), "")

    def source_in(self, family: str) -> EditSource:
        """The source of a single edit for a family.

        Raises:
            ConfigError: the family has no such edit, the source does not fit the domain, or lacks something.
        """
        if family not in self.sources:
            have = ", ".join(sorted(self.sources)) or "none"
            what = f"{self.name} does not exist for family={family}"
            raise ConfigError("edit", what, f"it exists for: {have}")
        source = self.sources[family]
        fits = KINDS.get(family, {})
        if source.kind not in fits:
            raise ConfigError("edit", f"{self.name}: kind {source.kind!r}", near_names(source.kind, fits))
        if fits[source.kind] != self.domain:
            raise ConfigError(
                "edit",
                f"{self.name} is a {source.kind} but edit.domain={self.domain}",
                f"a {source.kind} edit is domain={fits[source.kind]}",
            )
        if self.fitting and (family, source.kind) != ("embedded", "direction"):
            raise ConfigError(
                "edit",
                f"{self.fitting} has nothing to fit: {source.kind} of family={family}",
                "set it to 0; directions of family=embedded alone are fitted to the clip's generator",
            )
        if source.kind in OWN_FILES and not Path(source.weights).is_file():
            raise ConfigError(
                "edit", f"no file {source.weights}", "edit.file=PATH of a .npy or .pt direction"
            )
        if source.kind in BY_TEXT:
            self.check_texts()
        if source.kind == "text" and self.training is None:
            raise ConfigError("edit", f"{self.name} has no training settings", "see conf/edit/nada_text.yaml")
        return source

    def check_texts(self) -> None:
        """Raise ConfigError unless there are two different texts."""
        source, target = (self.source or "").strip(), (self.target or "").strip()
        if not source or not target or source == target:
            found = f"edit.source = {self.source!r}, edit.target = {self.target!r}"
            raise ConfigError("edit", found, "two different texts, such as photo and sketch")

    def sources_in(self, family: str) -> dict[str, EditSource]:
        """The source of each part for a family, by the part's name.

        Raises:
            ConfigError: a part that the family lacks, or parts that don't go together.
        """
        if not self.layers and not self.sources:
            raise ConfigError("edit", "edit=stack without edits", "edit.stack=[surprised,happy]")
        found = {part.name: part.source_in(family) for part in self.parts}
        if self.layers:
            self.check_stack()
        return found

    def check_stack(self) -> None:
        """Raise ConfigError unless at most one part changes the domain, and the stack's domain is its.

        Nor may the stack be refined, which its edits are one by one.
        """
        if self.fitting:
            what = f"{self.fitting} for several edits at once"
            raise ConfigError("edit", what, "edit.layers.NAME.refine=N refines one of them")
        swaps = [part.name for part in self.parts if part.domain == "out"]
        if len(swaps) > 1:
            what = f"{' and '.join(swaps)} each bring a generator of their own"
            raise ConfigError("edit", what, "leave one in edit.stack")
        domain = "out" if swaps else "in"
        if self.domain != domain:
            why = f"{swaps[0]} is out-of-domain" if swaps else "all edits of the stack are in-domain"
            raise ConfigError("edit", f"edit.domain={self.domain} but {why}", f"edit.domain={domain}")

    def official_weights(self, family: str) -> list[str]:
        """Names of the downloads it needs."""
        names: list[str] = []
        for part in self.parts:
            source = part.source_in(family)
            if family != "embedded" and source.kind in DOWNLOADS:
                names.append(source.weights)
            if source.kind == "style_text":
                names.append(STYLE_CLIP)
            if source.kind == "text" and part.training is not None:
                names += part.training.clip
        return list(dict.fromkeys(names))

    def check_packages(self, family: str) -> None:
        """Raise WeightsError unless the packages that it needs are installed."""
        if any(source.kind in BY_TEXT for source in self.sources_in(family).values()):
            require_package()
