"""Confidence intervals over clips: how far a table's mean would move with other clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A value over clips with its percentile bootstrap interval.

    Attributes:
        value: the value over all clips.
        low: lower end; None with fewer than two clips, which say nothing about other clips.
        high: upper end, likewise.
        clips: number of clips.
        level: share of resamples inside.
    """

    value: float
    low: float | None
    high: float | None
    clips: int
    level: float


def interval_of_mean(values: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval:
    """The mean over clips; clips are resampled with replacement.

    Raises:
        ValueError: no values, or a level outside (0, 1).
    """
    array = _checked(values, level)
    return _interval(float(array.mean()), array[_resamples(len(array), seed)].mean(1), len(array), level)


def interval_of_change(
    values: Sequence[float], baseline: Sequence[float], level: float = 0.95, seed: int = 0
) -> Interval:
    """Relative change of the mean, mean(values) / mean(baseline) - 1, with clips resampled in pairs.

    Raises:
        ValueError: no values, lists of different lengths, a level outside (0, 1), or a baseline of 0.
    """
    array, base = _checked(values, level), _checked(baseline, level)
    if len(array) != len(base):
        raise ValueError(f"{len(array)} values can't be paired with {len(base)} of the baseline")
    if not base.mean():
        raise ValueError("a change relative to 0 means nothing")
    chosen = _resamples(len(array), seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = array[chosen].mean(1) / base[chosen].mean(1) - 1
    return _interval(float(array.mean() / base.mean() - 1), changes, len(array), level)


def _checked(values: Sequence[float], level: float) -> np.ndarray:
    if not len(values):
        raise ValueError("an interval needs one value or more")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    return np.asarray(values, dtype=np.float64)


def _resamples(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count) indices."""
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def _interval(value: float, resampled: np.ndarray, clips: int, level: float) -> Interval:
    if clips < 2:
        return Interval(value, None, None, clips, level)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), clips, level)
