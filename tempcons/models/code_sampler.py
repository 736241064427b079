"""Plausible W+ codes W_z, near which the local regularisation of phase 2 holds the generator (Eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tempcons.models.stylegan2 import Generator

MEAN_SAMPLES = 4096


@dataclass(frozen=True)
class CodeSampler:
    """A Gaussian in the leading principal directions of real faces' codes.

    Attributes:
        mean: (L, D).
        basis: (K, L, D), each direction scaled by its standard deviation.
        typical_distance: median norm between a face's code and a sampled one.
    """

    mean: Tensor
    basis: Tensor
    typical_distance: float

    def __call__(self, count: int, random: torch.Generator) -> Tensor:
        """(count, L, D) codes."""
        weights = torch.randn(count, len(self.basis), generator=random)
        return self.mean + torch.einsum("nk,kld->nld", weights, self.basis.cpu())


@dataclass(frozen=True)
class MappingSampler:
    """The generator's own mapping network, its codes pulled to the mean code as in PTI.

    Attributes:
        generator: only its mapping network is used.
        mean: (D,) mean code.
        truncation: 1 leaves the codes as they are, 0 gives the mean.

    Source: Roich 2021, locality regularisation.
    """

    generator: Generator
    mean: Tensor
    truncation: float

    @torch.no_grad()
    def __call__(self, count: int, random: torch.Generator) -> Tensor:
        """(count, L, D) codes, all rows of a code alike."""
        noise = torch.randn(count, self.generator.z_dim, generator=random).to(self.generator.input.input)
        return self.generator.mapping(noise, self.truncation, self.mean.to(noise))


@torch.no_grad()
def mean_style(generator: Generator, seed: int = 0) -> Tensor:
    """(D,) mean of mapped noise, for files that don't store it."""
    random = torch.Generator().manual_seed(seed)
    return generator.style(torch.randn(MEAN_SAMPLES, generator.z_dim, generator=random)).mean(0)
