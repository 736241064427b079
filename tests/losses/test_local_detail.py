"""The loss that asks for local detail, by hand."""

import pytest
import torch

from tempcons.losses.local_detail import detail, sharpness_loss


def test_detail_is_the_laplacian():
    dot = torch.zeros(1, 3, 5, 5)
    dot[:, :, 2, 2] = 1
    wanted = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    assert torch.equal(detail(dot)[0, 1], wanted)
    ramp = torch.arange(6.0).expand(1, 3, 6, 6)
    assert detail(ramp).abs().max() == 0


def test_sharper_or_equal_costs_nothing_and_blur_costs_its_share():
    frame = torch.rand(1, 3, 34, 34) * 2 - 1
    assert sharpness_loss(frame, frame).item() == pytest.approx(0, abs=1e-4)
    assert sharpness_loss(1.5 * frame, frame).item() == 0
    # Half the contrast has half the detail everywhere.
    assert sharpness_loss(0.5 * frame, frame).item() == pytest.approx(0.5, abs=1e-3)
    assert sharpness_loss(torch.zeros_like(frame), frame).item() == pytest.approx(1.0, abs=1e-3)


def test_a_flat_frame_asks_for_nothing():
    flat = torch.zeros(1, 3, 34, 34)
    assert sharpness_loss(torch.rand(1, 3, 34, 34), flat).item() == 0
