"""What both phases share: a pair is rendered, flow and masks come from the callback, losses add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from tempcons.losses.local_detail import sharpness_loss
from tempcons.losses.outside_mask import outside_mask_loss
from tempcons.losses.photometric import PairGeometry, consistency_loss, photometric_loss, warp_pair
from tempcons.losses.temporal_target import target_loss
from tempcons.models.perceptual import FeatureDistance, Features
from tempcons.muon import Muon, with_kernels
from tempcons.training.feature_cache import FeatureCache
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.hyper import Hyper, PhaseHyper
from tempcons.training.mask_panels import MaskRecorder
from tempcons.training.pairs import AnchorPairDataModule, Batch, StepPart
from tempcons.training.schedule import scheduled
from tempcons.training.trained_part import TrainedPart

Optimisers = torch.optim.Optimizer | OptimizerLRScheduler


@dataclass(frozen=True)
class RenderedPair:
    """A pair as rendered now, with everything that several losses look at, computed once.

    Attributes:
        pictures: (2B, 3, H, W) in [-1, 1]: the B anchors, then the B other frames.
        small: the same at the size of the flow.
        features: perceptual features of ``pictures``; ``small_features`` those of ``small``.
        to_input: (2B, 1, H, W) spatial distance to the aligned inputs; None out-of-domain.
        difference: (2B, 1, H, W) M^PD, or None.
        geometry: flow and masks.

    What no loss looks at is None.
    """

    pictures: Tensor
    small: Tensor
    features: Features | None
    small_features: Features | None
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

    @property
    def outside_weight(self) -> float:
        """Weight of L_M (Eq. 6), which is among the terms of phase 2 alone."""
        return 0.0

    @property
    def masked(self) -> bool:
        """Whether a loss looks at M^PD."""
        return self.in_domain and bool(self.hyper.lambda_photo or self.outside_weight)

    @property
    def mask_learns(self) -> bool:
        """Whether gradients run through the distance to the inputs."""
        return bool(self.outside_weight) or (self.masked and not self.flow_masks.detach)

    def pair_of(self, rendered: Tensor, batch: Batch) -> RenderedPair:
        """Flow, masks and features of rendered pictures (2B, 3, H, W)."""
        hyper, callback = self.hyper, self.flow_masks
        pictures = rendered.clamp(-1, 1)
        small = callback.at_flow_size(pictures) if hyper.lambda_photo or hyper.lambda_eps else pictures
        features = self.full_size_features(pictures, small is pictures)
        small_features = None
        if hyper.lambda_photo:
            small_features = features if small is pictures else self.perceptual_distance.features(small)
        to_input, difference = self.difference_of(pictures, features, batch)
        geometry = self.geometry_of(small, difference, batch)
        return RenderedPair(pictures, small, features, small_features, to_input, difference, geometry)

    def full_size_features(self, pictures: Tensor, serve_flow: bool) -> Features | None:
        """Features of pictures; without a graph where only detached masks look at them.

        Args:
            pictures: (2B, 3, H, W) in [-1, 1].
            serve_flow: pictures have the size of the flow, so that the photometric loss looks at them too.
        """
        learns = self.mask_learns or self.hyper.lambda_target or (serve_flow and self.hyper.lambda_photo)
        if not (learns or self.masked):
            return None
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(learns)):
            return self.perceptual_distance.features(pictures)

    def difference_of(
        self, pictures: Tensor, features: Features | None, batch: Batch
    ) -> tuple[Tensor | None, Tensor | None]:
        """Spatial distance to the aligned inputs and M^PD, (2B, 1, H, W) each."""
        if features is None or not self.masked:
            return None, None
        size = (pictures.shape[-2], pictures.shape[-1])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mask_learns):
            fixed = self.features_of("input", batch)
            to_input = self.perceptual_distance.map_of_features(features, fixed, size)
            return to_input, self.flow_masks.difference_mask(to_input)

    def geometry_of(self, small: Tensor, difference: Tensor | None, batch: Batch) -> PairGeometry | None:
        """Flow and fused masks of the pairs, (2B, 3, S, S) at the size of the flow."""
        if not (self.hyper.lambda_photo or self.hyper.lambda_eps):
            return None
        callback = self.flow_masks
        anchor, frame = small.chunk(2)
        masks = None
        if difference is not None:
            mask_anchor, mask_frame = callback.at_flow_size(difference).chunk(2)
            masks = (mask_anchor, mask_frame)
        geometry = callback.pair(anchor, frame, masks)
        if self.recorder is not None:
            self.recorder.see(batch["frame_ids"], frame, masks and masks[1], geometry)
        return geometry

    def consistency_terms(self, pair: RenderedPair) -> dict[str, Tensor]:
        """L_photo and L_eps (Eq. 1 and 3), weighted; those with weight 0 are left out."""
        terms = {}
        if pair.geometry is not None and pair.small_features is not None:
            photo = self.photometric(pair.small, pair.small_features, pair.geometry)
            terms["photo"] = self.hyper.lambda_photo * photo
        if pair.geometry is not None and self.hyper.lambda_eps:
            terms["eps"] = self.hyper.lambda_eps * consistency_loss(pair.geometry)
        return terms

    def photometric(self, small: Tensor, features: Features, geometry: PairGeometry) -> Tensor:
        """L_photo of pictures (2B, 3, S, S) whose features are known."""
        anchor, frame = small.chunk(2)
        warped, inside = warp_pair(anchor, frame, geometry)
        network, size = self.perceptual_distance, (warped.shape[-2], warped.shape[-1])
        distances = network.map_of_features(features, network.features(warped), size)
        return photometric_loss(distances, inside, geometry)

    def outside_terms(self, pair: RenderedPair) -> dict[str, Tensor]:
        """L_M (Eq. 6), weighted; in-domain only, and nothing where its weight is 0."""
        if not self.outside_weight or pair.to_input is None or pair.difference is None:
            return {}
        loss = outside_mask_loss(pair.to_input, pair.difference, self.hyper.outside_power)
        # Eq. 6 sums both frames; the mean over 2B pictures is half of that.
        return {"outside": self.outside_weight * 2 * loss}

    def target_terms(self, pair: RenderedPair, batch: Batch) -> dict[str, Tensor]:
        """The terms of ``recipe=tempcons``, weighted; those with weight 0 are left out."""
        terms = {}
        hyper = self.hyper
        if hyper.lambda_target:
            target = stack_pair(batch["target"])
            fixed = self.features_of("target", batch)
            assert pair.features is not None
            distance = self.perceptual_distance.distance_of_features(pair.features, fixed)
            terms["target"] = hyper.lambda_target * target_loss(pair.pictures, target, distance)
        if hyper.lambda_sharp:
            pictures = pair.pictures.unflatten(0, (2, -1)).transpose(0, 1)
            sharp = [sharpness_loss(*both) for both in zip(pictures, batch["direct"], strict=True)]
            terms["sharp"] = hyper.lambda_sharp * torch.stack(sharp).mean()
        return terms

    def optimiser(self, parameters: Iterable[nn.Parameter], own: PhaseHyper) -> Optimisers:
        """Adam over a phase's parameters, and Muon where told, at the rates and schedule of its recipe."""
        optimiser = Muon(with_kernels(parameters, own.lr, own.kernel_lr), lr=own.lr)
        if own.schedule == "constant":
            return optimiser
        return scheduled(optimiser, int(self.trainer.estimated_stepping_batches), own.schedule)

    def total(self, terms: dict[str, Tensor], pictures: Tensor) -> Tensor:
        """Sum of the terms, each logged as an epoch mean.

        A step without any (L_r alone has a weight, and is not evaluated in each) has a loss of 0 that still
        hangs on the ``pictures``, so that optimiser, counters and other processes see a step like all others.
        """
        if self.part is not None:
            terms = {name: self.part.weight * value for name, value in terms.items()}
        loss = torch.stack(list(terms.values())).sum() if terms else 0 * pictures.sum()
        logged = {f"loss/{k}": v.detach() for k, v in terms.items()}
        how: dict[str, Any] = {"on_epoch": True, "on_step": False, "sync_dist": self.part is not None}
        self.log_dict(logged, batch_size=1, **how)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=1, **how)
        return loss
