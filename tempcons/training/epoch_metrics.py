"""E_warp, distance and sharpness after each epoch, for logs and dashboards."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempcons.geometry.occlusion import visible_xu
from tempcons.media.frames import FrameStore
from tempcons.metrics.ewarp import e_warp
from tempcons.metrics.sharpness import sharpness
from tempcons.models.flow import FlowNetwork
from tempcons.models.perceptual import FeatureDistance
from tempcons.training.feature_cache import FeatureCache

BATCH = 8
FEATURES_MB = 256.0  # of the direct edit; the phase keeps features of its own beside these


class EpochMetrics(pl.Callback):
    """Renders all frames after an epoch and logs E_warp with its companions.

    Logged are E_warp (Eq. 9, flow on the output), the distance to the direct edit, and sharpness as a share
    of the direct edit's; by the first of several processes only. Frames are rendered a few at a time, so
    memory doesn't grow with the clip.

    Args:
        codes: (T, L, D) codes the phase renders.
        direct: T frames of the direct edit.
        flow: flow network of the metric.
        perceptual: logged as "lpips" if it is LPIPS, else as "distance".
        every: epochs between two measurements.
    """

    def __init__(
        self,
        codes: Tensor,
        direct: FrameStore,
        flow: FlowNetwork,
        perceptual: FeatureDistance,
        every: int = 1,
    ) -> None:
        self.codes, self.direct, self.flow, self.every = codes, direct, flow, every
        self.perceptual, self.direct_features = perceptual, FeatureCache(perceptual, FEATURES_MB)

    @property
    def distance_name(self) -> str:
        """A distance is called LPIPS only if it is."""
        return "lpips" if self.perceptual.is_lpips else "distance"

    @property
    def batches(self) -> Iterator[slice]:
        """A few frames at a time, as positions."""
        return (slice(at, at + BATCH) for at in range(0, len(self.codes), BATCH))

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every or not trainer.is_global_zero:
            return
        pl_module.log_dict(self.measure(pl_module), rank_zero_only=True)

    def measure(self, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Means over all frames, or pairs of neighbours, as the phase renders them now."""
        errors, distances, sharp = [], [], []
        before: list[Tensor] = []
        for part in self.batches:
            codes = self.codes[part].to(pl_module.device)
            frames = pl_module.render(codes).clamp(-1, 1)  # type: ignore[operator]
            distances.append(self.distances(part, frames))
            sharp.append(sharpness(frames))
            errors.append(self.neighbour_errors(torch.cat([*before, frames])))
            before = [frames[-1:]]
        return {
            "e_warp": torch.cat(errors).mean(),
            self.distance_name: torch.cat(distances).mean(),
            "sharpness": torch.cat(sharp).mean() / self.direct_sharpness.to(frames),
        }

    def distances(self, part: slice, frames: Tensor) -> Tensor:
        """(B,) distances of frames (B, 3, H, W) to those of the direct edit at these positions."""
        fixed = self.direct_features(
            "direct", range(len(self.codes))[part], self.direct.pictures(part).to(frames)
        )
        return self.perceptual.distance_of_features(self.perceptual.features(frames), fixed)

    @cached_property
    def direct_sharpness(self) -> Tensor:
        """Mean sharpness of the direct edit; a picture without any detail counts as one with very little."""
        found = torch.cat([sharpness(self.direct.pictures(part)) for part in self.batches])
        return found.mean().clamp_min(1e-12)

    def neighbour_errors(self, frames: Tensor) -> Tensor:
        """E_warp of neighbouring frames (B, 3, H, W)."""
        now, after = frames[:-1], frames[1:]
        forward, backward = self.flow.pair(now, after)
        return e_warp(now, after, forward, visible_xu(forward, backward)).reshape(-1)
