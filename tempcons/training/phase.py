"""What both phases share: a pair is rendered, flow and masks come from the callback, losses add up."""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempcons.losses.outside_mask import outside_mask_loss
from tempcons.losses.photometric import PairGeometry, consistency_loss, photometric_loss
from tempcons.losses.temporal_target import sharpness_loss, target_loss
from tempcons.models.perceptual import FeatureDistance
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.hyper import Hyper
from tempcons.training.pairs import Batch


@dataclass(frozen=True)
class RenderedPair:
    """A pair as rendered now, with its flow and masks.

    ``pictures`` (2B, 3, H, W): the B anchors, then the B other frames; ``small`` the same at the
    size of the flow; ``difference`` (2B, 1, H, W) M^PD or None.
    """

    pictures: Tensor
    small: Tensor
    geometry: PairGeometry
    difference: Tensor | None


def stack_pair(values: Tensor) -> Tensor:
    """(B, 2, ...) to (2B, ...): the anchors first."""
    return values.transpose(0, 1).flatten(0, 1)


class ConsistencyPhase(pl.LightningModule):
    """Base of :class:`LatentMLPPhase` and :class:`GeneratorTunePhase`."""

    flow_masks: FlowMaskCallback

    def __init__(self, perceptual: FeatureDistance, hyper: Hyper, in_domain: bool) -> None:
        super().__init__()
        self.perceptual_distance = perceptual
        self.hyper, self.in_domain = hyper, in_domain

    def pair_of(self, pictures: Tensor, inputs: Tensor) -> RenderedPair:
        """Flow and masks of rendered pictures (2B, 3, H, W)."""
        callback = self.flow_masks
        small = callback.at_flow_size(pictures)
        difference = callback.difference_mask(pictures, inputs) if self.in_domain else None
        masks = None
        if difference is not None:
            on_flow_grid = callback.at_flow_size(difference)
            masks = tuple(on_flow_grid.chunk(2))
        anchor, frame = small.chunk(2)
        return RenderedPair(pictures, small, callback.pair(anchor, frame, masks), difference)

    def consistency_terms(self, pair: RenderedPair) -> dict[str, Tensor]:
        """L_photo and L_eps (Eq. 1 and 3), weighted."""
        anchor, frame = pair.small.chunk(2)
        photo = photometric_loss(
            anchor.clamp(-1, 1), frame.clamp(-1, 1), pair.geometry, self.perceptual_distance.map
        )
        return {"photo": photo, "eps": self.hyper.lambda_eps * consistency_loss(pair.geometry)}

    def fidelity_terms(self, pair: RenderedPair, batch: Batch) -> dict[str, Tensor]:
        """L_M (Eq. 6) and the terms of ``recipe=tempcons``, weighted; those with weight 0 are left out."""
        terms = {}
        hyper = self.hyper
        if hyper.lambda_m and pair.difference is not None:
            distance = self.perceptual_distance.map(pair.pictures.clamp(-1, 1), stack_pair(batch["input"]))
            # Eq. 6 sums both frames; the mean over 2B pictures is half of that.
            loss = outside_mask_loss(distance, pair.difference, hyper.outside_power)
            terms["outside"] = hyper.lambda_m * 2 * loss
        if hyper.lambda_target:
            target = target_loss(pair.pictures, stack_pair(batch["target"]), self.perceptual_distance)
            terms["target"] = hyper.lambda_target * target
        if hyper.lambda_sharp:
            sharp = sharpness_loss(pair.pictures, stack_pair(batch["direct"]))
            terms["sharp"] = hyper.lambda_sharp * sharp
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Sum of the terms, each logged as an epoch mean."""
        loss = torch.stack(list(terms.values())).sum()
        size = 1
        self.log_dict({f"loss/{k}": v.detach() for k, v in terms.items()}, on_epoch=True, on_step=False, batch_size=size)
        self.log("loss", loss.detach(), on_epoch=True, on_step=False, prog_bar=True, batch_size=size)
        return loss
