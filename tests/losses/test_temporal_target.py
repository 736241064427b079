"""The target of recipe=tempcons by hand."""

import pytest
import torch

from tempcons.losses.temporal_target import target_loss


def test_target_by_hand():
    picture, target = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.25)
    assert target_loss(picture, target, torch.tensor([1.0, 3.0])).item() == pytest.approx(2.25)
