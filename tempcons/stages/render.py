"""Codes and generator to frames on disk: what invert, edit and both phases end with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from tempcons.media.frames import FrameStore, write_frames

RENDER_BATCH = 8


def render_frames(render: Callable[[Tensor], Tensor], codes: Tensor, path: Path) -> FrameStore:
    """Render (T, L, D) codes in small batches into a ``.npy`` of frames."""
    with torch.no_grad():
        first = render(codes[:1])
        side = first.shape[-1]

        def batches() -> Iterator[Tensor]:
            for part in codes.split(RENDER_BATCH):
                yield render(part)

        write_frames(path, (len(codes), side, side), batches())
    return FrameStore.open(path)
