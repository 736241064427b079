"""Latents -> the direct edit, frame by frame: in-domain the codes move, out-of-domain the generator."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tempcons.check import ConfigError
from tempcons.edits.change import Change, apply_all, by_difference, load_change
from tempcons.edits.config import EditConfig
from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.stages.adapt import adapted
from tempcons.stages.invert import load_generator
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.settings import TrainerConfig
from tempcons.types import Aligned, Domain, Edited, Latents
from tempcons.weights import registry
from tempcons.weights.assets import load_state, save_state

VERSION = 3


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


def load_changes(
    config: EditConfig, family: Family, trainer: TrainerConfig, store: Store, seed: int
) -> list[Change]:
    """The changes of an edit's parts; a generator adapted to a text is trained first.

    Raises:
        ConfigError: parts that the family lacks, or that don't go together.
        WeightsError: a file is missing, damaged, or made for another generator.
    """
    sources = config.sources_in(family.name)
    changes = []
    for part in config.parts:
        strength = part.strength * (config.strength if config.layers else 1.0)
        source = sources[part.name]
        if source.kind == "text" and part.training is not None:
            clip = [registry.record(name) for name in part.training.clip]
            changes.append(by_difference(adapted(part, family, trainer, store, seed), strength, clip))
        else:
            changes.append(load_change(part, source, family.name, family.generator, strength))
    return changes


def part_key(part: EditConfig, change: Change, family: str) -> dict[str, Any]:
    """What a part of an edit depends on."""
    fitting = ("refine", "refine_generator", "refine_as")
    settings = ("strength", "component", "rows", *fitting, "threshold", "source", "target")
    return {
        **asdict(part.source_in(family)),
        "sha256": [record["sha256"] for record in change.records],
        **{name: getattr(part, name) for name in settings},
    }


def run(
    latents: Latents,
    aligned: Aligned,
    family: Family,
    config: EditConfig,
    anchor: int | None,
    store: Store,
    trainer: TrainerConfig,
    seed: int,
) -> Edited:
    """The direct edit: codes, generator and frames, which training reads."""
    changes = load_changes(config, family, trainer, store, seed)
    anchor_id = anchor_frame(latents.frame_ids, anchor)
    depends = {
        "version": VERSION,
        "latents": latents.key,
        "parts": [part_key(p, change, family.name) for p, change in zip(config.parts, changes, strict=True)],
        "strength": config.strength,
    }

    def make(folder: Path) -> dict[str, Any]:
        codes, generator = apply_all(changes, latents.codes, latents.generator)
        save_state(folder / "codes.safetensors", {"codes": codes}, {})
        save_state(folder / "generator.safetensors", generator.state_dict(), {})
        render_frames(generator, codes, folder / "frames.npy", family.device)
        return {"weights": [record for change in changes for record in change.records]}

    folder = store.produce("edit", depends, make)
    domain: Domain = "in" if config.domain == "in" else "out"
    shapes = [change.like for change in changes if change.like is not None]
    return Edited(
        codes=load_state(folder / "codes.safetensors")[0]["codes"],
        frame_ids=latents.frame_ids,
        generator=load_generator(folder / "generator.safetensors", [family.generator, *shapes][-1]),
        frames=FrameStore.open(folder / "frames.npy"),
        aligned=aligned.frames,
        domain=domain,
        anchor_id=anchor_id,
        key=f"{folder.name}-{anchor_id}",
    )
