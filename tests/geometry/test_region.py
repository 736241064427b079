from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempcons.geometry.quad import corners, quad_from_landmarks, source_to_crop
from tempcons.geometry.region import (
    dilated,
    edge_mask,
    face_region,
    in_frame,
    region_name,
    soften,
    stitch_masks,
)

FIVE = np.array([[40.0, 40], [60, 40], [50, 52], [43, 64], [57, 64]])
SIZE = 64


def sixty_eight() -> np.ndarray:
    """A face in dlib's order: jaw, brows, nose, eyes, mouth."""
    jaw = [(50 + 22 * np.cos(a), 48 + 26 * np.sin(a)) for a in np.linspace(np.pi, 0, 17)]
    brows = [(x, 33.0) for x in np.linspace(34, 66, 10)]
    nose = [(50.0, y) for y in np.linspace(40, 54, 9)]
    eyes = [(40.0, 40.0)] * 6 + [(60.0, 40.0)] * 6
    mouth = [(x, 64.0) for x in np.linspace(43, 57, 7)] + [(50.0, 66.0)] * 13
    return np.array(jaw + brows + nose + eyes + mouth)


def square(x: float, y: float, half: float, turn: float = 0.0) -> np.ndarray:
    return corners(np.array([x, y]), half * np.array([np.cos(turn), np.sin(turn)]))


@pytest.mark.parametrize("points", [FIVE, sixty_eight()], ids=["5", "68"])
def test_the_region_holds_the_face_and_not_the_corners(points) -> None:
    quad = square(50, 50, 40)
    region = face_region(points, quad, SIZE)
    matrix = source_to_crop(quad, SIZE)
    at = (points @ matrix[:, :2].T + matrix[:, 2]).round().astype(int)
    assert region[at[:, 1], at[:, 0]].all()
    assert not region[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert region_name(points).endswith(f"{len(points)} landmarks")


def test_the_hull_goes_on_above_the_brows() -> None:
    points = sixty_eight()
    quad = square(50, 50, 40)
    rows = np.flatnonzero(face_region(points, quad, SIZE).any(1))
    matrix = source_to_crop(quad, SIZE)
    brow = (matrix[:, :2] @ points[20] + matrix[:, 2])[1]
    assert rows[0] < brow - 8


@given(st.floats(-3.1, 3.1), st.floats(0.5, 3), st.floats(-40, 40), st.floats(-40, 40))
@settings(deadline=None, max_examples=30)
def test_the_region_moves_with_the_face(turn: float, scale: float, dx: float, dy: float) -> None:
    spin = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = FIVE @ spin.T + [dx, dy]
    here = face_region(FIVE, quad_from_landmarks(FIVE), SIZE)
    there = face_region(moved, quad_from_landmarks(moved), SIZE)
    assert (here != there).mean() < 0.01  # pixels on the very border


def test_masks_by_hand() -> None:
    region = np.zeros((20, 20), bool)
    region[8:12, 8:12] = True
    masks = stitch_masks(region, square(50, 50, 20), (100, 100), reach=0.1, edge=0.1)
    assert masks.full.sum() == 8 * 8
    assert masks.border.sum() == 8 * 8 - 4 * 4
    assert masks.content.sum() == 4 * 4
    assert not (masks.border & masks.content).any()


def test_a_face_that_fills_the_crop_has_its_border_at_the_edge() -> None:
    whole = np.ones((20, 20), bool)
    masks = stitch_masks(whole, square(50, 50, 20), (100, 100), reach=0.1, edge=0.1)
    assert masks.border.sum() == 20 * 20 - 16 * 16
    assert masks.full.all()


def test_what_lies_outside_the_frame_has_no_source_to_meet() -> None:
    whole = np.ones((20, 20), bool)
    masks = stitch_masks(whole, square(0, 50, 20), (100, 100), reach=0.1, edge=0.1)
    assert not masks.border[:, :10].any() and masks.border[:, 10:].any()
    assert in_frame(square(50, 50, 20), (100, 100), 20).all()
    assert not in_frame(square(-50, 50, 20), (100, 100), 20).any()


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.4))
@settings(deadline=None, max_examples=30)
def test_soft_masks_stay_within_their_region(seed: int, feather: float) -> None:
    region = dilated(np.random.default_rng(seed).random((24, 24)) > 0.97, 0.15)
    mask = soften(region, feather).numpy()
    assert mask.min() >= 0 and mask.max() <= 1
    assert not mask[~region].any()
    if feather * 24 < 1e-6:
        np.testing.assert_array_equal(mask, region)


def test_the_crops_edge_is_a_border_too() -> None:
    mask = edge_mask(32, 0.25)
    assert mask[0].max() < 0.05 and mask[16, 16] == 1
