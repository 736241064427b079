from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tempcons.geometry.paste import (
    Window,
    inside_quad,
    paste,
    paste_poisson,
    place,
)
from tempcons.geometry.quad import corners, crop, source_to_crop
from tempcons.geometry.region import edge_mask, face_region, soften
from tempcons.media.range import to_pictures
from tempcons.metrics.seam import border_flicker, seam_jump


def natural(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise as smooth as a picture."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((height, width, 3)), [2, 2, 0])
    return np.clip(127 + 250 * noise, 0, 255).astype(np.uint8)


def square(x: float, y: float, half: float, turn: float = 0.0) -> np.ndarray:
    return corners(np.array([x, y]), half * np.array([np.cos(turn), np.sin(turn)]))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12)))


def touched(quad: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    inside = np.zeros(size, bool)
    window = Window.around(quad, size)
    if not window.empty:
        inside[window.slices] = inside_quad(quad, window)
    return inside


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(40, 90), st.integers(40, 90)),
    st.floats(-20, 110),
    st.floats(-20, 110),
    st.floats(6, 60),
    st.floats(-3.1, 3.1),
    st.sampled_from([16, 33, 64]),
    st.sampled_from([paste, paste_poisson]),
)
def test_outside_the_quad_every_byte_stays(frame_size, x, y, half, turn, size, put) -> None:
    frame, quad = natural(*frame_size), square(x, y, half, turn)
    picture = torch.rand(3, size, size) * 2 - 1
    result = put(frame, picture, quad, edge_mask(size, 0))
    outside = ~touched(quad, frame_size)
    np.testing.assert_array_equal(result[outside], frame[outside])
    assert result.shape == frame.shape and result.dtype == np.uint8


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 95), st.floats(0, 80), st.floats(8, 40), st.floats(-3.1, 3.1), st.sampled_from([96, 128]))
def test_an_unedited_face_comes_back(x: float, y: float, half: float, turn: float, size: int) -> None:
    frame, quad = natural(80, 96), square(x, y, half, turn)
    picture = crop(to_pictures(frame), quad[None], size)[0]
    inside = touched(quad, (80, 96))
    if inside.any():
        assert psnr(paste(frame, picture, quad, edge_mask(size, 0))[inside], frame[inside]) > 35


def test_the_round_trip_at_1024_is_near_exact() -> None:
    frame, quad = natural(240, 320), square(150.3, 120.8, 90, 0.3)
    picture = crop(to_pictures(frame), quad[None], 1024)[0]
    inside = touched(quad, (240, 320))
    assert psnr(paste(frame, picture, quad, edge_mask(1024, 0))[inside], frame[inside]) > 45


def test_a_quad_beside_the_frame_changes_nothing() -> None:
    frame = natural(40, 50)
    for put in (paste, paste_poisson):
        result = put(frame, torch.ones(3, 16, 16), square(-100, 20, 20), edge_mask(16, 0))
        np.testing.assert_array_equal(result, frame)


def test_the_picture_lies_where_the_quad_says() -> None:
    frame, quad = np.zeros((60, 80, 3), np.uint8), square(40, 30, 16)
    picture = torch.full((3, 32, 32), -1.0)
    picture[0, :16] = 1  # red above
    result = paste(frame, picture, quad, edge_mask(32, 0))
    assert result[20, 40].tolist() == [255, 0, 0]
    assert result[40, 40].tolist() == [0, 0, 0]


@settings(deadline=None)
@given(st.integers(4, 200), st.floats(0, 0.5))
def test_edge_masks_are_soft_and_in_range(size: int, feather: float) -> None:
    mask = edge_mask(size, feather)
    assert mask.shape == (size, size)
    assert mask.min() >= 0 and mask.max() <= 1
    torch.testing.assert_close(mask, mask.flip(0))
    torch.testing.assert_close(mask, mask.T)


def test_face_mask_covers_the_face_and_not_the_corners() -> None:
    points = np.array([[40.0, 40], [60, 40], [50, 52], [43, 64], [57, 64]])
    quad = square(50, 50, 30)
    mask = soften(face_region(points, quad, 64), 0.05)
    at = (points @ source_to_crop(quad, 64)[:, :2].T + source_to_crop(quad, 64)[:, 2]).round().astype(int)
    assert mask[at[:, 1], at[:, 0]].min() > 0.99
    assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0


def test_seams_by_hand() -> None:
    source = np.full((10, 10, 3), 100, np.uint8)
    inside = np.zeros((10, 10), bool)
    inside[3:7, 3:7] = True
    brighter = source.copy()
    brighter[inside] += 8
    assert seam_jump(source, source, inside) == 0
    assert seam_jump(brighter, source, inside) == pytest.approx(8)
    assert border_flicker(brighter, source, source, source, inside) == pytest.approx(8)
    assert border_flicker(brighter, brighter, source, source, inside) == 0


@pytest.mark.parametrize(("put", "feather"), [(paste, 0.15), (paste_poisson, 0.0)])
def test_blending_halves_the_seam_of_plain_pasting(put, feather: float) -> None:
    frame, quad = natural(120, 160), square(80, 60, 30, 0.2)
    edited = (crop(to_pictures(frame), quad[None], 128)[0] * 0.8 + 0.15).clamp(-1, 1)
    mask = edge_mask(128, feather)
    inside = np.zeros((120, 160), bool)
    window = Window.around(quad, (120, 160))
    inside[window.slices] = place(edited, quad, mask, window)[1] > 0.5
    plain = seam_jump(paste(frame, edited, quad, (mask > 0.5).float()), frame, inside)
    assert seam_jump(put(frame, edited, quad, mask), frame, inside) < 0.5 * plain
