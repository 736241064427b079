"""E_warp of full frames as they stream by: two frames at a time, whatever the clip's length."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from tempcons.geometry.occlusion import visible_xu
from tempcons.media.range import to_pictures
from tempcons.metrics.conditions import NEIGHBOURS, XU2022
from tempcons.metrics.ewarp import e_warp, mean_of_pairs


class Flow(Protocol):
    """What is asked of a flow network (models/flow.py)."""

    name: str

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(F_{a->b}, F_{b->a})."""
        ...


def measured_size(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """(H, W) with the longer side at most ``longest``; None keeps the size."""
    if longest is None or max(size) <= longest:
        return size
    height, width = (max(1, round(side * longest / max(size))) for side in size)
    return height, width


@torch.no_grad()
def stream_errors(
    frames: Iterable[np.ndarray],
    flow: Flow,
    cuts: Collection[int] = (),
    longest: int | None = None,
    device: torch.device | str = "cpu",
) -> list[float | None]:
    """E_warp (Eq. 9, flow on these frames) of every pair of neighbours; None where nothing is visible.

    Args:
        frames: (H, W, 3) uint8, one after another.
        flow: flow network, already on the device.
        cuts: positions of frames that begin a new scene; the pair before each isn't measured.
        longest: longer side in px at which is measured, by area averaging.
    """
    errors: list[float | None] = []
    for at, (a, b) in enumerate(pairwise(_pictures(frames, longest, device)), start=1):
        if at in cuts:
            errors.append(None)
            continue
        forward, backward = flow.pair(a, b)
        value = e_warp(a, b, forward, visible_xu(forward, backward)).item()
        errors.append(None if math.isnan(value) else value)
    return errors


def mean_error(errors: Iterable[float | None]) -> float | None:
    """Mean of the pairs that were measured; None without any."""
    known = [error for error in errors if error is not None]
    return mean_of_pairs(known) if known else None


def full_frame_conditions(
    size: tuple[int, int], longest: int | None, frames: int, flow_name: str
) -> dict[str, object]:
    """What a full-frame E_warp depends on, in the words that stand beside it."""
    height, width = measured_size(size, longest)
    seen = {"value_range": "[0, 1]", "size": f"{width}x{height}", "frame_size": f"{size[1]}x{size[0]}"}
    return seen | {"frames": frames, "flow_network": flow_name} | XU2022 | NEIGHBOURS


def _pictures(
    frames: Iterable[np.ndarray], longest: int | None, device: torch.device | str
) -> Iterator[Tensor]:
    for frame in frames:
        target = measured_size(frame.shape[:2], longest)
        if target != frame.shape[:2]:
            frame = cv2.resize(frame, target[::-1], interpolation=cv2.INTER_AREA)
        yield to_pictures(frame).to(device)
