"""Flow and masks of a few pairs as a phase last saw them, kept for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from tempcons.losses.masks import visibility_mask
from tempcons.losses.photometric import PairGeometry
from tempcons.weights.assets import load_state, save_state

FILE = "masks.safetensors"
COUNT = 4


@dataclass(frozen=True)
class PairMasks:
    """A frame beside the anchor, on the frame's own grid at the size of the flow.

    Attributes:
        picture: (3, H, W) in [-1, 1], as rendered then.
        flow: (2, H, W) px, from the frame to the anchor.
        visible: (1, H, W) M^vis in [0, 1].
        difference: (1, H, W) M^PD in [0, 1]; None out-of-domain.
        fused: (1, H, W) the mask of the losses, in [0, 1].
    """

    picture: Tensor
    flow: Tensor
    visible: Tensor
    difference: Tensor | None
    fused: Tensor


def spread(pairs: Sequence[tuple[int, int]], count: int = COUNT) -> list[tuple[int, int]]:
    """Up to ``count`` pairs (anchor, frame) whose frames are spread over the clip, each with one anchor."""
    anchor_of: dict[int, int] = {}
    for anchor, frame in pairs:
        anchor_of.setdefault(frame, anchor)
    frames = sorted(anchor_of)
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [(anchor_of[frames[at]], frames[at]) for at in places]


class MaskRecorder(pl.Callback):
    """Keeps what a phase computes for some pairs; nothing is computed for it.

    It attaches itself to the phase as ``recorder``. What it holds is in the checkpoint too, and is written
    when the fit ends; no file is written where the losses needed no flow.

    Args:
        path: file to write.
        watched: (anchor, frame) by frame id.
        visibility: k of the visibility mask.
    """

    def __init__(self, path: Path, watched: Sequence[tuple[int, int]], visibility: float) -> None:
        self.path, self.watched, self.visibility = path, set(watched), visibility
        self.kept: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.recorder = self  # type: ignore[assignment]

    @torch.no_grad()
    def see(
        self, frame_ids: Tensor, frames: Tensor, difference: Tensor | None, geometry: PairGeometry
    ) -> None:
        """Keep the watched ones of a batch.

        Args:
            frame_ids: (B, 2) of the pairs.
            frames: (B, 3, H, W) the pairs' second frames, at the size of the flow.
            difference: (B, 1, H, W) their M^PD, or None.
            geometry: flow and masks of the pairs.
        """
        for at, (first, second) in enumerate(frame_ids.tolist()):
            if (first, second) in self.watched:
                found = {
                    "picture": frames[at],
                    "flow": geometry.flow_i_to_a[at],
                    "visible": visibility_mask(geometry.error_i[at], self.visibility),
                    "fused": geometry.mask_i[at],
                } | ({} if difference is None else {"difference": difference[at]})
                self.kept |= {f"{second}.{name}": v.to("cpu", torch.float16) for name, v in found.items()}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        kept = together(self.kept) if trainer.world_size > 1 else self.kept
        if kept and trainer.is_global_zero:
            save_state(self.path, kept, {})

    def state_dict(self) -> dict[str, Any]:
        return dict(self.kept)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = dict(state_dict)


def together(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """What all processes of a fit hold."""
    parts: list[dict[str, Tensor]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, kept)
    return {name: tensor for part in parts for name, tensor in part.items()}


def load_masks(path: Path) -> dict[int, PairMasks]:
    """Masks by frame id, in order, as :class:`MaskRecorder` wrote them; {} where it wrote none."""
    if not path.exists():
        return {}
    by_frame: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_state(path)[0].items():
        frame_id, _, part = name.partition(".")
        by_frame.setdefault(int(frame_id), {})[part] = tensor.float()
    return {i: _masks(by_frame[i]) for i in sorted(by_frame)}


def _masks(parts: dict[str, Tensor]) -> PairMasks:
    return PairMasks(
        parts["picture"], parts["flow"], parts["visible"], parts.get("difference"), parts["fused"]
    )
