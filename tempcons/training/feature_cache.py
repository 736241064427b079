"""Perceptual features of pictures that don't change, kept as long as memory allows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tempcons.models.perceptual import FeatureDistance, Features


class FeatureCache:
    """Features by frame id; new ones are no longer kept once the limit is reached.

    Args:
        perceptual: network whose features are kept.
        limit_mb: memory for all of them together (1024-px AlexNet features take about 43 MB a frame).
    """

    def __init__(self, perceptual: FeatureDistance, limit_mb: float = 1024.0) -> None:
        self.perceptual, self.room = perceptual, int(limit_mb * 1e6)
        self.kept: dict[tuple[str, int], Features] = {}

    @torch.no_grad()
    def __call__(self, kind: str, frame_ids: Sequence[int], pictures: Tensor) -> Features:
        """Features of ``pictures`` (B, 3, H, W), which are always the same for a kind and frame id."""
        keys = [(kind, int(i)) for i in frame_ids]
        fresh: dict[tuple[str, int], Features] = {}
        for at, key in enumerate(keys):
            if key not in self.kept and key not in fresh:
                # One by one: the last bits depend on the batch, and a resumed run meets other batches first.
                fresh[key] = self.perceptual.features(pictures[at : at + 1])
                self._keep(key, fresh[key])
        rows = [self.kept.get(key) or fresh[key] for key in keys]
        return tuple(torch.cat(taps) for taps in zip(*rows, strict=True))

    def _keep(self, key: tuple[str, int], features: Features) -> None:
        size = sum(tap.numel() * tap.element_size() for tap in features)
        if size <= self.room:
            self.kept[key] = tuple(tap.clone() for tap in features)
            self.room -= size
