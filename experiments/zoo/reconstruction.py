"""What reconstructions of faces are trained by, and figures of an encoder and generator on held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.zoo.faces import to_range
from tempcons.metrics.sharpness import sharpness
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator


@dataclass(frozen=True)
class Weights:
    """Weights of the losses between a face and its reconstruction.

    Attributes:
        l1, l2: of the mean absolute and squared difference.
        perceptual: of the perceptual distance.
    """

    l1: float = 0.3
    l2: float = 6.0
    perceptual: float = 0.1


def weighted_difference(
    drawn: Tensor, real: Tensor, weights: Weights, distance: FeatureDistance | None
) -> Tensor:
    """Weighted losses between (B, 3, S, S) reconstructions and faces; ``distance`` where it has a weight."""
    loss = weights.l1 * F.l1_loss(drawn, real) + weights.l2 * F.mse_loss(drawn, real)
    if distance is not None:
        loss = loss + weights.perceptual * distance(drawn.clamp(-1, 1), real).mean()
    return loss


def delta_penalty(codes: Tensor) -> Tensor:
    """Mean squared distance of the rows of (B, L, D) codes from their mean row.

    Source: Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021.
    """
    return (codes - codes.mean(1, keepdim=True)).square().mean()


@torch.no_grad()
def reconstruction_figures(
    encoder: nn.Module,
    generator: Generator,
    pictures: Tensor,
    distance: FeatureDistance | None,
    batch: int = 64,
) -> dict[str, float]:
    """PSNR in dB, perceptual distance, and sharpness as a share of the originals', of uint8 pictures."""
    psnr, far, kept, rows = [], [], [], []
    for part in pictures.split(batch):
        real = to_range(part)
        codes = encoder(real)
        drawn = generator.synthesis(codes, "none").float().clamp(-1, 1)
        psnr.append(-10 * ((real - drawn) / 2).square().mean(dim=(1, 2, 3)).log10())
        kept.append(sharpness(drawn) / sharpness(real))
        rows.append((codes - codes.mean(1, keepdim=True)).square().mean(dim=(1, 2)).sqrt())
        if distance is not None:
            far.append(distance(drawn, real))
    found = {
        "psnr_db": torch.cat(psnr).mean().item(),
        "sharpness_share_median": torch.cat(kept).median().item(),
        "row_deviation": torch.cat(rows).mean().item(),
    }
    if far:
        found["distance"] = torch.cat(far).mean().item()
    return {name: round(value, 4) for name, value in found.items()}
