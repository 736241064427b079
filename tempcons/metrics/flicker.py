"""Temporal flicker as a spectrum: how fast the brightness of places changes, without any flow.

Motion is not compensated, so only videos of the same scene can be compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.metrics.sharpness import luminance

LARGEST_SIDE = 64
FLICKER_FROM = 0.25


def brightness_over_time(pictures: Tensor) -> Tensor:
    """(B, h, w) luminance on [0, 1], averaged over areas so that no side exceeds 64."""
    gray = luminance(pictures)
    factor = -(-max(gray.shape[-2:]) // LARGEST_SIDE)
    return F.avg_pool2d(gray, factor, ceil_mode=True)[:, 0]


def flicker_spectrum(brightness: Tensor) -> tuple[Tensor, Tensor]:
    """Temporal power spectrum, averaged over places.

    Args:
        brightness: (T, h, w) luminance over time.

    Returns:
        (K,) frequencies in cycles per frame, 0 to 0.5, and (K,) power: one-sided, adding up to the temporal
        variance (for a signal that the Hann window treats fairly), mean removed.

    Raises:
        ValueError: fewer than 4 frames.
    """
    count = len(brightness)
    if count < 4:
        raise ValueError(f"a flicker spectrum needs 4 frames or more, got {count}")
    window = torch.hann_window(count + 1, dtype=brightness.dtype, device=brightness.device)[1:]
    relative = brightness - brightness[:1]  # exactly zero for a still video
    centred = relative - relative.mean(0, keepdim=True)
    spectrum = torch.fft.rfft(centred * window.view(-1, 1, 1), dim=0).abs().square().mean((1, 2))
    power = 2 * spectrum / (count * window.square().sum())
    return torch.fft.rfftfreq(count, device=brightness.device), power


def flicker(brightness: Tensor) -> float:
    """Power above 0.25 cycles a frame: brightness that turns around within four frames."""
    frequencies, power = flicker_spectrum(brightness)
    return power[frequencies > FLICKER_FROM].sum().item()
