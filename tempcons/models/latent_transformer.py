"""Latent Transformer: attribute edits as one linear layer per W+ row, and its attribute classifier.

Source: Yao et al., "A Latent Transformer for Disentangled Face Editing in Images and Videos",
ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import check_shape
from tempcons.models.stylegan2 import LEAKY_SLOPE, EqualLinear

EDITED_ROWS = 11
CELEBA_ATTRIBUTES = {"eyeglasses": 15, "heavy_makeup": 18, "male": 20, "smiling": 31, "young": 39}


class LatentTransformer(nn.Module):
    """(B, L, D) codes to codes with one attribute moved by a coefficient."""

    def __init__(self, n_latent: int = 18, style_dim: int = 512) -> None:
        super().__init__()
        self.n_latent, self.style_dim = n_latent, style_dim
        self.dense = nn.ModuleList(EqualLinear(style_dim, style_dim) for _ in range(n_latent))

    def forward(self, w: Tensor, coefficient: Tensor, rows: int | None = None) -> Tensor:
        """w_i + coefficient * (A_i w_i + b_i) for each row i.

        Args:
            coefficient: (B,), one per code.
            rows: edit the first rows only (the authors use 11 of 18 in their test and video code).

        Raises:
            ValueError: shapes that don't fit.
        """
        check_shape(w, (None, self.n_latent, self.style_dim), "codes of the latent transformer")
        check_shape(coefficient, (len(w),), "coefficients of the latent transformer")
        change = torch.stack([layer(w[:, i]) for i, layer in enumerate(self.dense)], dim=1)
        if rows is not None:
            change[:, rows:] = 0
        return w + coefficient[:, None, None] * change


class LatentClassifier(nn.Module):
    """Flattened W+ codes (B, L*D) to attribute logits (B, A)."""

    def __init__(self, widths: Sequence[int] = (9216, 2048, 512, 40)) -> None:
        super().__init__()
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, w: Tensor) -> Tensor:
        """Logits; accepts (B, L, D) too."""
        x = w.flatten(1)
        for layer in list(self.fcs)[:-1]:
            x = F.leaky_relu(layer(x), LEAKY_SLOPE)
        return self.fcs[-1](x)


def attribute_coefficient(probability: Tensor) -> Tensor:
    """Coefficient that moves a code to the other side of an attribute: 1 - p below one half, else -p."""
    return torch.where(probability < 0.5, 1 - probability, -probability)
