"""Codes moved one by one, without an MLP: what the paper shows its phase 1 against (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tempcons.losses.residual import residual_loss, update_codes
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.training.hyper import Hyper
from tempcons.training.pairs import Batch
from tempcons.training.phase import ConsistencyPhase, stack_pair


class ExplicitCodePhase(ConsistencyPhase):
    """Minimises L_I of phase 1 over a residual of each frame's own, W_t + delta_t.

    The losses and pairs are those of :class:`LatentMLPPhase`; the residual of Eq. 2 is a free tensor in place
    of f_theta(W_t), with alpha = 1, so that no frame learns from another but through their pair.

    Args:
        generator: renders the direct edit; its parameters are frozen.
        frame_ids: T frame ids.
        perceptual: distance of the photometric loss.
        hyper: weights of the losses.
        in_domain: whether perceptual difference masks apply.
        lr: learning rate (Adam), in the units of the codes.

    Source: Xu 2022, Section 3.3 and Fig. 6, which name no settings.
    """

    trained = "residual"

    def __init__(
        self,
        generator: Generator,
        frame_ids: Sequence[int],
        perceptual: FeatureDistance,
        hyper: Hyper,
        in_domain: bool,
        lr: float,
    ) -> None:
        super().__init__(perceptual, hyper, in_domain)
        self.generator = generator.requires_grad_(False).eval()
        self.position = {frame_id: at for at, frame_id in enumerate(frame_ids)}
        self.residual = nn.Parameter(torch.zeros(len(frame_ids), generator.n_latent, generator.style_dim))
        self.lr = lr

    @torch.no_grad()
    def refined_codes(self, codes: Tensor) -> Tensor:
        """(T, L, D) codes of the direct edit, each moved by its residual."""
        return update_codes(codes, self.residual.to(codes), 1.0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        at = [self.position[frame_id] for frame_id in stack_pair(batch["frame_ids"]).tolist()]
        residual = self.residual[at]
        codes = update_codes(stack_pair(batch["codes"]), residual, 1.0)
        pair = self.pair_of(self.generator.synthesis(codes), batch)
        terms = self.consistency_terms(pair)
        anchor, frame = residual.chunk(2)
        terms["rf"] = self.hyper.lambda_rf * residual_loss(frame, anchor)
        return self.total(terms, pair.pictures)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.residual], lr=self.lr)
