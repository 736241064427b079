"""Parity with the reference alignment: quads, and sampled pixels of the aligned pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle_state import cases, load_case

from tempcons.geometry.quad import crop, quad_from_landmarks, side_px
from tempcons.geometry.surround import faded_surround
from tempcons.media.range import to_frames, to_pictures

SIZE = 1024


def source_picture(k: int) -> np.ndarray:
    """720 x 1280 test picture by the oracle's rule."""
    y, x = np.mgrid[0:720, 0:1280].astype(float)
    planes = [
        127.5
        + 70 * np.sin(x * (0.013 + 0.004 * k + 0.003 * c) + 0.007 * y + c)
        + 45 * np.cos(y * (0.021 - 0.002 * c) - 0.005 * (k + 1) * x)
        for c in range(3)
    ]
    return np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


def within_two_levels(got: np.ndarray, want: np.ndarray) -> float:
    return float((np.abs(got.astype(float) - want) <= 2).mean())


@pytest.mark.parametrize("path", cases("ffhq_align"))
def test_oracle_ffhq_quads(path: Path) -> None:
    case = load_case(path)
    for i, told in enumerate(case.info["cases"]):
        quad = quad_from_landmarks(case.inputs[f"landmarks_{i}"].double().numpy())
        np.testing.assert_allclose(quad, case.outputs[f"quad_original_{i}"].numpy(), atol=1e-3)
        assert side_px(quad) == pytest.approx(told["qsize"], abs=1e-3)


@pytest.mark.parametrize("path", cases("ffhq_align"))
def test_oracle_ffhq_crops(path: Path) -> None:
    case = load_case(path)
    for i, told in enumerate(case.info["cases"]):
        frame = source_picture(told["image_k"])
        np.testing.assert_array_equal(frame[8::16, 8::16], case.outputs[f"image_sample_{i}"].numpy())
        quad = quad_from_landmarks(case.inputs[f"landmarks_{i}"].double().numpy())
        part, moved = faded_surround(frame, quad)
        aligned = to_frames(crop(to_pictures(part), moved[None], SIZE))[0]
        want = case.outputs[f"aligned_sample_{i}"].numpy()
        assert within_two_levels(aligned[16::32, 16::32], want) >= 0.99
