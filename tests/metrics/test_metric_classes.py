"""Identity and distance: functions and torchmetrics classes agree."""

import pytest
import torch

from tempcons.metrics.distance import DistanceToDirect
from tempcons.metrics.identity import IdentitySimilarity, identity_similarity


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_identity_by_hand():
    x = torch.zeros(2, 3, 1, 1)
    x[:, 0] = 0.5
    y = torch.zeros(2, 3, 1, 1)
    y[0, 0], y[1, 1] = 1, 1
    assert identity_similarity(x, y, lambda p: p).tolist() == [1, 0]
    metric = IdentitySimilarity(lambda p: p)
    metric.update(x, y)
    assert metric.compute() == 0.5
    with pytest.raises(ValueError, match="y must be"):
        identity_similarity(x, y[:1], lambda p: p)


def test_distance_is_averaged_over_frames():
    def mean_square(x, y):
        return (x - y).square().mean((1, 2, 3))

    x, y = pictures(0), pictures(1)
    metric = DistanceToDirect(mean_square)
    metric.update(x[:1], y[:1])
    metric.update(x[1:], y[1:])
    torch.testing.assert_close(metric.compute(), mean_square(x, y).mean())
