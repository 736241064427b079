"""E_warp, distance and sharpness after each epoch, for logs and dashboards."""

from __future__ import annotations

from functools import cached_property

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempcons.geometry.occlusion import visible_xu
from tempcons.metrics.ewarp import e_warp
from tempcons.metrics.sharpness import sharpness
from tempcons.models.flow import FlowNetwork
from tempcons.models.perceptual import FeatureDistance

BATCH = 8


class EpochMetrics(pl.Callback):
    """Renders all frames after an epoch and logs E_warp with its companions.

    Logged are E_warp (Eq. 9, flow on the output), the distance to the direct edit, and sharpness as a share
    of the direct edit's; by the first of several processes only.

    Args:
        codes: (T, L, D) codes the phase renders.
        direct: (T, 3, H, W) direct edit in [-1, 1].
        flow: flow network of the metric.
        perceptual: logged as "lpips" if it is LPIPS, else as "distance".
        every: epochs between two measurements.
    """

    def __init__(
        self, codes: Tensor, direct: Tensor, flow: FlowNetwork, perceptual: FeatureDistance, every: int = 1
    ) -> None:
        self.codes, self.direct, self.flow, self.every = codes, direct, flow, every
        self.perceptual = perceptual

    @property
    def distance_name(self) -> str:
        """A distance is called LPIPS only if it is."""
        return "lpips" if self.perceptual.is_lpips else "distance"

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every or not trainer.is_global_zero:
            return
        codes = self.codes.to(pl_module.device)
        frames = torch.cat([pl_module.render(part) for part in codes.split(BATCH)])  # type: ignore[operator]
        frames = frames.clamp(-1, 1)
        distances = [
            self.perceptual(x, y.to(x))
            for x, y in zip(frames.split(BATCH), self.direct.split(BATCH), strict=True)
        ]
        found = {
            "e_warp": self.neighbour_error(frames),
            self.distance_name: torch.cat(distances).mean(),
            "sharpness": sharpness(frames).mean() / self.direct_sharpness.to(frames),
        }
        pl_module.log_dict(found, rank_zero_only=True)

    @cached_property
    def direct_sharpness(self) -> Tensor:
        """Mean sharpness of the direct edit; a picture without any detail counts as one with very little."""
        return sharpness(self.direct).mean().clamp_min(1e-12)

    def neighbour_error(self, frames: Tensor) -> Tensor:
        """Mean E_warp over neighbouring frames."""
        errors = []
        for at in range(0, len(frames) - 1, BATCH):
            now = frames[at : at + BATCH]
            after = frames[at + 1 : at + 1 + BATCH]
            now = now[: len(after)]
            forward, backward = self.flow.pair(now, after)
            errors.append(e_warp(now, after, forward, visible_xu(forward, backward)))
        return torch.cat([e.reshape(-1) for e in errors]).mean()
