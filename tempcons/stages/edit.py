"""Latents -> the direct edit, frame by frame: in-domain the codes move, out-of-domain the generator."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tempcons.check import ConfigError, near_names
from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import load_generator
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.types import Aligned, Domain, Edited, Latents
from tempcons.weights.assets import Asset, load_asset, load_state, save_state

VERSION = 1
FILE_KINDS = {"direction": "direction", "generator": "generator_difference"}


@dataclass(frozen=True)
class EditSource:
    """Where an edit comes from in one family.

    Attributes:
        kind: "direction" (codes move along it) or "generator" (weight differences of an adapted one).
        weights: name of the file.
    """

    kind: str
    weights: str


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
    """

    name: str
    domain: str
    strength: float
    description: str
    sources: dict[str, EditSource]
    alpha: dict[str, float] = field(default_factory=dict)

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
        fits = {"direction": "in", "generator": "out"}
        if source.kind not in fits:
            raise ConfigError("edit", f"{self.name}: kind {source.kind!r}", near_names(source.kind, fits))
        if fits[source.kind] != self.domain:
            raise ConfigError(
                "edit",
                f"{self.name} is a {source.kind} but edit.domain={self.domain}",
                f"a {source.kind} edit is domain={fits[source.kind]}",
            )
        return source


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


def apply_direction(latents: Latents, asset: Asset, strength: float) -> torch.Tensor:
    """Codes moved along a direction (L, D)."""
    return latents.codes + strength * asset.tensors["direction"]


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


def run(
    latents: Latents, aligned: Aligned, family: Family, config: EditConfig, anchor: int | None, store: Store
) -> Edited:
    """The direct edit: codes, generator and frames, which training reads."""
    source = config.source(family.name)
    asset = load_asset(source.weights, FILE_KINDS[source.kind])
    anchor_id = anchor_frame(latents.frame_ids, anchor)
    depends = {
        "version": VERSION,
        "latents": latents.key,
        "source": asdict(source),
        "sha256": asset.record["sha256"],
        "strength": config.strength,
    }

    def make(folder: Path) -> dict[str, Any]:
        codes, generator = latents.codes, latents.generator
        if source.kind == "direction":
            codes = apply_direction(latents, asset, config.strength)
        else:
            generator = apply_difference(generator, asset, config.strength)
        save_state(folder / "codes.safetensors", {"codes": codes}, {})
        save_state(folder / "generator.safetensors", generator.state_dict(), {})
        render_frames(generator, codes, folder / "frames.npy", family.device)
        return {"weights": [asset.record]}

    folder = store.produce("edit", depends, make)
    domain: Domain = "in" if config.domain == "in" else "out"
    return Edited(
        codes=load_state(folder / "codes.safetensors")[0]["codes"],
        frame_ids=latents.frame_ids,
        generator=load_generator(folder / "generator.safetensors", family.generator),
        frames=FrameStore.open(folder / "frames.npy"),
        aligned=aligned.frames,
        domain=domain,
        anchor_id=anchor_id,
        key=f"{folder.name}-{anchor_id}",
    )
