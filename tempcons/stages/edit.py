"""Latents -> the direct edit, frame by frame: in-domain the codes move, out-of-domain the generator."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tempcons.check import ConfigError, WeightsError, near_names
from tempcons.edits.directions import load_direction
from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import load_generator
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store, hash_file
from tempcons.types import Aligned, Domain, Edited, Latents
from tempcons.weights import registry
from tempcons.weights.assets import Asset, load_asset, load_state, save_state
from tempcons.weights.load import load_generator as load_checkpoint
from tempcons.weights.load import load_mapper

VERSION = 1
FILE_KINDS = {"direction": "direction", "generator": "generator_difference"}
# Domain of each kind of source, by family.
KINDS = {
    "embedded": {"direction": "in", "file": "in", "generator": "out"},
    "ffhq": {"direction": "in", "file": "in", "mapper": "in", "checkpoint": "out"},
}


@dataclass(frozen=True)
class EditSource:
    """Where an edit comes from in one family.

    Attributes:
        kind: "direction" (codes move along it), "file" (along the user's own), "mapper" (a StyleCLIP
            mapper moves them), "generator" (weight differences of an adapted one) or "checkpoint" (a
            whole adapted generator).
        weights: name of the file; for "file" its path.
    """

    kind: str
    weights: str


@dataclass(frozen=True)
class Change:
    """What an edit does to codes (T, L, D) and generator, and the record of its file.

    ``like`` has the shape of the edited generator.
    """

    record: dict[str, str]
    like: Generator
    apply: Callable[[torch.Tensor, Generator], tuple[torch.Tensor, Generator]]


@dataclass(frozen=True)
class EditConfig:
    """An edit.

    Attributes:
        name: as given on the command line.
        domain: "in" or "out".
        strength: how far codes move, or share of the generator's difference that is applied.
        description: one line for ``--help``.
        sources: by family.
        alpha: step of phase 1 by recipe, where the paper names one for this edit.
        strengths: the usual strength by family, where it differs; ``strength`` refers to it.
        file: the user's own direction, which sources of kind "file" refer to.
    """

    name: str
    domain: str
    strength: float
    description: str
    sources: dict[str, EditSource]
    alpha: dict[str, float] = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)
    file: str | None = None

    def __post_init__(self) -> None:
        if self.domain not in ("in", "out"):
            raise ConfigError("config", f"edit.domain = {self.domain!r}", "known: in, out")

    def source(self, family: str) -> EditSource:
        """The source for a family.

        Raises:
            ConfigError: the family has no such edit, or the source does not fit the domain.
        """
        if family not in self.sources:
            have = ", ".join(sorted(self.sources)) or "none"
            raise ConfigError(
                "edit", f"{self.name} does not exist for family={family}", f"it exists for: {have}"
            )
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
        if source.kind == "file" and not Path(source.weights).is_file():
            raise ConfigError(
                "edit", f"no file {source.weights}", "edit.file=PATH of a .npy or .pt direction"
            )
        return source

    def official_weights(self, family: str) -> list[str]:
        """Names of the downloads it needs."""
        source = self.source(family)
        return [] if family == "embedded" or source.kind == "file" else [source.weights]


def anchor_frame(frame_ids: np.ndarray, anchor: int | None) -> int:
    """Frame id of the anchor: the middle frame unless one is named.

    Raises:
        ConfigError: the id is not among the clip's frames.
    """
    if anchor is None:
        return int(frame_ids[(len(frame_ids) - 1) // 2])
    if anchor not in frame_ids:
        span = f"{frame_ids[0]}..{frame_ids[-1]}"
        raise ConfigError(
            "edit", f"anchor = {anchor} is not a frame of the clip ({span})", "name one of its frames"
        )
    return anchor


def apply_difference(generator: Generator, asset: Asset, strength: float) -> Generator:
    """A copy of the clip's generator with the adapted generator's weight differences added.

    The difference is taken between the adapted and the base network, so the likeness learned by
    pivotal tuning stays. Source: weight transfer between aligned StyleGANs, Wu 2021 (StyleAlign).
    """
    adapted = copy.deepcopy(generator)
    state = adapted.state_dict()
    unknown = sorted(set(asset.tensors) - set(state))
    if unknown:
        raise ConfigError("edit", f"{asset.record['name']} changes unknown layers: {', '.join(unknown[:3])}")
    for name, difference in asset.tensors.items():
        state[name] += strength * difference
    return adapted


def blend(base: Generator, adapted: Generator, strength: float) -> Generator:
    """The adapted generator for strength 1, else a network between it and ``base``, or beyond.

    Raises:
        WeightsError: networks of different shapes can't be blended.
    """
    if strength == 1:
        return adapted
    state, own = base.state_dict(), adapted.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        raise WeightsError("edit", "the checkpoint has other layers than the base", "set edit.strength=1")
    adapted.load_state_dict({k: torch.lerp(state[k], own[k], strength) for k in own})
    return adapted


def load_change(source: EditSource, family: Family, strength: float) -> Change:
    """The edit of a source.

    Raises:
        WeightsError: its file is missing, damaged, or made for another generator.
    """
    if source.kind == "file":
        return load_own(Path(source.weights), family, strength)
    load = load_embedded if family.name == "embedded" else load_official
    return load(source, family, strength)


def load_own(path: Path, family: Family, strength: float) -> Change:
    """The user's own direction: .npy or .pt, (D,), (1, D), (L, D) or (1, L, D)."""
    base = family.generator
    move = strength * load_direction(path, base.n_latent, base.style_dim)
    record = {"name": path.name, "kind": "direction", "sha256": hash_file(path)}
    record |= {"licence": "the user's own", "card": str(path)}
    return Change(record, base, lambda codes, g: (codes + move, g))


def load_embedded(source: EditSource, family: Family, strength: float) -> Change:
    """An edit that comes with the package."""
    asset = load_asset(source.weights, FILE_KINDS[source.kind])
    if source.kind == "direction":
        move = strength * asset.tensors["direction"]
        return Change(asset.record, family.generator, lambda codes, g: (codes + move, g))
    return Change(
        asset.record, family.generator, lambda codes, g: (codes, apply_difference(g, asset, strength))
    )


def load_official(source: EditSource, family: Family, strength: float) -> Change:
    """An edit from a download.

    Raises:
        WeightsError: it is missing, or made for another generator.
    """
    path, record = registry.require([source.weights])[source.weights], registry.record(source.weights)
    base = family.generator
    if source.kind == "direction":
        move = strength * load_direction(path, base.n_latent, base.style_dim)
        return Change(record, base, lambda codes, g: (codes + move, g))
    if source.kind == "mapper":
        mapper = load_mapper(path, base.n_latent).requires_grad_(False)
        check_width(path, mapper.style_dim, base)
        return Change(record, base, lambda codes, g: (codes + strength * mapper(codes), g))
    adapted = load_checkpoint(path, family.size).generator.requires_grad_(False)
    check_width(path, adapted.style_dim, base)
    adapted = blend(base, adapted, strength)
    return Change(record, adapted, lambda codes, g: (codes, adapted))


def check_width(path: Path, style_dim: int, base: Generator) -> None:
    """Raise WeightsError unless an edit's network is made for codes as wide as the generator's."""
    if style_dim != base.style_dim:
        what = f"{path} is for codes of {style_dim} numbers a row"
        raise WeightsError("edit", what, f"the generator reads {base.style_dim}")


def run(
    latents: Latents, aligned: Aligned, family: Family, config: EditConfig, anchor: int | None, store: Store
) -> Edited:
    """The direct edit: codes, generator and frames, which training reads."""
    source = config.source(family.name)
    change = load_change(source, family, config.strength)
    anchor_id = anchor_frame(latents.frame_ids, anchor)
    depends = {
        "version": VERSION,
        "latents": latents.key,
        "source": {"kind": source.kind, "weights": source.weights},
        "sha256": change.record["sha256"],
        "strength": config.strength,
    }

    def make(folder: Path) -> dict[str, Any]:
        codes, generator = change.apply(latents.codes, latents.generator)
        save_state(folder / "codes.safetensors", {"codes": codes}, {})
        save_state(folder / "generator.safetensors", generator.state_dict(), {})
        render_frames(generator, codes, folder / "frames.npy", family.device)
        return {"weights": [change.record]}

    folder = store.produce("edit", depends, make)
    domain: Domain = "in" if config.domain == "in" else "out"
    return Edited(
        codes=load_state(folder / "codes.safetensors")[0]["codes"],
        frame_ids=latents.frame_ids,
        generator=load_generator(folder / "generator.safetensors", change.like),
        frames=FrameStore.open(folder / "frames.npy"),
        aligned=aligned.frames,
        domain=domain,
        anchor_id=anchor_id,
        key=f"{folder.name}-{anchor_id}",
    )
