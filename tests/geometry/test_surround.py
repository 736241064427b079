from __future__ import annotations

import numpy as np

from tempcons.geometry.quad import corners
from tempcons.geometry.surround import faded_surround

FRAME = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)


def square(x: float, y: float, half: float) -> np.ndarray:
    return corners(np.array([x, y]), np.array([half, 0.0]))


def test_a_quad_inside_gets_the_frame_untouched() -> None:
    part, quad = faded_surround(FRAME, square(150, 100, 40))
    np.testing.assert_array_equal(part, FRAME[52:148, 102:198])
    np.testing.assert_allclose(quad[0], [8, 8])


def test_beyond_the_edge_the_picture_fades() -> None:
    part, quad = faded_surround(FRAME, square(20, 100, 60))
    assert quad.min() >= 0 and quad.max() < max(part.shape[:2])
    assert part[:, :4].std() < 0.1 * FRAME.std()


def test_well_inside_it_stays_the_frame() -> None:
    part, quad = faded_surround(FRAME, square(20, 100, 60))
    x, y = (quad.mean(0)).round().astype(int)
    np.testing.assert_array_equal(part[y, x + 30 : x + 50], FRAME[100, 50:70])
