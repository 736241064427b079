"""Trivial ways to win the warping error, printed beside every result.

Smoothing the codes over time freezes motion; averaging warped neighbours is hard to beat on neighbouring
frames but does little over long ranges. A method has to be better than both, all in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from tempcons.check import check_shape
from tempcons.geometry.occlusion import visible_xu
from tempcons.geometry.warp import warp
from tempcons.media.frames import FrameStore
from tempcons.models.flow import FlowNetwork


def smooth_codes(codes: Tensor, sigma_frames: float = 1.0) -> Tensor:
    """W+ codes (T, L, D) smoothed over time by a Gaussian; the first and last frame are repeated outside.

    Raises:
        ValueError: codes of another shape, or a negative width.
    """
    check_shape(codes, (None, None, None), "codes")
    if sigma_frames < 0:
        raise ValueError(f"sigma_frames must not be negative, got {sigma_frames}")
    if sigma_frames == 0:
        return codes.clone()
    smooth = gaussian_filter1d(codes.detach().double().cpu().numpy(), sigma_frames, axis=0, mode="nearest")
    return torch.from_numpy(smooth).to(codes)


def flow_warped_mean(
    frames: FrameStore, network: FlowNetwork, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Every frame averaged with its two neighbours warped to it, each where it is visible.

    Args:
        frames: T frames, normally of the direct edit.
        network: estimates the flow between them.

    Yields:
        T pictures (1, 3, H, W) in [-1, 1], in order: what ``write_frames`` takes.
    """
    for t in range(len(frames)):
        yield warped_mean_at(frames, t, network, device)


@torch.no_grad()
def warped_mean_at(
    frames: FrameStore, t: int, network: FlowNetwork, device: torch.device | str = "cpu"
) -> Tensor:
    """The mean of frame t and its warped neighbours, (1, 3, H, W)."""
    here = _picture(frames, t, device)
    total, weight = here.clone(), torch.ones_like(here[:, :1])
    for other in (t - 1, t + 1):
        if 0 <= other < len(frames):
            there = _picture(frames, other, device)
            forward, backward = network.pair(here, there)
            visible = visible_xu(forward, backward)
            total += warp(there, forward)[0] * visible
            weight += visible
    return total / weight


def _picture(frames: FrameStore, t: int, device: torch.device | str) -> Tensor:
    return frames.pictures(slice(t, t + 1)).to(device)
