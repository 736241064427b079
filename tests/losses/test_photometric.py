"""Eq. 1 and the flow consistency loss against numbers worked out by hand."""

import pytest
import torch
from tiny import gradient

from tempcons.losses.photometric import (
    PairGeometry,
    consistency_loss,
    masked_mean,
    photometric_loss,
    warp_pair,
)


def geometry(flow_x: float = 0.0, size: int = 4, mask: float = 1.0, error: float = 0.0) -> PairGeometry:
    """The frame is the anchor moved by ``flow_x`` px to the right."""
    flow = torch.zeros(1, 2, size, size)
    flow[:, 0] = flow_x
    one = torch.ones(1, 1, size, size)
    return PairGeometry(flow, -flow, error * one, 2 * error * one, mask * one, mask * one)


def absolute(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().mean(1, keepdim=True)


def loss(anchor: torch.Tensor, frame: torch.Tensor, pair: PairGeometry) -> float:
    warped, inside = warp_pair(anchor, frame, pair)
    return photometric_loss(absolute(torch.cat([anchor, frame]), warped), inside, pair).item()


def test_masked_mean_by_hand():
    values = torch.tensor([1.0, 2.0, 4.0])
    assert masked_mean(values, torch.tensor([1.0, 0.0, 0.5])).item() == pytest.approx(3.0 / 1.5)


def test_masked_mean_of_an_empty_mask_is_zero():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = masked_mean(values, torch.zeros(2))
    mean.backward()
    assert mean.item() == 0
    assert torch.equal(gradient(values), torch.zeros(2))


def test_identical_pair_without_flow_costs_nothing():
    picture = torch.rand(1, 3, 4, 4) * 2 - 1
    assert loss(picture, picture.clone(), geometry()) == 0


def test_a_moved_picture_costs_nothing_with_its_flow_and_something_without():
    anchor = torch.rand(1, 3, 4, 4) * 2 - 1
    frame = anchor.roll(1, dims=-1)
    assert loss(anchor, frame, geometry(1.0)) == 0
    assert loss(anchor, frame, geometry(0.0)) > 0.1
    assert loss(anchor, frame, geometry(-1.0)) > 0.1


def test_eq1_by_hand():
    """Both directions, each divided by its own mask's mean, pixels outside left out."""
    distances = torch.zeros(2, 1, 1, 4)
    distances[0, 0, 0] = torch.tensor([1.0, 2.0, 3.0, 100.0])
    distances[1, 0, 0] = torch.tensor([50.0, 6.0, 6.0, 6.0])
    inside = torch.ones(2, 1, 1, 4)
    inside[0, ..., 3] = 0
    inside[1, ..., 0] = 0
    zero = torch.zeros(1, 2, 1, 4)
    mask_a = torch.tensor([1.0, 0.5, 0.5, 1.0]).view(1, 1, 1, 4)
    pair = PairGeometry(zero, zero, zero[:, :1], zero[:, :1], mask_a, torch.ones(1, 1, 1, 4))
    on_anchor = (1 * 1 + 2 * 0.5 + 3 * 0.5) / 2
    assert photometric_loss(distances, inside, pair).item() == pytest.approx(on_anchor + 6)


def test_warp_pair_puts_each_picture_on_the_other_grid():
    anchor = torch.arange(4.0).expand(1, 3, 4, 4) / 4
    warped, inside = warp_pair(anchor, anchor.roll(1, dims=-1), geometry(1.0))
    assert torch.equal(warped[0, :, :, :3], anchor[0, :, :, :3])  # the frame on the anchor's grid
    assert torch.equal(warped[1, :, :, 1:], anchor[0, :, :, :3])  # the anchor on the frame's grid
    assert torch.equal(inside[0, 0, 0], torch.tensor([1.0, 1, 1, 0]))
    assert torch.equal(inside[1, 0, 0], torch.tensor([0.0, 1, 1, 1]))


def test_consistency_is_the_mean_over_both_grids_at_any_size():
    assert consistency_loss(geometry(error=0.25)).item() == pytest.approx(0.75)
    assert consistency_loss(geometry(error=0.25, size=8)).item() == pytest.approx(0.75)
