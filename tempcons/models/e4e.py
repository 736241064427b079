"""e4e: a picture to W+ codes in one pass.

Parameter names are those of the released checkpoint without the prefix ``encoder.``.

Source: Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import check_shape
from tempcons.models.irse import IRBackbone
from tempcons.models.stylegan2 import EqualLinear, num_layers

INPUT_SIZE = 256
FIRST_MIDDLE_ROW = 3
FIRST_FINE_ROW = 7


class StyleBlock(nn.Module):
    """Halve a (B, C, S, S) feature map until one vector (B, D) is left."""

    def __init__(self, channels: int, dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(dim if index else channels, dim, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    """``coarse`` brought to the size of ``fine``, plus ``fine``: one step of a feature pyramid."""
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


class E4EEncoder(IRBackbone):
    """(B, 3, 256, 256) pictures in [-1, 1] to (B, L, D) codes relative to the mean code.

    Row 0 comes from the coarsest features; every other row is row 0 plus an offset, read from
    finer features for later rows.

    Args:
        size: resolution of the generator, which fixes the number of rows L.
        dim: D, and the width of the last stage.
        depth, squeeze: see :class:`IRBackbone`.
    """

    def __init__(self, size: int = 1024, dim: int = 512, depth: int = 50, squeeze: bool = True) -> None:
        super().__init__(3, dim, depth, squeeze)
        self.n_styles = num_layers(size)
        side = INPUT_SIZE // 16
        spatial = [
            side if row < FIRST_MIDDLE_ROW else 2 * side if row < FIRST_FINE_ROW else 4 * side
            for row in range(self.n_styles)
        ]
        self.styles = nn.ModuleList(StyleBlock(dim, dim, s) for s in spatial)
        self.latlayer1 = nn.Conv2d(dim // 2, dim, 1)
        self.latlayer2 = nn.Conv2d(dim // 4, dim, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Codes without the mean code.

        Raises:
            ValueError: pictures of another shape.
        """
        check_shape(pictures, (None, 3, INPUT_SIZE, INPUT_SIZE), "pictures of the e4e encoder")
        _, fine, middle, coarse = self.stages(pictures)
        middle = upsample_add(coarse, self.latlayer1(middle))
        fine = upsample_add(middle, self.latlayer2(fine))
        rows = [self.styles[0](coarse)]
        for row, style in enumerate(list(self.styles)[1:], start=1):
            features = coarse if row < FIRST_MIDDLE_ROW else middle if row < FIRST_FINE_ROW else fine
            rows.append(rows[0] + style(features))
        return torch.stack(rows, dim=1)
