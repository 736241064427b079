"""Codes and generator to frames on disk, and full frames to the video that a run ends with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tempcons.check import ConfigError
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.sound import suffix_for
from tempcons.media.write import settings_like, with_label, write_video
from tempcons.models.stylegan2 import Generator
from tempcons.progress import track
from tempcons.types import Clip, Stitched

log = logging.getLogger(__name__)

RENDER_BATCH = 8
FULL = "full"
BEST_CRF, WORST_CRF = 0, 51


@dataclass(frozen=True)
class RenderConfig:
    """How the full-frame video is written.

    Attributes:
        label: a visible label in the lower left corner.
        lossless: exact RGB (not every player shows it) instead of a good copy.
        crf: quality of the good copy, 0 to 51; 16 is hard to tell from the original.
    """

    label: bool = False
    lossless: bool = False
    crf: int = 16

    def __post_init__(self) -> None:
        if not BEST_CRF <= self.crf <= WORST_CRF:
            raise ConfigError("config", f"render.crf = {self.crf}", f"from {BEST_CRF} to {WORST_CRF}")


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


def write_full(folder: Path, stitched: Stitched, clip: Clip, config: RenderConfig, made_by: str) -> Path:
    """The full-frame video with the source's times, colour and sound; in MP4 where that holds the sound.

    Args:
        folder: of the run.
        stitched: full frames.
        clip: what they came from.
        config: label and quality.
        made_by: edit and settings in a few words, for the file's metadata.

    Raises:
        InputError: it can't be written; nothing is left under the final name.
    """
    path = folder / f"{FULL}{suffix_for(clip.source) if clip.has_audio else '.mp4'}"
    settings = settings_like(
        clip.source, clip.fps, clip.timestamps_s, config.lossless, {"edit": made_by}, config.crf
    )
    frames = track(stitched.frames.stream(), "writing the video", len(stitched.frames))
    return write_video(path, with_label(frames) if config.label else frames, settings)
