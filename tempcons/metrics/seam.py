"""How well a pasted region meets what is around it."""

from __future__ import annotations

import numpy as np


def seam_jump(result: np.ndarray, source: np.ndarray, inside: np.ndarray) -> float:
    """Mean change of the gradient across the region's border, in levels of 255.

    Over pairs of neighbouring pixels on either side of the border, the step of the result minus the
    step of the source; 0 where the region meets its surroundings as the source did.

    Args:
        result, source: (H, W, 3) uint8 frames with and without the pasted region.
        inside: (H, W) bool, the region.
    """
    added = result.astype(np.float64) - source
    steps = []
    for axis in (0, 1):
        crosses = np.diff(inside.astype(np.int8), axis=axis) != 0
        steps.append(np.abs(np.diff(added, axis=axis))[crosses])
    across = np.concatenate(steps)
    return float(across.mean()) if across.size else 0.0


def border_flicker(
    result: np.ndarray,
    result_before: np.ndarray,
    source: np.ndarray,
    source_before: np.ndarray,
    band: np.ndarray,
) -> float:
    """Mean change from one frame to the next that the paste adds in a band, in levels of 255.

    Args:
        result, result_before: (H, W, 3) uint8, two successive frames with the pasted region.
        source, source_before: the same without.
        band: (H, W) bool, the pixels around the region's border.
    """
    added = result.astype(np.float64) - source
    added_before = result_before.astype(np.float64) - source_before
    return float(np.abs(added - added_before)[band].mean()) if band.any() else 0.0
