"""Give an autoencoder's generator a W space: the joint principal directions of its W+ codes.

The rows of an autoencoder's codes have coordinates of their own, so one vector for all rows means nothing to
it. In coordinates c of the joint principal directions, code row l of a face is m_l + B_l c with one c for all
rows, and modulation A_l (m_l + B_l c) + b_l = (A_l B_l) c + (A_l m_l + b_l) is again a modulation: the same
pictures from a generator that can be driven by one vector w = c, with unit variance for real faces. Rows that
differ are still possible (W+), and the encoder's head goes along.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import EqualLinear, Generator, StyledConv, ToRGB
from tempcons.weights.assets import load_state, save_state

# Directions with less than this share of the strongest one's spread are not inverted in a row.
SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class Basis:
    """Coordinates of W.

    Attributes:
        mean: (L, D) mean code.
        directions: (L, D, K) per row: code row = mean + directions @ w.
    """

    mean: Tensor
    directions: Tensor

    def to_w(self, codes: Tensor) -> Tensor:
        """(N, L, D) codes to (N, L, K) ones, row by row (least squares)."""
        inverse = torch.linalg.pinv(self.directions, rtol=SMALLEST_SPREAD)
        return torch.einsum("lkd,nld->nlk", inverse, codes - self.mean)


def principal_basis(codes: Tensor, count: int) -> Basis:
    """Joint principal directions of (N, L, D) codes, scaled by their standard deviations; K = ``count``.

    The sign of a direction makes its largest entry positive. With fewer codes than directions the last ones
    are zero.
    """
    mean = codes.mean(0)
    directions, spread = _directions((codes - mean).flatten(1).double(), count)
    largest = directions.abs().argmax(0, keepdim=True)
    scaled = directions * directions.gather(0, largest).sign() * spread
    padded = torch.zeros(scaled.shape[0], count).to(codes)
    padded[:, : scaled.shape[1]] = scaled.to(codes)
    return Basis(mean, padded.reshape(*mean.shape, count))


def _directions(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit directions (F, k) of (N, F) rows and their standard deviations (k,), k at most ``count``."""
    number, length = centred.shape
    kept = min(count, number - 1, length)
    if number > length:
        variance, directions = torch.linalg.eigh(centred.T @ centred / (number - 1))
        return directions.flip(1)[:, :kept], variance.flip(0)[:kept].clamp(min=0).sqrt()
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    return directions[:kept].T, spread[:kept] / (number - 1) ** 0.5


def save_basis(basis: Basis, path: Path) -> None:
    """Keep the coordinates of a training: another machine may find others."""
    save_state(path, vars(basis), {})


def load_basis(path: Path) -> Basis:
    """What :func:`save_basis` wrote."""
    return Basis(**load_state(path)[0])


def modulations(generator: Generator) -> list[tuple[int, EqualLinear]]:
    """Every modulation of a generator with the code row that drives it."""
    layers: list[tuple[int, nn.Module]] = [(0, generator.conv1), (1, generator.to_rgb1)]
    layers += [(at + 1, conv) for at, conv in enumerate(generator.convs)]
    layers += [(2 * at + 3, to_rgb) for at, to_rgb in enumerate(generator.to_rgbs)]
    return [(row, cast(StyledConv | ToRGB, layer).conv.modulation) for row, layer in layers]


def centred_on(basis: Basis, mapped: Tensor) -> Basis:
    """The coordinates in which vectors (N, K) of a fresh mapping network draw faces of the codes' spread.

    Behind its last activation they have neither the mean nor the variance of the codes' coordinates.
    """
    directions = basis.directions / mapped.std(0).clamp(min=SMALLEST_SPREAD)
    return Basis(basis.mean - directions @ mapped.mean(0), directions)


@torch.no_grad()
def rebase_generator(generator: Generator, basis: Basis, fresh: Generator) -> Generator:
    """Fill ``fresh``, of the same shape but with a mapping network, with the same synthesis."""
    state = {k: v for k, v in generator.state_dict().items() if not k.startswith("style.")}
    fresh.load_state_dict(state, strict=False)
    for row, layer in modulations(fresh):
        old = layer.weight.clone()
        layer.bias.add_(layer.scale / layer.lr_mul * (old @ basis.mean[row]))
        layer.weight.copy_(old @ basis.directions[row])
    return fresh


@torch.no_grad()
def rebase_encoder(encoder: FaceEncoder, basis: Basis) -> FaceEncoder:
    """The same encoder, its codes in the new coordinates."""
    rebased = FaceEncoder(**encoder.config)
    rebased.load_state_dict(encoder.state_dict())
    inverse = torch.linalg.pinv(basis.directions, rtol=SMALLEST_SPREAD)
    rows = (encoder.n_latent, encoder.style_dim)
    weight = torch.einsum("lkd,ldf->lkf", inverse, encoder.head.weight.view(*rows, -1))
    rebased.head.weight.copy_(weight.flatten(0, 1))
    rebased.head.bias.zero_()
    rebased.latent_avg.copy_(basis.to_w((encoder.latent_avg + encoder.head.bias.view(rows))[None])[0])
    return rebased
