"""Phase 2: the generator is tuned; the codes of phase 1 stay."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from tempcons.losses.local_regularisation import local_regularisation_loss, move_code
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.training.hyper import Hyper
from tempcons.training.pairs import Batch
from tempcons.training.phase import ConsistencyPhase, Optimisers, stack_pair

CodeSampler = Callable[[int, torch.Generator], Tensor]


def freeze_last_layers(generator: Generator, share: float) -> int:
    """Freeze the last ``share`` of the synthesis layers; returns the index of the first frozen one.

    The paper freezes the last eight of 18 layers out-of-domain (Section 3.3); a smaller network
    freezes the same share of its convolutions.
    """
    layers = generator.n_latent - 1
    first = layers - round(share * layers)
    for parameter in generator.layer_parameters(first):
        parameter.requires_grad_(False)
    return first


class GeneratorTunePhase(ConsistencyPhase):
    """Minimises L_II over the generator's weights.

    In-domain: L_photo + lambda_eps L_eps + lambda_r L_r + lambda_M L_M (Eq. 5); out-of-domain
    without L_M (Eq. 8) and with the last layers frozen.

    Args:
        generator: the direct edit's generator; a copy is tuned, the original kept for L_r.
        sample_codes: (n, random source) to (n, L, D) plausible codes W_z.
        perceptual: distance of the losses.
        hyper: weights and learning rate.
        in_domain: which of the two objectives.
        alpha_interp: distance of W_r from the codes, in their units.
        seed: of the sampled codes; the step number is mixed in, so a resumed run draws the same.
    """

    trained = "generator"

    def __init__(
        self,
        generator: Generator,
        sample_codes: CodeSampler,
        perceptual: FeatureDistance,
        hyper: Hyper,
        in_domain: bool,
        alpha_interp: float,
        seed: int = 0,
    ) -> None:
        super().__init__(perceptual, hyper, in_domain)
        self.original = generator.requires_grad_(False).eval()
        self.generator = copy.deepcopy(generator).requires_grad_(True)
        self.generator.style.requires_grad_(False)
        if not in_domain:
            freeze_last_layers(self.generator, hyper.frozen_share)
        self.sample_codes, self.alpha_interp, self.seed = sample_codes, alpha_interp, seed

    @property
    def outside_weight(self) -> float:
        return self.hyper.lambda_m if self.in_domain else 0.0

    @torch.no_grad()
    def render(self, codes: Tensor) -> Tensor:
        """(B, L, D) codes to pictures of the generator as tuned now."""
        return self.generator.synthesis(codes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        codes = stack_pair(batch["codes"])
        pair = self.pair_of(self.generator.synthesis(codes), batch)
        terms = self.consistency_terms(pair) | self.outside_terms(pair) | self.target_terms(pair, batch)
        every = self.hyper.regularise_every
        if self.hyper.lambda_r and self.global_step % every == 0:
            terms["r"] = every * self.hyper.lambda_r * self.local_regularisation(codes)
        return self.total(terms, pair.pictures)

    def local_regularisation(self, codes: Tensor) -> Tensor:
        """L_r at one code near each of the anchors' (B of the 2B codes, alternating with the others')."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        anchor, frame = codes.chunk(2)
        base = frame if (self.global_step // self.hyper.regularise_every) % 2 else anchor
        moved = move_code(base, self.sampled(len(base), random).to(base), self.alpha_interp)
        with torch.no_grad():
            old = self.original.synthesis(moved, "none")
        new = self.generator.synthesis(moved, "none")
        return local_regularisation_loss(
            old, new, self.perceptual_distance, self.hyper.lambda_l2, self.hyper.lambda_r_perceptual
        )

    def sampled(self, count: int, random: torch.Generator) -> Tensor:
        """(count, L, D) codes W_z; processes that share a step draw the same and take their own of them."""
        if self.part is None:
            return self.sample_codes(count, random)
        return self.part.take(self.sample_codes(self.part.pairs, random))

    def configure_optimizers(self) -> Optimisers:
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        return self.optimiser(trained, self.hyper.phase2)
