"""Figures of an encoder and generator on held-out faces."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.zoo.faces import to_range
from tempcons.metrics.sharpness import sharpness
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator


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
