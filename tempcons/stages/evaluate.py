"""Frames of every variant -> figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tempcons.baselines.controls import flow_warped_mean, smooth_codes
from tempcons.family import Family
from tempcons.media.frames import FrameStore, write_frames
from tempcons.metrics.evaluate import Evaluator, VideoMetrics
from tempcons.progress import track
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.types import Edited

VERSION = 1
CONTROLS = ("smoothed_codes", "flow_warped_mean")


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured while training, and where the x-t slices are cut.

    Attributes:
        every_epochs: epochs between two E_warp measurements while training; 0 for none.
        slice_row: row of the x-t slices, as a share of the height.
    """

    every_epochs: int = 1
    slice_row: float = 0.68


def controls(edited: Edited, family: Family, store: Store) -> dict[str, FrameStore]:
    """The two controls every result is shown beside: no optimisation, only smoothing."""
    depends = {"version": VERSION, "edited": edited.key, "flow": family.flow.name}

    def make(folder: Path) -> None:
        codes = smooth_codes(edited.codes, 1.0)
        render_frames(edited.generator, codes, folder / "smoothed_codes.npy", family.device)
        family.place()
        mean = flow_warped_mean(edited.frames, family.flow, family.device)
        write_frames(folder / "flow_warped_mean.npy", (len(edited.frames), *edited.frames.size), mean)

    folder = store.produce("controls", depends, make)
    return {name: FrameStore.open(folder / f"{name}.npy") for name in CONTROLS}


def run(edited: Edited, variants: dict[str, FrameStore], family: Family) -> dict[str, VideoMetrics]:
    """Figures of every variant, with both flow estimators, against the direct edit.

    Args:
        edited: the direct edit.
        variants: frames by name; "direct" among them.
        family: flow and perceptual networks.
    """
    anchor = edited.frame_ids.tolist().index(edited.anchor_id)
    flows = (family.flow, family.second_flow)
    family.place()
    evaluator = Evaluator(edited.frames, anchor, flows, family.perceptual, edited.aligned, family.device)
    return {
        name: evaluator.measure(frames)
        for name, frames in track(variants.items(), "measuring", len(variants))
    }
