"""Identity: whether the person is still the one of the source, by a face recognition network given."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from tempcons.check import check_pictures, check_shape

Embedding = Callable[[Tensor], Tensor]


def identity_similarity(x: Tensor, y: Tensor, embed: Embedding) -> Tensor:
    """(B,) cosine similarity of the faces in pictures x and y (B, 3, H, W), 1 for the same embedding.

    Args:
        x: aligned pictures in [-1, 1].
        y: aligned pictures in [-1, 1], of the same size.
        embed: pictures to embeddings (B, D), for example a recognition network with its weights.

    Raises:
        ValueError: pictures of different shapes.
    """
    check_pictures(x, "x")
    check_shape(y, x.shape, "y")
    return F.cosine_similarity(embed(x).flatten(1), embed(y).flatten(1))


class IdentitySimilarity(MeanMetric):
    """:func:`identity_similarity` averaged over frames."""

    higher_is_better = True  # type: ignore[assignment]

    def __init__(self, embed: Embedding) -> None:
        super().__init__()
        self.embed = embed

    def update(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        """Add B pairs of frames."""
        super().update(identity_similarity(x, y, self.embed))
