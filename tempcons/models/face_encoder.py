"""Encoder of the embedded family: an aligned face to W+ codes.

A small residual network in the spirit of pSp and e4e: features at four resolutions, one linear
head that predicts all rows as offsets from the mean code.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
TRUNK = {64: 32, 32: 64, 16: 128, 8: 192, 4: 256}
# Two blocks where maps are small: depth is cheap there, and the 4x4 block alone holds half of the weights.
BLOCKS = {32: 1, 16: 2, 8: 2, 4: 1}


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x))))-like block with one 3x3 convolution: cheap on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.leaky_relu(x, LEAKY_SLOPE))


class FaceEncoder(nn.Module):
    """(B, 3, S, S) pictures in [-1, 1] to (B, L, D) codes, S = 32, 64 or 128.

    Args:
        n_latent: rows L of a code.
        style_dim: length D of a row.
        head_channels: channels kept at 4x4 before the linear head.
    """

    latent_avg: Tensor

    def __init__(self, n_latent: int = 12, style_dim: int = 256, head_channels: int = 80) -> None:
        super().__init__()
        self.n_latent, self.style_dim, self.head_channels = n_latent, style_dim, head_channels
        # Half-resolution input by pixel unshuffling: 12 channels, nothing thrown away.
        self.stems = nn.ModuleDict({str(r): nn.Conv2d(12, TRUNK[r], 3, padding=1) for r in (64, 32, 16)})
        resolutions = list(TRUNK)
        self.downs = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for before, here in itertools.pairwise(resolutions):
            self.downs[str(here)] = nn.Conv2d(TRUNK[before], TRUNK[here], 3, stride=2, padding=1)
            self.blocks[str(here)] = nn.Sequential(*(ResidualBlock(TRUNK[here]) for _ in range(BLOCKS[here])))
        self.to_head = nn.Conv2d(TRUNK[4], head_channels, 1)
        self.head = nn.Linear(head_channels * 16, n_latent * style_dim)
        nn.init.normal_(self.head.weight, std=1.0 / math.sqrt(head_channels * 16))
        nn.init.zeros_(self.head.bias)
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim))

    @property
    def config(self) -> dict:
        """Constructor arguments, as plain types."""
        return {
            "n_latent": self.n_latent,
            "style_dim": self.style_dim,
            "head_channels": self.head_channels,
        }

    def forward(self, picture: Tensor) -> Tensor:
        start = picture.shape[-1] // 2
        if picture.ndim != 4 or picture.shape[1] != 3 or str(start) not in self.stems:
            raise ValueError(f"encoder: pictures must be (B, 3, 32|64|128, same), got {tuple(picture.shape)}")
        x = self.stems[str(start)](F.pixel_unshuffle(picture, 2))
        for resolution in TRUNK:
            if resolution < start:
                x = self.downs[str(resolution)](F.leaky_relu(x, LEAKY_SLOPE))
                x = self.blocks[str(resolution)](x)
        x = F.leaky_relu(self.to_head(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE)
        codes = self.head(x.flatten(1)).view(-1, self.n_latent, self.style_dim)
        return codes + self.latent_avg
