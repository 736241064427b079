"""Bootstrap intervals over clips."""

import numpy as np
import pytest

from tempcons.metrics.bootstrap import Interval, interval_of_change, interval_of_mean


def bounds(interval: Interval) -> tuple[float, float]:
    """Of several clips: both are there."""
    assert interval.low is not None and interval.high is not None
    return interval.low, interval.high


def width(interval: Interval) -> float:
    low, high = bounds(interval)
    return high - low


def test_interval_of_mean_covers_the_truth_about_as_often_as_said():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        interval = interval_of_mean(random.normal(5, 1, 20).tolist(), level=0.9, seed=trial)
        low, high = bounds(interval)
        covered += low <= 5 <= high
    assert 80 <= covered <= 97


def test_interval_holds_the_mean_and_narrows_with_clips():
    values = [1.0, 2.0, 3.0, 6.0]
    few, many = interval_of_mean(values), interval_of_mean(values * 10)
    assert few.value == many.value == 3
    low, high = bounds(few)
    assert low < 3 < high and few.clips == 4
    assert width(many) < 0.5 * width(few)
    assert width(interval_of_mean(values, level=0.5)) < width(few)
    assert interval_of_mean(values) == few


def test_one_clip_says_nothing_about_others():
    interval = interval_of_mean([2.0])
    assert (interval.value, interval.low, interval.high) == (2.0, None, None)


def test_change_is_paired():
    baseline = [1.0, 10.0, 100.0]
    interval = interval_of_change([0.5 * value for value in baseline], baseline)
    np.testing.assert_allclose([interval.value, *bounds(interval)], -0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval_of_mean([]), "one value"),
        (lambda: interval_of_mean([1.0], level=1.5), "level"),
        (lambda: interval_of_change([1.0], [1.0, 2.0]), "paired"),
        (lambda: interval_of_change([1.0, 1.0], [0.0, 0.0]), "relative to 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
