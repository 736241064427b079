"""Lucas-Kanade steps that sharpen a flow which is nearly right: full resolution where a network's is coarse.

Differentiable in pictures and flow.

Source: Lucas and Kanade, "An Iterative Image Registration Technique with an Application to Stereo Vision",
IJCAI 1981; symmetric gradients, a common offset of brightness and robust weights as is usual since. Flow is
smoothed after every step, which keeps what a window says of noise from adding up over the steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.geometry.warp import warp

# Standard deviations in px of the windows of the steps, one after the other.
WINDOWS = (4.0, 3.0, 2.0)
# Standard deviation in px of the blur of the flow after each step.
SMOOTHNESS = 2.5
# Keeps flow where there is nothing to see, in squared grey levels per px of [-1, 1].
DAMPING = 5e-5
# Differences beyond this level count as outliers.
OUTLIER = 0.02
# A step, in px along x or y, is at most so long.
LONGEST = 1.0
# What results depend on.
SETTINGS = (WINDOWS, SMOOTHNESS, DAMPING, OUTLIER, LONGEST)


def refine(flow: Tensor, a: Tensor, b: Tensor, windows: tuple[float, ...] = WINDOWS) -> Tensor:
    """F_{a->b} (B, 2, H, W) in px, sharpened by a step for each window.

    Args:
        flow: within about two pixels of the truth.
        a, b: (B, 3, H, W) in [-1, 1].
    """
    of_a = gradients(a)
    for window in windows:
        moved, _ = warp(b, flow, "border")
        change = step(moved - a, (of_a + gradients(moved)) / 2, window).clamp(-LONGEST, LONGEST)
        flow = blurred(flow + change, SMOOTHNESS)
    return flow


def gradients(pictures: Tensor) -> Tensor:
    """(B, C, 2, H, W) central differences along x and y."""
    wide = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    x = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]
    y = wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]
    return torch.stack([x, y], 2) / 2


def step(difference: Tensor, slope: Tensor, window: float) -> Tensor:
    """(B, 2, H, W) d in px: least |difference + slope d - offset|^2 over a Gaussian window about each pixel.

    Args:
        difference: (B, C, H, W) of the moved picture from the fixed one.
        slope: (B, C, 2, H, W) their gradients.
    """
    x, y = slope.unbind(2)
    weight = (difference.square().mean(1, keepdim=True) + OUTLIER**2).rsqrt()
    moments = [
        m.mean(1, keepdim=True)
        for m in (x, y, difference, x * x, x * y, y * y, x * difference, y * difference)
    ]
    summed = blurred(weight * torch.cat([torch.ones_like(weight), *moments], 1), window)
    mean_x, mean_y, mean, xx, xy, yy, xd, yd = (summed[:, 1:] / summed[:, :1]).split(1, 1)
    xx, yy, xy = xx - mean_x.square() + DAMPING, yy - mean_y.square() + DAMPING, xy - mean_x * mean_y
    xd, yd = xd - mean_x * mean, yd - mean_y * mean
    return torch.cat([xy * yd - yy * xd, xy * xd - xx * yd], 1) / (xx * yy - xy * xy)


def blurred(values: Tensor, window: float) -> Tensor:
    """Gaussian blur of so many px (a tenth of the time of kornia's on a CPU)."""
    reach, channels = round(2.5 * window), values.shape[1]
    steps = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (steps / window).square())
    row = (kernel / kernel.sum()).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    wide = F.pad(values, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(wide, row, groups=channels), row.transpose(2, 3), groups=channels)
