"""StyleCLIP's levels mapper: the residual f(W) of an edit, and the network of phase 1.

Parameter names are those of the released checkpoints (the coarse group is spelled
``course_mapping`` there).

Source: Patashnik et al., "StyleCLIP: Text-Driven Manipulation of StyleGAN Imagery", ICCV 2021,
Section 5; used as f_theta of Eq. 2 in Xu et al., ECCV 2022.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tempcons.check import check_shape
from tempcons.models.stylegan2 import EqualLinear, PixelNorm

LEVELS = {"course_mapping": slice(0, 4), "medium_mapping": slice(4, 8), "fine_mapping": slice(8, None)}
N_LAYERS = 4
LR_MUL = 0.01
ZERO_SCALE = 1e-3


class LevelMLP(nn.Module):
    """Normalisation over the rows of a group, then four equalised linear layers.

    The normalisation runs over dimension 1 of (B, rows, D), so across the rows for each feature
    apart, not over the D features: the released mappers were trained that way.
    """

    def __init__(self, style_dim: int) -> None:
        super().__init__()
        layers = [EqualLinear(style_dim, style_dim, lr_mul=LR_MUL, activate=True) for _ in range(N_LAYERS)]
        self.mapping = nn.Sequential(PixelNorm(), *layers)

    def forward(self, rows: Tensor) -> Tensor:
        return self.mapping(rows)

    @torch.no_grad()
    def scale_last(self, factor: float) -> None:
        """Scale the last layer's weights, so that the output starts ``factor`` times as large."""
        last = self.mapping[-1]
        assert isinstance(last, EqualLinear)
        last.weight.mul_(factor)


class LevelsMapper(nn.Module):
    """(B, L, D) codes to (B, L, D) residuals; rows of a level that is off get zero.

    Args:
        style_dim: D.
        n_latent: L; levels without rows (fine, for L <= 8) have no parameters.
        coarse, medium, fine: levels in use: rows 0-3, 4-7 and 8 up.
        init: "random", or "zero" with the last layers' weights scaled to near zero. They stay
            above zero because exact zeros would pass no gradient to the layers below.
    """

    def __init__(
        self,
        style_dim: int = 512,
        n_latent: int = 18,
        coarse: bool = True,
        medium: bool = True,
        fine: bool = True,
        init: Literal["random", "zero"] = "random",
    ) -> None:
        super().__init__()
        if init not in ("random", "zero"):
            raise ValueError(f"mapper init must be 'random' or 'zero', got {init!r}")
        self.style_dim, self.n_latent = style_dim, n_latent
        self.groups: dict[str, slice] = {}
        for (name, rows), wanted in zip(LEVELS.items(), (coarse, medium, fine), strict=True):
            if wanted and n_latent > rows.start:
                level = LevelMLP(style_dim)
                if init == "zero":
                    level.scale_last(ZERO_SCALE)
                self.add_module(name, level)
                self.groups[name] = rows

    @property
    def config(self) -> dict:
        """Constructor arguments, as plain types (the initialisation aside)."""
        coarse, medium, fine = (name in self.groups for name in LEVELS)
        return {
            "style_dim": self.style_dim,
            "n_latent": self.n_latent,
            "coarse": coarse,
            "medium": medium,
            "fine": fine,
        }

    def forward(self, w: Tensor) -> Tensor:
        """Residual of W+ codes.

        Raises:
            ValueError: codes that are not (B, n_latent, style_dim).
        """
        check_shape(w, (None, self.n_latent, self.style_dim), "W+ codes of the mapper")
        residual = torch.zeros_like(w)
        for name, rows in self.groups.items():
            residual[:, rows] = self.get_submodule(name)(w[:, rows])
        return residual
