"""Encoder of the embedded family: an aligned face to W+ codes, refined in a few passes.

A small residual network in the spirit of pSp and e4e: features at four resolutions, one linear
head that predicts all rows as offsets from the mean code. A second one of the same kind compares the
picture with its reconstruction and corrects the codes, as in ReStyle.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.models.stylegan2 import Generator

LEAKY_SLOPE = 0.2
# Differences to a reconstruction are about a quarter as large as pictures.
DIFFERENCE_GAIN = 4.0
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
    """(B, C, S, S) pictures in [-1, 1] to (B, L, D) codes, S = 32, 64 or 128.

    Args:
        n_latent: rows L of a code.
        style_dim: length D of a row.
        head_channels: channels kept at 4x4 before the linear head.
        channels: C, 3 for a picture, 6 for a picture and how it differs from its reconstruction.
        head_rank: of the linear head, as a product of two; 0: full, one matrix.
    """

    latent_avg: Tensor

    def __init__(
        self,
        n_latent: int = 12,
        style_dim: int = 256,
        head_channels: int = 80,
        channels: int = 3,
        head_rank: int = 0,
    ) -> None:
        super().__init__()
        self.n_latent, self.style_dim, self.head_channels = n_latent, style_dim, head_channels
        self.channels, self.head_rank = channels, head_rank
        # Half-resolution input by pixel unshuffling: four times the channels, nothing thrown away.
        self.stems = nn.ModuleDict(
            {str(r): nn.Conv2d(4 * channels, TRUNK[r], 3, padding=1) for r in (64, 32, 16)}
        )
        resolutions = list(TRUNK)
        self.downs = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for before, here in itertools.pairwise(resolutions):
            self.downs[str(here)] = nn.Conv2d(TRUNK[before], TRUNK[here], 3, stride=2, padding=1)
            self.blocks[str(here)] = nn.Sequential(*(ResidualBlock(TRUNK[here]) for _ in range(BLOCKS[here])))
        self.to_head = nn.Conv2d(TRUNK[4], head_channels, 1)
        self.to_rank = nn.Linear(head_channels * 16, head_rank, bias=False) if head_rank else nn.Identity()
        self.head = nn.Linear(head_rank or head_channels * 16, n_latent * style_dim)
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
            "channels": self.channels,
            "head_rank": self.head_rank,
        }

    def forward(self, picture: Tensor) -> Tensor:
        start = picture.shape[-1] // 2
        if picture.ndim != 4 or picture.shape[1] != self.channels or str(start) not in self.stems:
            wanted = f"(B, {self.channels}, 32|64|128, same)"
            raise ValueError(f"encoder: pictures must be {wanted}, got {tuple(picture.shape)}")
        x = self.stems[str(start)](F.pixel_unshuffle(picture, 2))
        for resolution in TRUNK:
            if resolution < start:
                x = self.downs[str(resolution)](F.leaky_relu(x, LEAKY_SLOPE))
                x = self.blocks[str(resolution)](x)
        x = F.leaky_relu(self.to_head(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE)
        codes = self.head(self.to_rank(x.flatten(1))).view(-1, self.n_latent, self.style_dim)
        return codes + self.latent_avg

    @torch.no_grad()
    def with_head_of(self, rank: int) -> FaceEncoder:
        """A copy whose head is the nearest matrix of a rank, in squared difference (Eckart and Young 1936).

        Args:
            rank: of the copy's head, or the head's own where that is less.
        """
        own = self.state_dict()
        matrix = own["head.weight"] @ own["to_rank.weight"] if self.head_rank else own["head.weight"]
        left, scale, right = torch.linalg.svd(matrix, full_matrices=False)
        root = scale[:rank].sqrt()
        own["head.weight"] = left[:, : len(root)] * root
        own["to_rank.weight"] = root[:, None] * right[: len(root)]
        small = FaceEncoder(**{**self.config, "head_rank": len(root)})
        small.load_state_dict(own)
        return small


class RefiningEncoder(nn.Module):
    """(B, 3, S, S) pictures in [-1, 1] to (B, L, D) codes: an encoder's, then corrected in some passes.

    Args:
        encoder: pictures to codes.
        refiner: a picture, and its difference to what the codes draw, (B, 6, S, S), to a change of the codes.
        generator: draws codes; its own copy of the weights, so that tuning another one leaves this alone.
        passes: corrections, 1 or more.

    Source: Alaluf et al., "ReStyle", ICCV 2021, but for the first guess, which is an encoder's instead of
    the mean code.
    """

    def __init__(self, encoder: nn.Module, refiner: FaceEncoder, generator: Generator, passes: int) -> None:
        super().__init__()
        if passes < 1:
            raise ValueError(f"refining encoder: {passes} passes, at least one is needed")
        self.encoder, self.refiner, self.generator, self.passes = encoder, refiner, generator, passes

    def forward(self, pictures: Tensor) -> Tensor:
        first, correction = self.corrected(pictures)
        return first + correction

    def corrected(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, D) first codes, and what all passes together add to them."""
        first = self.encoder(pictures)
        correction = torch.zeros_like(first)
        for _ in range(self.passes):
            correction = correction + self.change(pictures, first + correction)
        return first, correction

    def change(self, pictures: Tensor, codes: Tensor) -> Tensor:
        """(B, L, D) what one pass adds to (B, L, D) codes."""
        with torch.no_grad():
            drawn = self.generator.synthesis(codes, "none")
        return self.refiner(compared(pictures, drawn))


def compared(pictures: Tensor, drawn: Tensor) -> Tensor:
    """(B, 6, S, S) input of the refiner: pictures, and how (B, 3, S, S) drawn ones differ from them."""
    return torch.cat([pictures, DIFFERENCE_GAIN * (pictures - drawn)], dim=1)
