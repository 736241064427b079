from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempcons.geometry.quad import (
    CropRule,
    centre_and_axis,
    corners,
    crop,
    crop_to_source,
    jitter_px,
    outside_share,
    quad_from_landmarks,
    side_px,
    smooth,
    source_to_crop,
)

UPRIGHT = np.array([[40.0, 50], [60, 50], [50, 62], [43, 74], [57, 74]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def square(centre: tuple[float, float], half: float, turn: float = 0.0) -> np.ndarray:
    return corners(np.array(centre), half * np.array([np.cos(turn), np.sin(turn)]))


def test_upright_face_by_hand() -> None:
    # eye distance 20, eyes to mouth 24: x points right, half side max(2*20, 1.8*24) = 43.2
    quad = quad_from_landmarks(UPRIGHT)
    np.testing.assert_allclose(quad[0], [50 - 43.2, 52.4 - 43.2])
    np.testing.assert_allclose(quad[2], [50 + 43.2, 52.4 + 43.2])
    tight = quad_from_landmarks(UPRIGHT, CropRule(0.65, 0.40))
    np.testing.assert_allclose(tight.mean(0), [50, 50 + 0.4 * 24])
    assert side_px(tight) == pytest.approx(0.65 * 86.4)


def test_68_points_agree_with_5() -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = UPRIGHT[0], UPRIGHT[1]
    points[48], points[54] = UPRIGHT[3], UPRIGHT[4]
    np.testing.assert_allclose(quad_from_landmarks(points), quad_from_landmarks(UPRIGHT))


def test_other_numbers_of_points_are_refused() -> None:
    with pytest.raises(ValueError, match="landmarks must be"):
        quad_from_landmarks(np.zeros((7, 2)))


@given(st.floats(-3, 3), st.floats(0.3, 4), st.floats(-50, 50), st.floats(-50, 50))
def test_quad_moves_with_the_face(turn: float, scale: float, dx: float, dy: float) -> None:
    spin = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = UPRIGHT @ spin.T + [dx, dy]
    want = quad_from_landmarks(UPRIGHT) @ spin.T + [dx, dy]
    np.testing.assert_allclose(quad_from_landmarks(moved), want, atol=1e-9)


@given(st.floats(-3, 3), st.floats(4, 900), st.floats(-99, 2000), st.integers(8, 1024))
def test_transforms_are_inverse(turn: float, half: float, at: float, size: int) -> None:
    quad = square((at, 2 * at), half, turn)
    there, back = source_to_crop(quad, size), crop_to_source(quad, size)
    points = np.array([[0.0, 0], [size - 1, 3], [size / 2, size]])
    np.testing.assert_allclose(apply(there, apply(back, points)), points, atol=1e-6 * size)
    np.testing.assert_allclose(apply(back, np.array([[-0.5, -0.5]]))[0], quad[0], atol=1e-6)


def test_crop_of_whole_pixels_is_the_picture_itself() -> None:
    # Smooth, as each crop pixel is the mean of 2 x 2 samples around its centre.
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    picture = (0.01 * x - 0.012 * y).expand(1, 3, 40, 60)
    got = crop(picture, square((24 - 0.5, 20 - 0.5), 8)[None], 16)
    torch.testing.assert_close(got, picture[..., 12:28, 16:32], atol=1e-5, rtol=0)


def test_minified_stripes_turn_gray_instead_of_aliasing() -> None:
    stripes = (torch.arange(256) % 2 * 2.0 - 1).expand(1, 3, 256, 256)
    got = crop(stripes, square((127.5, 127.5), 96)[None], 24)
    assert got.abs().max() < 0.05


def test_outside_is_the_reflection() -> None:
    picture = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    got = crop(picture, square((0.0, 16.0), 8)[None], 16)[0, 0, 8]
    torch.testing.assert_close(got, got.flip(0), atol=1e-3, rtol=0)


def test_outside_share() -> None:
    quads = np.stack([square((50, 50), 10), square((-0.5, 50), 10), square((-100, 50), 10)])
    np.testing.assert_allclose(outside_share(quads, (100, 100)), [0, 0.5, 1], atol=1e-4)


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.floats(-1e3, 1e3))
def test_a_still_face_stays_still(total: int, sigma_s: float, at: float) -> None:
    still = np.full((total, 5, 2), at)
    got = smooth(still, np.arange(total) / 25, sigma_s)
    np.testing.assert_array_equal(got, still)


def test_steady_motion_is_not_held_back() -> None:
    times = np.arange(30) / 30
    line = np.stack([3 * times, -times], axis=-1)
    np.testing.assert_allclose(smooth(line, times, 0.1), line, atol=1e-9)


def test_smoothing_inside_is_the_gaussian_mean() -> None:
    times = np.arange(41) / 25
    impulse = np.zeros(41)
    impulse[20] = 1
    got = smooth(impulse, times, 0.08)
    want = np.exp(-0.5 * ((np.arange(41) - 20) / 2) ** 2)
    np.testing.assert_allclose(got[12:29], (want / want[12:29].sum())[12:29], atol=1e-3)


def test_sigma_is_in_seconds_not_frames() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 2))
    slow = jitter_px([smooth(noise, np.arange(200) / 10, 0.1)])
    fast = jitter_px([smooth(noise, np.arange(200) / 60, 0.1)])
    assert fast < slow < jitter_px([noise])


def test_jitter_of_noise_is_its_deviation_and_of_motion_nothing() -> None:
    noise = 0.5 * np.random.default_rng(1).standard_normal((4000, 4, 2))
    assert jitter_px([noise]) == pytest.approx(0.5, rel=0.05)
    assert jitter_px([np.arange(20.0)[:, None, None] * np.ones((20, 4, 2))]) == pytest.approx(0, abs=1e-12)


def test_scale_and_centre_of_the_axis() -> None:
    centre, axis = centre_and_axis(UPRIGHT, CropRule(0.5, 1.0))
    np.testing.assert_allclose(centre, [50, 74])
    np.testing.assert_allclose(axis, [21.6, 0], atol=1e-12)
