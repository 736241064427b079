"""Visibility, difference and fused masks: by hand, and within [0, 1] whatever comes in."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tempcons.losses.masks import fuse_masks, perceptual_difference_mask, visibility_mask
from tempcons.losses.outside_mask import outside_mask_loss


def plane(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_visibility_by_hand():
    got = visibility_mask(plane(0.0, 0.1, 1.0)).flatten().tolist()
    assert got == pytest.approx([1.0, math.exp(-1), math.exp(-10)], rel=1e-5)
    assert visibility_mask(plane(0.1), sharpness=5.0).item() == pytest.approx(math.exp(-0.5))


def test_difference_by_hand():
    got = perceptual_difference_mask(plane(0.0, 0.3, 0.9), scale=2.0).flatten().tolist()
    assert got == pytest.approx([0.0, 0.6, 1.0])


def test_fused_by_hand():
    got = fuse_masks(plane(0.2, 0.9, 1.0), plane(0.3, 0.3, 0.0)).flatten().tolist()
    assert got == pytest.approx([0.5, 1.0, 1.0])


def test_out_of_domain_only_visibility_counts():
    visible = plane(0.2, 0.9)
    assert torch.equal(fuse_masks(visible, None), visible)


@given(
    error=st.floats(0, 1e4, width=32),
    distance=st.floats(0, 1e4, width=32),
    sharpness=st.floats(0, 100, width=32),
    scale=st.floats(0, 100, width=32),
)
def test_all_masks_stay_between_0_and_1(error, distance, sharpness, scale):
    visible = visibility_mask(plane(error), sharpness)
    difference = perceptual_difference_mask(plane(distance), scale)
    for mask in (visible, difference, fuse_masks(visible, difference)):
        assert 0 <= mask.item() <= 1


def test_eq6_by_hand():
    distance, mask = plane(0.4, 0.8), plane(0.5, 0.0)
    assert outside_mask_loss(distance, mask).item() == pytest.approx((0.5 * 0.4 + 0.8) / 2)
    assert outside_mask_loss(distance, mask, power=4).item() == pytest.approx((0.5**4 * 0.4 + 0.8) / 2)


def test_eq6_leaves_the_edited_region_alone():
    assert outside_mask_loss(plane(7.0, 9.0), plane(1.0, 1.0)).item() == 0
