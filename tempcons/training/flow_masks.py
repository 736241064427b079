"""The Lightning callback that gives a phase the flow and masks of a pair."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from kornia.geometry.transform import rescale
from torch import Tensor, nn

from tempcons.geometry.warp import round_trip_error
from tempcons.losses.masks import fuse_masks, perceptual_difference_mask, visibility_mask
from tempcons.losses.photometric import PairGeometry
from tempcons.models.flow import FlowNetwork
from tempcons.models.warm_flow import WarmRaft
from tempcons.training.pairs import Batch


class FlowMaskCallback(pl.Callback):
    """Computes bi-directional flow, round-trip errors and fused masks of a rendered pair.

    It attaches itself to the phase as ``flow_masks`` when fitting starts, so the flow lives inside
    the training graph: with a differentiable network, gradients run through it into the pictures.

    Args:
        flow: flow network.
        size: side in px at which flow is computed; pictures are brought there by area averaging.
        in_domain: whether perceptual difference masks are used.
        visibility: k of the visibility mask.
        difference_scale: calibration of M^PD.
        detach: masks carry no gradient (else the loss can fall by masking pixels away).
    """

    def __init__(
        self,
        flow: FlowNetwork,
        size: int,
        in_domain: bool,
        visibility: float = 10.0,
        difference_scale: float = 1.0,
        detach: bool = True,
    ) -> None:
        self.flow, self.size = flow, size
        self.in_domain, self.visibility = in_domain, visibility
        self.difference_scale, self.detach = difference_scale, detach
        # Of the step at hand.
        self.frame_ids: list[tuple[int, int]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.flow_masks = self  # type: ignore[assignment]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(self.flow, nn.Module):
            self.flow.to(pl_module.device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.frame_ids = [(int(a), int(i)) for a, i in batch["frame_ids"].tolist()]

    def flows(self, anchor: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Flow both ways; a network that remembers pairs is told which these are."""
        if isinstance(self.flow, WarmRaft) and len(self.frame_ids) == len(anchor):
            return self.flow.pair_of(self.frame_ids, anchor, frame)
        return self.flow.pair(anchor, frame)

    def at_flow_size(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) at the side of the flow, anti-aliased by averaging areas."""
        factor = self.size / pictures.shape[-1]
        return pictures if factor == 1 else rescale(pictures, factor, interpolation="area")

    def difference_mask(self, distance: Tensor) -> Tensor:
        """M^PD (B, 1, H, W) from the spatial distance between results and aligned inputs."""
        mask = perceptual_difference_mask(distance, self.difference_scale)
        return mask.detach() if self.detach else mask

    def pair(self, anchor: Tensor, frame: Tensor, difference: tuple[Tensor, Tensor] | None) -> PairGeometry:
        """Flow and masks of pictures at the size of the flow.

        Args:
            anchor: (B, 3, S, S) in [-1, 1].
            frame: the other frame.
            difference: M^PD of anchor and frame, or None out-of-domain.
        """
        if self.flow.differentiable:
            forward, backward = self.flows(anchor.clamp(-1, 1), frame.clamp(-1, 1))
        else:
            with torch.no_grad():
                forward, backward = self.flow.pair(anchor.clamp(-1, 1), frame.clamp(-1, 1))
        error_a, error_i = round_trip_error(forward, backward), round_trip_error(backward, forward)
        mask_a = fuse_masks(visibility_mask(error_a, self.visibility), difference and difference[0])
        mask_i = fuse_masks(visibility_mask(error_i, self.visibility), difference and difference[1])
        if self.detach:
            mask_a, mask_i = mask_a.detach(), mask_i.detach()
        return PairGeometry(forward, backward, error_a, error_i, mask_a, mask_i)
