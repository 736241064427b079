"""E_warp and distance to the direct edit after each epoch, for logs and dashboards."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempcons.geometry.occlusion import visible_xu
from tempcons.metrics.ewarp import e_warp
from tempcons.models.flow import FlowNetwork
from tempcons.models.perceptual import FeatureDistance

RENDER_BATCH = 8


class EpochMetrics(pl.Callback):
    """Renders all frames after an epoch and logs E_warp (Eq. 9, flow on the output) and distance.

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

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every:
            return
        codes = self.codes.to(pl_module.device)
        frames = torch.cat([pl_module.render(part) for part in codes.split(RENDER_BATCH)])  # type: ignore[operator]
        frames = frames.clamp(-1, 1)
        pl_module.log("e_warp", self.neighbour_error(frames), rank_zero_only=True)
        name = "lpips" if self.perceptual.is_lpips else "distance"
        distances = [
            self.perceptual(x, y.to(x)) for x, y in zip(frames.split(8), self.direct.split(8), strict=True)
        ]
        pl_module.log(name, torch.cat(distances).mean(), rank_zero_only=True)

    def neighbour_error(self, frames: Tensor) -> Tensor:
        """Mean E_warp over neighbouring frames."""
        errors = []
        for at in range(0, len(frames) - 1, RENDER_BATCH):
            now = frames[at : at + RENDER_BATCH]
            after = frames[at + 1 : at + 1 + RENDER_BATCH]
            now = now[: len(after)]
            forward, backward = self.flow.pair(now, after)
            errors.append(e_warp(now, after, forward, visible_xu(forward, backward)))
        return torch.cat([e.reshape(-1) for e in errors]).mean()
