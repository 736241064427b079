"""Motion, sharpness and flicker: hand-computed cases and the direction in which they move."""

import math

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from tempcons.metrics.flicker import brightness_over_time, flicker, flicker_spectrum
from tempcons.metrics.motion import Motion, mean_motion
from tempcons.metrics.sharpness import Sharpness, luminance, sharpness


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_motion_counts_visible_pixels_only():
    flow = torch.zeros(2, 2, 2, 2)
    flow[0, :, 0] = torch.tensor([3.0, 4.0]).view(2, 1)
    mask = torch.ones(2, 1, 2, 2)
    assert mean_motion(flow, mask).tolist() == [2.5, 0]
    mask[0, :, 1] = 0
    mask[1] = 0
    moved = mean_motion(flow, mask)
    assert moved[0] == 5 and math.isnan(moved[1])
    metric = Motion()
    metric.update(flow, mask)
    assert metric.compute() == 5


def test_luminance_scale():
    assert torch.allclose(luminance(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))
    green = torch.full((1, 3, 1, 1), -1.0)
    green[:, 1] = 1
    torch.testing.assert_close(luminance(green).item(), 0.587)


def test_sharpness_by_hand():
    # A single white pixel on black: the 3x3 interior of the Laplacian is -4 in the middle, 1 at four sides.
    picture = torch.full((1, 3, 5, 5), -1.0)
    picture[..., 2, 2] = 1
    torch.testing.assert_close(sharpness(picture), torch.tensor([(16 + 4) / 9]), rtol=1e-5, atol=0)


def test_blur_lowers_sharpness_and_flat_is_zero():
    picture = noise(2, 3, 32, 32)
    values = [sharpness(gaussian_blur(picture, [9, 9], [s])).mean() for s in (0.3, 0.6, 1.2)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.1 * values[0]
    assert sharpness(torch.zeros(1, 3, 8, 8)).item() == 0
    metric = Sharpness()
    metric.update(picture)
    torch.testing.assert_close(metric.compute(), sharpness(picture).mean())


def test_flicker_spectrum_peaks_at_the_frequency():
    time = torch.arange(32.0)
    wave = torch.sin(2 * math.pi * 0.125 * time).view(-1, 1, 1).expand(-1, 3, 4)
    frequencies, power = flicker_spectrum(wave)
    assert frequencies[power.argmax()] == 0.125
    torch.testing.assert_close(power.sum().item(), 0.5, rtol=0.02, atol=0)


def test_flicker_counts_fast_changes_only():
    time = torch.arange(32.0)
    slow, fast = (torch.sin(2 * math.pi * f * time).view(-1, 1, 1) for f in (0.0625, 0.4375))
    assert flicker(slow) < 1e-3 * flicker(fast)
    torch.testing.assert_close(flicker(2 * fast), 4 * flicker(fast), rtol=1e-4, atol=0)
    assert flicker(torch.full((8, 2, 2), 0.3)) == 0
    with pytest.raises(ValueError, match="4 frames"):
        flicker(torch.zeros(3, 2, 2))


def test_brightness_is_averaged_over_areas():
    pictures = noise(2, 3, 128, 96)
    small = brightness_over_time(pictures)
    assert small.shape == (2, 64, 48)
    torch.testing.assert_close(small[0, 0, 0], luminance(pictures)[0, 0, :2, :2].mean())
    assert brightness_over_time(noise(1, 3, 64, 64)).shape == (1, 64, 64)
