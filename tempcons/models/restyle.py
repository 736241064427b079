"""ReStyle: inversion in a few refining steps.

Parameter names are those of the released checkpoints without the prefix ``encoder.``.

Source: Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement",
ICCV 2021.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import check_shape
from tempcons.models.e4e import INPUT_SIZE, StyleBlock
from tempcons.models.irse import IRBackbone
from tempcons.models.stylegan2 import Generator

ITERATIONS = 5


class ReStyleEncoder(IRBackbone):
    """Picture and current reconstruction, (B, 6, 256, 256), to a change of the codes, (B, L, D).

    Args:
        n_styles: rows L.
        progressive: False for the pSp variant, whose rows are independent; True for the e4e
            variant, whose rows are row 0 plus an offset. Both have the same parameters.
        dim: D, and the width of the last stage.
        input_nc: channels of the input.
        depth, squeeze: see :class:`IRBackbone`.
    """

    def __init__(
        self,
        n_styles: int = 18,
        progressive: bool = False,
        dim: int = 512,
        input_nc: int = 6,
        depth: int = 50,
        squeeze: bool = True,
    ) -> None:
        super().__init__(input_nc, dim, depth, squeeze)
        self.n_styles, self.progressive, self.input_nc = n_styles, progressive, input_nc
        self.styles = nn.ModuleList(StyleBlock(dim, dim, INPUT_SIZE // 16) for _ in range(n_styles))

    def forward(self, pictures: Tensor) -> Tensor:
        """Change of the codes.

        Raises:
            ValueError: pictures of another shape.
        """
        shape = (None, self.input_nc, INPUT_SIZE, INPUT_SIZE)
        check_shape(pictures, shape, "picture and reconstruction of the ReStyle encoder")
        *_, features = self.stages(pictures)
        rows = torch.stack([style(features) for style in self.styles], dim=1)
        if self.progressive:
            rows = torch.cat([rows[:, :1], rows[:, :1] + rows[:, 1:]], dim=1)
        return rows


def encoder_view(pictures: Tensor) -> Tensor:
    """Generator's pictures brought to the encoder's 256 px by averaging over areas."""
    return F.adaptive_avg_pool2d(pictures, (INPUT_SIZE, INPUT_SIZE))


def refine(
    encoder: ReStyleEncoder,
    generator: Generator,
    pictures: Tensor,
    latent_avg: Tensor,
    iterations: int = ITERATIONS,
) -> list[Tensor]:
    """Codes after each step, the last one being the inversion.

    The first step compares the pictures with the average picture and starts from the mean code;
    each later step compares them with the last reconstruction.

    Args:
        pictures: (B, 3, 256, 256) in [-1, 1].
        latent_avg: (L, D) mean code.

    Returns:
        ``iterations`` tensors (B, L, D).

    Raises:
        ValueError: shapes that don't fit, or no step asked for.
    """
    if iterations < 1:
        raise ValueError(f"ReStyle needs at least one step, got {iterations}")
    check_shape(latent_avg, (generator.n_latent, generator.style_dim), "mean code of ReStyle")
    codes = latent_avg.expand(len(pictures), -1, -1)
    current = encoder_view(generator.synthesis(latent_avg[None])).expand(len(pictures), -1, -1, -1)
    steps = []
    for step in range(iterations):
        codes = codes + encoder(torch.cat([pictures, current], dim=1))
        steps.append(codes)
        if step + 1 < iterations:
            current = encoder_view(generator.synthesis(codes))
    return steps
