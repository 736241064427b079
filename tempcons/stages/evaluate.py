"""Frames of every variant -> figures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tempcons.baselines.controls import flow_warped_mean, smooth_codes
from tempcons.check import ConfigError
from tempcons.family import Family
from tempcons.media.frames import FrameStore, write_frames
from tempcons.progress import track
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.types import Edited

if TYPE_CHECKING:
    from tempcons.metrics.evaluate import Evaluator, VideoMetrics

VERSION, FIGURES_VERSION = 1, 1
FIGURES = "figures.json"
CONTROLS = ("smoothed_codes", "flow_warped_mean")


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured while training, and where the x-t slices are cut.

    Attributes:
        every_epochs: epochs between two E_warp measurements while training; 0 for none.
        slice_row: row of the x-t slices, as a share of the height.
        full_size: longer side in px at which E_warp of full frames is measured; None: theirs.
    """

    every_epochs: int = 1
    slice_row: float = 0.68
    full_size: int | None = 1024

    def __post_init__(self) -> None:
        if self.every_epochs < 0:
            raise ConfigError("config", f"metrics.every_epochs = {self.every_epochs}", "0 or more")
        if not 0 <= self.slice_row <= 1:
            raise ConfigError("config", f"metrics.slice_row = {self.slice_row}", "a share from 0 to 1")


def controls(edited: Edited, family: Family, store: Store) -> dict[str, FrameStore]:
    """The two controls every result is shown beside: no optimisation, only smoothing."""
    depends = {"version": VERSION, "edited": edited.key, **family.reads("flow")}

    def make(folder: Path) -> None:
        codes = torch.cat([smooth_codes(edited.codes[s.start : s.stop], 1.0) for s in edited.scenes])
        render_frames(edited.generator, codes, folder / "smoothed_codes.npy", family.device)
        family.place()
        scenes = [FrameStore(edited.frames.array[s.start : s.stop]) for s in edited.scenes]
        mean = chain.from_iterable(flow_warped_mean(scene, family.flow, family.device) for scene in scenes)
        write_frames(folder / "flow_warped_mean.npy", (len(edited.frames), *edited.frames.size), mean)

    folder = store.produce("controls", depends, make)
    return {name: FrameStore.open(folder / f"{name}.npy") for name in CONTROLS}


def run(
    edited: Edited, variants: dict[str, FrameStore], family: Family, store: Store
) -> dict[str, VideoMetrics]:
    """Figures of every variant, with both flow estimators, against the direct edit; each kept by itself.

    Args:
        edited: the direct edit.
        variants: frames by name; "direct" among them.
        family: flow and perceptual networks.
        store: where they are kept.
    """
    from tempcons.metrics.evaluate import VideoMetrics  # torchmetrics takes seconds to load

    depends = {
        "version": FIGURES_VERSION,
        "direct": edited.frames.digest,
        "input": edited.aligned.digest,
        "anchor": anchor_index(edited),
        "cuts": cuts(edited),
        **family.reads("flow", "second_flow", "perceptual"),
    }
    evaluator = cache(lambda: set_up(edited, family))

    def of(frames: FrameStore) -> VideoMetrics:
        def make(folder: Path) -> None:
            found = evaluator().measure(frames)
            (folder / FIGURES).write_text(json.dumps(asdict(found)))

        folder = store.produce("figures", {**depends, "frames": frames.digest}, make)
        return VideoMetrics(**json.loads((folder / FIGURES).read_text()))

    return {name: of(frames) for name, frames in track(variants.items(), "measuring", len(variants))}


def set_up(edited: Edited, family: Family) -> Evaluator:
    """What measures; flow of the direct edit and the input is computed once for all variants."""
    from tempcons.metrics.evaluate import Evaluator

    family.place()
    return Evaluator(
        edited.frames,
        anchor_index(edited),
        (family.flow, family.second_flow),
        family.perceptual,
        edited.aligned,
        family.device,
        cuts=cuts(edited),
    )


def anchor_index(edited: Edited) -> int:
    """Position of the anchor among the frames."""
    return edited.frame_ids.tolist().index(edited.anchor_id)


def cuts(edited: Edited) -> list[int]:
    """Positions of frames that begin a new scene."""
    return [scene.start for scene in edited.scenes[1:]]
