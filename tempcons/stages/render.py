"""Codes and generator to frames on disk: what invert, edit and both phases end with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tempcons.media.frames import FrameStore, write_frames
from tempcons.models.stylegan2 import Generator

RENDER_BATCH = 8


@torch.no_grad()
def render_frames(generator: Generator, codes: Tensor, path: Path, device: torch.device) -> FrameStore:
    """Render (T, L, D) codes in small batches into a ``.npy`` of frames; the generator ends on the CPU."""
    generator.to(device)

    def batches() -> Iterator[Tensor]:
        for part in codes.split(RENDER_BATCH):
            yield generator.synthesis(part.to(device))

    write_frames(path, (len(codes), generator.size, generator.size), batches())
    generator.to("cpu")
    return FrameStore.open(path)
