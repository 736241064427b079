"""Warping errors: hand-computed cases, identical videos, pairs, classes, bad input."""

import math

import pytest
import torch
from tiny import gradient

from tempcons.metrics.ewarp import (
    LaiWarpError,
    WarpError,
    e_long,
    e_warp,
    e_warp_lai2018,
    gap_pairs,
    long_range_pairs,
    mean_of_pairs,
)


def still(batch: int = 1, size: tuple[int, int] = (4, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, 2, *size), torch.ones(batch, 1, *size)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_e_warp_by_hand():
    # One row of four gray pixels on [0, 1]: a = 0 .1 .2 .3, b is a moved one pixel to the right, plus 0.1.
    a = torch.tensor([0.0, 0.1, 0.2, 0.3]).view(1, 1, 1, 4).expand(1, 3, 1, 4) * 2 - 1
    b = torch.tensor([0.9, 0.0, 0.1, 0.2]).view(1, 1, 1, 4).expand(1, 3, 1, 4) * 2 - 1 + 0.2
    flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    mask = torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 4)
    torch.testing.assert_close(e_warp(a, b, flow, mask), torch.tensor([3 * 0.01]))
    # Halving the masked part's weight leaves a mean unchanged; unmasking the pixel that left adds 3 * 0.3^2.
    torch.testing.assert_close(e_warp(a, b, flow, mask / 2), torch.tensor([3 * 0.01]))
    expected = (3 * 3 * 0.01 + 3 * 0.09) / 4
    torch.testing.assert_close(e_warp(a, b, flow, torch.ones_like(mask)), torch.tensor([expected]))


def test_lai2018_by_hand():
    a, b = torch.full((1, 3, 4, 6), -1.0), torch.full((1, 3, 4, 6), -1.0)
    b[:, 0] += 0.4
    flow, _ = still()
    torch.testing.assert_close(e_warp_lai2018(a, b, flow, flow), torch.tensor([0.04 / 3]))
    torch.testing.assert_close(e_warp(a, b, *still()), torch.tensor([0.04]))


def test_identical_still_video_is_zero():
    picture = noise(2, 3, 4, 6)
    flow, mask = still(2)
    assert e_warp(picture, picture, flow, mask).abs().max() == 0
    assert e_warp_lai2018(picture, picture, flow, flow).abs().max() == 0


def test_nothing_visible():
    picture = noise(1, 3, 4, 6)
    flow, mask = still()
    assert math.isnan(e_warp(picture, -picture, flow, 0 * mask).item())
    assert e_warp_lai2018(picture, -picture, flow + 2, flow + 2).item() == 0
    metric = WarpError()
    metric.update(picture, -picture, flow, 0 * mask)
    metric.update(picture, picture * 0, flow, mask)
    torch.testing.assert_close(metric.compute().float(), e_warp(picture, picture * 0, flow, mask)[0])


@pytest.mark.parametrize("metric", [WarpError, LaiWarpError])
def test_classes_average_pairs_however_batched(metric):
    a, b = noise(4, 3, 4, 6), -noise(4, 3, 4, 6).flip(0)
    flow, mask = still(4)
    last = mask if metric is WarpError else flow
    whole, parts = metric(), metric()
    whole.update(a, b, flow, last)
    for part in (slice(0, 1), slice(1, 4)):
        parts.update(a[part], b[part], flow[part], last[part])
    torch.testing.assert_close(whole.compute(), parts.compute())


def test_e_long_is_measured_on_the_anchors_grid():
    anchor, frames = noise(1, 3, 4, 6), noise(3, 3, 4, 6).flip(0)
    flow, mask = still(3)
    flow[1] += 1
    expected = torch.cat([e_warp(anchor, frames[i : i + 1], flow[i : i + 1], mask[:1]) for i in range(3)])
    torch.testing.assert_close(e_long(anchor, frames, flow, mask), expected)


def test_pairs():
    assert long_range_pairs(13, 6) == [(6, 2), (6, 10)]
    assert long_range_pairs(9, 0) == [(0, 4), (0, 8)]
    assert long_range_pairs(3, 1) == []
    assert gap_pairs(18, 8) == [(0, 8), (4, 12), (8, 16)]
    assert gap_pairs(8, 8) == []
    with pytest.raises(ValueError, match="anchor"):
        long_range_pairs(3, 3)


def test_mean_of_pairs_leaves_out_nan():
    assert mean_of_pairs([1.0, float("nan"), 3.0]) == 2
    assert math.isnan(mean_of_pairs([])) and math.isnan(mean_of_pairs([float("nan")]))


def test_gradients_reach_both_frames():
    a, b = noise(1, 3, 4, 6).requires_grad_(), (-noise(1, 3, 4, 6)).requires_grad_()
    e_warp(a, b, *still()).sum().backward()
    assert all(gradient(x).abs().sum() > 0 for x in (a, b))


def test_bad_input_is_refused():
    picture, (flow, mask) = noise(1, 3, 4, 6), still()
    with pytest.raises(ValueError, match=r"a must lie in \[-1, 1\]"):
        e_warp(127 * picture, picture, flow, mask)
    with pytest.raises(ValueError, match="mask must be"):
        e_warp(picture, picture, flow, mask[..., :3])
    with pytest.raises(ValueError, match="b must be"):
        e_warp(picture, picture[..., :3], flow, mask)
    with pytest.raises(ValueError, match="a must be floating"):
        e_warp(picture.byte(), picture, flow, mask)
