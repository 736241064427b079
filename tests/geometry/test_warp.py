"""One warp: identity, whole-pixel shifts, validity, gradients, visibility."""

import pytest
import torch
from tiny import gradient

from tempcons.geometry.occlusion import motion_boundary, visible_lai, visible_soft, visible_xu
from tempcons.geometry.warp import FixedWarp, round_trip_error, warp


def constant_flow(x: float, y: float, size: tuple[int, int] = (9, 13), batch: int = 1) -> torch.Tensor:
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(batch, 2, *size).clone()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (45, 80), (100, 127)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_zero_flow_is_the_identity_exactly(size, dtype, padding):
    picture = torch.randn(2, 3, *size, dtype=dtype)
    warped, valid = warp(picture, torch.zeros(2, 2, *size, dtype=dtype), padding)
    assert torch.equal(warped, picture)
    assert torch.equal(valid, torch.ones(2, 1, *size, dtype=dtype))


def test_whole_pixel_shift_is_exact():
    picture = torch.randn(1, 3, 9, 13)
    warped, valid = warp(picture, constant_flow(3, -2))
    assert torch.equal(warped[..., 2:, :-3], picture[..., :-2, 3:])
    assert torch.equal(warped[..., :2, :], torch.zeros(1, 3, 2, 13))
    assert torch.equal(valid[0, 0, 2:, :-3], torch.ones(7, 10))
    assert valid.sum() == 70


def test_half_pixel_is_the_mean_of_two():
    picture = torch.arange(4.0).view(1, 1, 1, 4)
    warped, valid = warp(picture, constant_flow(0.5, 0, (1, 4)))
    assert torch.equal(warped[0, 0, 0], torch.tensor([0.5, 1.5, 2.5, 1.5]))
    assert torch.equal(valid[0, 0, 0], torch.tensor([1.0, 1, 1, 0]))


def test_border_padding_repeats_the_last_pixel():
    picture = torch.arange(4.0).view(1, 1, 1, 4)
    warped, _ = warp(picture, constant_flow(2, 5, (1, 4)), padding="border")
    assert torch.equal(warped[0, 0, 0], torch.tensor([2.0, 3, 3, 3]))


def test_zeros_outside_match_grid_sample():
    picture, flow = torch.randn(2, 3, 11, 14), 4 * torch.randn(2, 2, 11, 14)
    y, x = torch.meshgrid(torch.arange(11.0), torch.arange(14.0), indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) * 2 / 13 - 1, (y + flow[:, 1]) * 2 / 10 - 1], -1)
    wanted = torch.nn.functional.grid_sample(picture, grid, align_corners=True)
    torch.testing.assert_close(warp(picture, flow)[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradcheck(padding):
    torch.manual_seed(0)
    picture = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    # Bilinear interpolation has kinks at whole pixels: stay away from them.
    flow = (torch.randint(-2, 3, (1, 2, 5, 6)) + 0.2 + 0.6 * torch.rand(1, 2, 5, 6)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, f: warp(p, f, padding)[0], (picture, flow))
    back = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(round_trip_error, (flow, back))


@pytest.mark.parametrize("size", [(16, 16), (11, 14)])
def test_a_fixed_warp_is_the_warp(size):
    flow = 4 * torch.randn(2, 2, *size)
    fixed = FixedWarp.along(flow)
    for _ in range(2):
        picture = torch.randn(2, 3, *size, requires_grad=True)
        warped, valid = warp(picture, flow)
        assert torch.equal(fixed(picture), warped) and torch.equal(fixed.valid, valid)
        gradients = [
            torch.autograd.grad(made.square().sum(), picture)[0] for made in (warped, fixed(picture))
        ]
        assert torch.equal(*gradients)


def test_a_fixed_warp_refuses_what_does_not_fit():
    fixed = FixedWarp.along(torch.zeros(2, 2, 8, 8))
    for shape in [(1, 3, 8, 8), (2, 3, 8, 9)]:
        with pytest.raises(ValueError, match="picture must be"):
            fixed(torch.zeros(shape))
    for flow in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 8, 8, dtype=torch.int64)):
        with pytest.raises(ValueError, match="flow must be"):
            FixedWarp.along(flow)


def test_flow_of_another_size_is_refused():
    with pytest.raises(ValueError, match="flow must be"):
        warp(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 9))


def test_whole_number_flow_is_refused():
    with pytest.raises(ValueError, match="floating point"):
        warp(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 8, dtype=torch.int64))


def test_warp_and_unwarp_meet():
    picture = torch.randn(1, 3, 9, 13)
    there, _ = warp(picture, constant_flow(2, 1))
    back, valid = warp(there, constant_flow(-2, -1))
    assert torch.equal(back * valid, picture * valid)


def test_round_trip_error_by_hand():
    flow_ab, flow_ba = constant_flow(1, 0, (1, 4)), constant_flow(-1, 0.5, (1, 4))
    # The last pixel leaves the picture, where the way back counts as zero: |(1, 0)| = 1.
    expected = torch.tensor([0.5, 0.5, 0.5, 1.0])
    torch.testing.assert_close(round_trip_error(flow_ab, flow_ba)[0, 0, 0], expected)


def test_round_trip_error_has_a_finite_gradient_at_zero():
    flow = torch.zeros(1, 2, 4, 4, requires_grad=True)
    round_trip_error(flow, -flow).sum().backward()
    assert torch.isfinite(gradient(flow)).all()


def test_visibility_of_a_consistent_shift():
    flow_ab, flow_ba = constant_flow(3, 0), constant_flow(-3, 0)
    expected = torch.ones(1, 1, 9, 13)
    expected[..., -3:] = 0
    assert torch.equal(visible_xu(flow_ab, flow_ba), expected)
    assert torch.equal(visible_soft(flow_ab, flow_ba), expected)
    assert torch.equal(visible_lai(flow_ab, flow_ba), torch.ones(1, 1, 9, 13))


def test_visibility_of_contradicting_flows():
    flow = constant_flow(1, 0)
    assert visible_xu(flow, flow).sum() == 0
    assert visible_lai(flow, flow).sum() == 0
    assert visible_soft(flow, flow).max() <= torch.exp(torch.tensor(-10.0))


def test_soft_visibility_by_hand():
    flow_ab, flow_ba = constant_flow(0, 0), constant_flow(0.1, 0)
    torch.testing.assert_close(
        visible_soft(flow_ab, flow_ba), torch.full((1, 1, 9, 13), 0.36788), rtol=1e-4, atol=0
    )


def test_motion_boundary_marks_the_step():
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0, :, 3:] = 1
    expected = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    expected[..., 2] = True
    assert torch.equal(motion_boundary(flow), expected)


def test_masks_stay_in_range_for_wild_flows():
    flow_ab, flow_ba = 50 * torch.randn(2, 2, 2, 9, 13)
    for mask in (visible_xu(flow_ab, flow_ba), visible_lai(flow_ab, flow_ba), visible_soft(flow_ab, flow_ba)):
        assert mask.shape == (2, 1, 9, 13)
        assert mask.min() >= 0 and mask.max() <= 1
