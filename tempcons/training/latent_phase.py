"""Phase 1: an MLP refines the W+ codes; the generator is frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tempcons.losses.residual import residual_loss, update_codes
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.training.hyper import Hyper
from tempcons.training.pairs import Batch
from tempcons.training.phase import ConsistencyPhase, Optimisers, stack_pair


class LatentMLPPhase(ConsistencyPhase):
    """Minimises L_I = L_photo + lambda_rf L_rf + lambda_eps L_eps over the MLP's weights.

    ``recipe=tempcons`` adds the pull to a consistent target, and the sharpness term.

    Args:
        generator: renders the direct edit; its parameters are frozen.
        mapper: f_theta, (B, L, D) codes to (B, L, D) residuals.
        perceptual: distance of the photometric loss.
        hyper: weights, step alpha and learning rate.
        in_domain: whether perceptual difference masks apply.

    Source: Xu 2022, Section 3.3, Eq. 2-4.
    """

    trained = "mapper"

    def __init__(
        self,
        generator: Generator,
        mapper: nn.Module,
        perceptual: FeatureDistance,
        hyper: Hyper,
        in_domain: bool,
    ) -> None:
        super().__init__(perceptual, hyper, in_domain)
        self.generator = generator.requires_grad_(False).eval()
        self.mapper = mapper

    @torch.no_grad()
    def refined_codes(self, codes: Tensor) -> Tensor:
        """(T, L, D) codes after the update of Eq. 2 with the MLP as it is now."""
        return update_codes(codes, self.mapper(codes), self.hyper.alpha)

    @torch.no_grad()
    def render(self, codes: Tensor) -> Tensor:
        """(B, L, D) codes of the direct edit to pictures with the update applied."""
        return self.generator.synthesis(self.refined_codes(codes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        codes = stack_pair(batch["codes"])
        residual = self.mapper(codes)
        pictures = self.generator.synthesis(update_codes(codes, residual, self.hyper.alpha))
        pair = self.pair_of(pictures, batch)
        terms = self.consistency_terms(pair) | self.target_terms(pair, batch)
        anchor, frame = residual.chunk(2)
        terms["rf"] = self.hyper.lambda_rf * residual_loss(frame, anchor)
        return self.total(terms, pictures)

    def configure_optimizers(self) -> Optimisers:
        return self.optimiser(self.mapper.parameters(), self.hyper.phase1)
