"""What both phases share: a pair is rendered, flow and masks come from the callback, losses add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tempcons.losses.outside_mask import outside_mask_loss
from tempcons.losses.photometric import PairGeometry, consistency_loss, photometric_loss, warp_pair
from tempcons.losses.temporal_target import sharpness_loss, target_loss
from tempcons.models.perceptual import FeatureDistance, Features
from tempcons.training.feature_cache import FeatureCache
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.hyper import Hyper
from tempcons.training.mask_panels import MaskRecorder
from tempcons.training.pairs import AnchorPairDataModule, Batch, StepPart
from tempcons.training.trained_part import TrainedPart


@dataclass(frozen=True)
class RenderedPair:
    """A pair as rendered now, with everything that several losses look at, computed once.

    Attributes:
        pictures: (2B, 3, H, W) in [-1, 1]: the B anchors, then the B other frames.
        small: the same at the size of the flow.
        features: perceptual features of ``pictures``; ``small_features`` those of ``small``.
        to_input: (2B, 1, H, W) spatial distance to the aligned inputs; None out-of-domain.
        difference: (2B, 1, H, W) M^PD, or None.
        geometry: flow and masks; None where no loss needs them.
    """

    pictures: Tensor
    small: Tensor
    features: Features
    small_features: Features
    to_input: Tensor | None
    difference: Tensor | None
    geometry: PairGeometry | None


def stack_pair(values: Tensor) -> Tensor:
    """(B, 2, ...) to (2B, ...): the anchors first."""
    return values.transpose(0, 1).flatten(0, 1)


class ConsistencyPhase(TrainedPart):
    """Base of :class:`LatentMLPPhase` and :class:`GeneratorTunePhase`."""

    flow_masks: FlowMaskCallback
    recorder: MaskRecorder | None = None
    # This process's part of the step, where several share its pairs.
    part: StepPart | None = None

    def __init__(self, perceptual: FeatureDistance, hyper: Hyper, in_domain: bool) -> None:
        super().__init__()
        self.perceptual_distance = perceptual
        self.hyper, self.in_domain = hyper, in_domain
        self.fixed_features = FeatureCache(perceptual)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self.trainer.world_size > 1:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, AnchorPairDataModule)
            self.part = data.step_part(batch_idx)

    def features_of(self, kind: str, batch: Batch) -> Features:
        """Features of the batch's fixed pictures of a kind ("input", "target")."""
        frame_ids = stack_pair(batch["frame_ids"]).tolist()
        return self.fixed_features(kind, frame_ids, stack_pair(batch[kind]))

    def pair_of(self, rendered: Tensor, batch: Batch) -> RenderedPair:
        """Flow, masks and features of rendered pictures (2B, 3, H, W)."""
        callback, network = self.flow_masks, self.perceptual_distance
        pictures = rendered.clamp(-1, 1)
        small = callback.at_flow_size(pictures)
        features = network.features(pictures)
        small_features = features if small is pictures else network.features(small)
        to_input = difference = masks = None
        if self.in_domain:
            size = (pictures.shape[-2], pictures.shape[-1])
            to_input = network.map_of_features(features, self.features_of("input", batch), size)
            difference = callback.difference_mask(to_input)
            mask_anchor, mask_frame = callback.at_flow_size(difference).chunk(2)
            masks = (mask_anchor, mask_frame)
        geometry = None
        if self.hyper.lambda_photo or self.hyper.lambda_eps:
            anchor, frame = small.chunk(2)
            geometry = callback.pair(anchor, frame, masks)
            if self.recorder is not None:
                self.recorder.see(batch["frame_ids"], frame, masks and masks[1], geometry)
        return RenderedPair(pictures, small, features, small_features, to_input, difference, geometry)

    def consistency_terms(self, pair: RenderedPair) -> dict[str, Tensor]:
        """L_photo and L_eps (Eq. 1 and 3), weighted; nothing where both weights are 0."""
        if pair.geometry is None:
            return {}
        network = self.perceptual_distance
        anchor, frame = pair.small.chunk(2)
        warped, inside = warp_pair(anchor, frame, pair.geometry)
        size = (warped.shape[-2], warped.shape[-1])
        distances = network.map_of_features(pair.small_features, network.features(warped), size)
        photo = photometric_loss(distances, inside, pair.geometry)
        return {
            "photo": self.hyper.lambda_photo * photo,
            "eps": self.hyper.lambda_eps * consistency_loss(pair.geometry),
        }

    def fidelity_terms(self, pair: RenderedPair, batch: Batch) -> dict[str, Tensor]:
        """L_M (Eq. 6) and the terms of ``recipe=tempcons``, weighted; those with weight 0 are left out."""
        terms = {}
        hyper = self.hyper
        if hyper.lambda_m and pair.to_input is not None and pair.difference is not None:
            loss = outside_mask_loss(pair.to_input, pair.difference, hyper.outside_power)
            # Eq. 6 sums both frames; the mean over 2B pictures is half of that.
            terms["outside"] = hyper.lambda_m * 2 * loss
        if hyper.lambda_target:
            target = stack_pair(batch["target"])
            fixed = self.features_of("target", batch)
            distance = self.perceptual_distance.distance_of_features(pair.features, fixed)
            terms["target"] = hyper.lambda_target * target_loss(pair.pictures, target, distance)
        if hyper.lambda_sharp:
            pictures = pair.pictures.unflatten(0, (2, -1)).transpose(0, 1)
            sharp = [sharpness_loss(*both) for both in zip(pictures, batch["direct"], strict=True)]
            terms["sharp"] = hyper.lambda_sharp * torch.stack(sharp).mean()
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Sum of the terms, each logged as an epoch mean."""
        if self.part is not None:
            terms = {name: self.part.weight * value for name, value in terms.items()}
        loss = torch.stack(list(terms.values())).sum()
        logged = {f"loss/{k}": v.detach() for k, v in terms.items()}
        how: dict[str, Any] = {"on_epoch": True, "on_step": False, "sync_dist": self.part is not None}
        self.log_dict(logged, batch_size=1, **how)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=1, **how)
        return loss
