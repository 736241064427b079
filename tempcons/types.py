"""What travels from stage to stage: frozen values, joined by frame ids.

clip -> aligned frames -> latents -> direct edit -> phase 1 -> phase 2 -> render, metrics, report

Frame ids number the frames of the source video from 0, whatever part or stride of it is used.
Frames on disk are uint8 RGB arrays (T, H, W, 3), memory-mapped; :class:`FrameStore` turns them
into pictures (B, 3, H, W) in [-1, 1], and is the only way stages look at them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from tempcons.media.frames import FrameStore
from tempcons.models.stylegan2 import Generator

Domain = Literal["in", "out"]


@dataclass(frozen=True)
class Clip:
    """A piece of a source video.

    Attributes:
        frames: T frames of the source, rotation applied.
        frame_ids: (T,) int64, ascending.
        timestamps_s: (T,) seconds from the start of the source.
        fps: frames per second of the frames taken (the source's divided by the stride).
        has_audio: whether the source has a sound track.
        source: the file or folder read.
        reader: "decord", "pyav" or "pictures".
        key: content key of the artefact.
    """

    frames: FrameStore
    frame_ids: np.ndarray
    timestamps_s: np.ndarray
    fps: float
    has_audio: bool
    source: Path
    reader: str
    key: str


@dataclass(frozen=True)
class Aligned:
    """Face crops at the generator's resolution.

    Attributes:
        frames: T crops of side S.
        frame_ids: (T,) int64.
        landmarks: (T, K, 2) float64, source pixels, x first, smoothed over time.
        quads: (T, 4, 2) float64, corners top-left, bottom-left, bottom-right, top-right in source
            pixels, continuous coordinates with pixel centres at whole numbers.
        found: (T,) bool, False where the landmarks were interpolated.
    """

    frames: FrameStore
    frame_ids: np.ndarray
    landmarks: np.ndarray
    quads: np.ndarray
    found: np.ndarray
    key: str


@dataclass(frozen=True)
class Latents:
    """Inversion: W+ codes (T, L, D) and the generator tuned on the clip."""

    codes: Tensor
    frame_ids: np.ndarray
    generator: Generator
    frames: FrameStore
    key: str


@dataclass(frozen=True)
class Edited:
    """The direct edit: what training reads.

    Attributes:
        codes: (T, L, D) edited W+ codes (in-domain) or the inversion's (out-of-domain).
        generator: renders ``codes`` into ``frames``.
        aligned: the aligned input, for the perceptual difference masks.
        anchor_id: frame id of the anchor.
    """

    codes: Tensor
    frame_ids: np.ndarray
    generator: Generator
    frames: FrameStore
    aligned: FrameStore
    domain: Domain
    anchor_id: int
    key: str


@dataclass(frozen=True)
class Refined:
    """After phase 1: W+ codes moved by the MLP; the generator is the direct edit's."""

    codes: Tensor
    frame_ids: np.ndarray
    frames: FrameStore
    key: str


@dataclass(frozen=True)
class Tuned:
    """After phase 2: the tuned generator, rendering the codes of phase 1."""

    generator: Generator
    frame_ids: np.ndarray
    frames: FrameStore
    key: str


@dataclass(frozen=True)
class Stitched:
    """Full frames of the clip with the edited face put back; ids as in the clip."""

    frames: FrameStore
    frame_ids: np.ndarray
    key: str


@dataclass(frozen=True)
class Rendered:
    """Videos and pictures written for the user."""

    files: dict[str, Path] = field(default_factory=dict)
