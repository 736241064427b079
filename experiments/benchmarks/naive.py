"""Both phases of the paper as its released loop runs them, of the same parts and with the same losses.

Straightforward, and not slow on purpose: one pair at a time, each picture by itself through the generator,
each flow direction by itself through torchvision's RAFT with every update in full, the perceptual network
called with two pictures wherever their distance is needed, masks at the size of the pictures.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from experiments.benchmarks.parts import Parts
from tempcons.geometry.warp import round_trip_error, warp
from tempcons.losses.local_regularisation import local_regularisation_loss, move_code
from tempcons.losses.masks import fuse_masks, perceptual_difference_mask, visibility_mask
from tempcons.losses.outside_mask import outside_mask_loss
from tempcons.losses.photometric import masked_mean
from tempcons.losses.residual import residual_loss, update_codes
from tempcons.models.flow import RaftFlow
from tempcons.models.stylegan2 import Generator
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.pairs import Batch


class Naive:
    """What both phases share.

    Args:
        parts: networks and settings; terms that the paper doesn't have must be off.
        generator: renders the pair.
    """

    def __init__(self, parts: Parts, generator: Generator) -> None:
        assert not parts.hyper.lambda_target and not parts.hyper.lambda_sharp
        self.family, self.hyper, self.generator = parts.family, parts.hyper, generator
        self.resize = FlowMaskCallback(self.family.flow, self.family.flow_size, in_domain=True).at_flow_size

    def picture(self, code: Tensor) -> Tensor:
        return self.generator.synthesis(code).clamp(-1, 1)

    def flow(self, a: Tensor, b: Tensor) -> Tensor:
        """F_{a->b}, by itself."""
        network = self.family.flow
        if isinstance(network, RaftFlow):
            return network.model(a, b, num_flow_updates=network.updates)[-1]
        return network(a.detach(), b.detach())

    def to_input(self, picture: Tensor, given: Tensor) -> Tensor:
        """Spatial distance of a result to its aligned input, at full size."""
        return self.family.perceptual.map(picture, given)

    def difference(self, to_input: Tensor) -> Tensor:
        """M^PD at full size."""
        return perceptual_difference_mask(to_input, self.hyper.difference_scale).detach()

    def mask(self, error: Tensor, difference: Tensor) -> Tensor:
        """Fused mask at the size of the flow."""
        visible = visibility_mask(error, self.hyper.visibility)
        return fuse_masks(visible, self.resize(difference)).detach()

    def one_way(self, here: Tensor, other: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
        """The half of L_photo that is on one picture's grid."""
        warped, inside = warp(other, flow)
        return masked_mean(self.family.perceptual.map(here, warped), mask * inside)

    def consistency(self, a: Tensor, i: Tensor, difference_a: Tensor, difference_i: Tensor) -> Tensor:
        """Weighted L_photo and L_eps of a pair at full size, given M^PD."""
        a, i = self.resize(a), self.resize(i)
        forward, backward = self.flow(a, i), self.flow(i, a)
        error_a, error_i = round_trip_error(forward, backward), round_trip_error(backward, forward)
        photo = self.one_way(a, i, forward, self.mask(error_a, difference_a))
        photo = photo + self.one_way(i, a, backward, self.mask(error_i, difference_i))
        return self.hyper.lambda_photo * photo + self.hyper.lambda_eps * (error_a.mean() + error_i.mean())


class NaiveLatent(Naive):
    """Phase 1: L_I (Eq. 3) of a mapper."""

    def __init__(self, parts: Parts, mapper: nn.Module) -> None:
        super().__init__(parts, copy.deepcopy(parts.edited.generator).to(parts.device))
        self.mapper = copy.deepcopy(mapper).to(parts.device)
        self.optimiser = torch.optim.Adam(self.mapper.parameters(), lr=parts.hyper.phase1.lr)

    def loss(self, batch: Batch, step: int) -> Tensor:
        code_a, code_i = batch["codes"].unbind(1)
        given_a, given_i = batch["input"].unbind(1)
        residual_a, residual_i = self.mapper(code_a), self.mapper(code_i)
        a = self.picture(update_codes(code_a, residual_a, self.hyper.alpha))
        i = self.picture(update_codes(code_i, residual_i, self.hyper.alpha))
        differences = [self.difference(self.to_input(*pair)) for pair in ((a, given_a), (i, given_i))]
        loss = self.consistency(a, i, differences[0], differences[1])
        return loss + self.hyper.lambda_rf * residual_loss(residual_i, residual_a)


class NaiveGenerator(Naive):
    """Phase 2: L_II in-domain (Eq. 5) of a generator."""

    def __init__(self, parts: Parts, seed: int) -> None:
        self.original = copy.deepcopy(parts.edited.generator).to(parts.device)
        super().__init__(parts, copy.deepcopy(self.original).requires_grad_(True))
        self.generator.style.requires_grad_(False)
        self.seed = seed
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=parts.hyper.phase2.lr)

    def loss(self, batch: Batch, step: int) -> Tensor:
        code_a, code_i = batch["codes"].unbind(1)
        given_a, given_i = batch["input"].unbind(1)
        a, i = self.picture(code_a), self.picture(code_i)
        distance_a, distance_i = self.to_input(a, given_a), self.to_input(i, given_i)
        difference_a, difference_i = self.difference(distance_a), self.difference(distance_i)
        loss = self.consistency(a, i, difference_a, difference_i)
        outside = outside_mask_loss(distance_a, difference_a, self.hyper.outside_power)
        outside = outside + outside_mask_loss(distance_i, difference_i, self.hyper.outside_power)
        base = code_i if step % 2 else code_a
        return loss + self.hyper.lambda_m * outside + self.hyper.lambda_r * self.regularisation(base, step)

    def regularisation(self, base: Tensor, step: int) -> Tensor:
        """L_r (Eq. 7) near a code."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        target = self.family.sample_codes(len(base), random).to(base)
        moved = move_code(base, target, self.family.alpha_interp)
        with torch.no_grad():
            old = self.original.synthesis(moved, "none")
        new = self.generator.synthesis(moved, "none")
        weights = self.hyper.lambda_l2, self.hyper.lambda_r_perceptual
        return local_regularisation_loss(old, new, self.family.perceptual, *weights)


def naive_step(phase: NaiveLatent | NaiveGenerator, batch: Batch, step: int) -> float:
    """One optimiser step; its loss."""
    phase.optimiser.zero_grad()
    loss = phase.loss(batch, step)
    loss.backward()
    phase.optimiser.step()
    return loss.item()
