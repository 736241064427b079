"""Direct edit -> what the phases are pulled to: itself, or the same made consistent along its flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tempcons.family import Family
from tempcons.media.frames import FrameStore, write_frames
from tempcons.store.artefact import Store
from tempcons.training.hyper import Hyper
from tempcons.training.target_video import consistent_video, joined
from tempcons.types import AnchorWindow, Edited, Target

VERSION = 1


def run(edited: Edited, family: Family, hyper: Hyper, store: Store) -> Target:
    """The frames to learn; solved for once per clip, edit and pair of weights.

    The direct edit's own frames where the recipe has ``target: direct``, or no weight on it.
    """
    if not hyper.solves_target:
        return Target(edited.frames, edited.key)
    weights = hyper.target_anchor, hyper.target_data
    depends = {
        "version": VERSION,
        "edited": edited.key,
        "weights": weights,
        **family.reads("flow"),
    }

    def make(folder: Path) -> dict[str, Any]:
        family.place()
        pieces = joined(solve(edited, window, family, weights) for window in edited.anchor_windows)
        write_frames(folder / "frames.npy", (len(edited.frames), *edited.frames.size), pieces)
        return {}

    folder = store.produce("target", depends, make)
    return Target(FrameStore.open(folder / "frames.npy"), folder.name)


def solve(
    edited: Edited, window: AnchorWindow, family: Family, weights: tuple[float, float]
) -> tuple[range, torch.Tensor]:
    """Positions and target pictures (T, 3, H, W) of one window."""
    own = FrameStore(edited.frames.array[window.frames.start : window.frames.stop])
    if len(own) == 1:
        return window.frames, own.pictures()
    anchor = window.anchor - window.frames.start
    return window.frames, consistent_video(own, anchor, family.flow, *weights, family.device)
