"""Fréchet distance between sets of pictures in features that come with a package.

The same formula as FID, but not FID: the features are EfficientNet-lite0's last tap, averaged over
positions, and the numbers of the two can't be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from tempcons.models.perceptual import Lite0Distance

NAME = "Fréchet distance (efficientnet-lite0, block 15, averaged over positions)"


@dataclass(frozen=True)
class Gaussian:
    """Mean (C,) and covariance (C, C) of features, in double precision, and how many there were."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


@torch.no_grad()
def features(network: Lite0Distance, pictures: Tensor) -> Tensor:
    """(B, C) features of pictures (B, 3, S, S) in [-1, 1]."""
    return network._taps(pictures)[-1].float().mean(dim=(2, 3))


def gaussian(network: Lite0Distance, batches: Iterable[Tensor]) -> Gaussian:
    """Moments of the features of picture batches."""
    found = torch.cat([features(network, batch).cpu() for batch in batches]).double().numpy()
    return Gaussian(found.mean(0), np.cov(found, rowvar=False), len(found))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))."""
    # A small diagonal keeps the root real where there are fewer pictures than features.
    small = 1e-6 * np.eye(len(a.mean))
    root = np.real(sqrtm((a.covariance + small) @ (b.covariance + small)))
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance + b.covariance - 2 * root))
