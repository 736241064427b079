"""What travels from stage to stage: frozen values, joined by frame ids.

clip -> aligned frames -> latents -> direct edit -> phase 1 -> phase 2 -> phase 3 -> full frames, report

Frame ids number the frames of the source video from 0, whatever part or stride of it is used.
Frames on disk are uint8 RGB arrays (T, H, W, 3), memory-mapped; :class:`FrameStore` turns them
into pictures (B, 3, H, W) in [-1, 1], and is the only way stages look at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
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
        cuts: frame ids that begin a new scene, ascending; never the first frame.
        raw_quads: ``quads`` before smoothing.
        regions: T masks of side S as a segmentation network sees the face, white where it is; None where
            only the landmarks tell.
        regions_key: of the regions.
    """

    frames: FrameStore
    frame_ids: np.ndarray
    landmarks: np.ndarray
    quads: np.ndarray
    found: np.ndarray
    cuts: tuple[int, ...]
    raw_quads: np.ndarray
    key: str
    regions: FrameStore | None = None
    regions_key: str | None = None

    @property
    def scenes(self) -> list[range]:
        """Positions of each scene's frames; scenes without any are left out."""
        edges = np.searchsorted(self.frame_ids, self.cuts).tolist()
        pairs = pairwise([0, *edges, len(self.frame_ids)])
        return [range(a, b) for a, b in pairs if a < b]


@dataclass(frozen=True)
class Latents:
    """Inversion: W+ codes (T, L, D) and the generator tuned on the clip."""

    codes: Tensor
    frame_ids: np.ndarray
    generator: Generator
    frames: FrameStore
    key: str


@dataclass(frozen=True)
class AnchorWindow:
    """Frames that are paired with one anchor, as positions."""

    anchor: int
    frames: range


@dataclass(frozen=True)
class Edited:
    """The direct edit: what training reads.

    Attributes:
        codes: (T, L, D) edited W+ codes (in-domain) or the inversion's (out-of-domain).
        generator: renders ``codes`` into ``frames``.
        aligned: the aligned input, for the perceptual difference masks.
        anchor_id: frame id of the anchor; of several, the middlemost.
        windows: several anchors with their frames, in the order of time; those of one scene overlap,
            those of different scenes don't. Empty: one anchor for all frames.
    """

    codes: Tensor
    frame_ids: np.ndarray
    generator: Generator
    frames: FrameStore
    aligned: FrameStore
    domain: Domain
    anchor_id: int
    key: str
    windows: tuple[AnchorWindow, ...] = ()

    @property
    def anchor_windows(self) -> tuple[AnchorWindow, ...]:
        """``windows``, or the single one."""
        anchor = self.frame_ids.tolist().index(self.anchor_id)
        return self.windows or (AnchorWindow(anchor, range(len(self.frame_ids))),)

    @property
    def scenes(self) -> list[range]:
        """Positions of each scene: windows that overlap belong to one."""
        found: list[range] = []
        for window in self.anchor_windows:
            if found and window.frames.start < found[-1].stop:
                found[-1] = range(found[-1].start, window.frames.stop)
            else:
                found.append(window.frames)
        return found


@dataclass(frozen=True)
class Refined:
    """After phase 1: W+ codes moved by the MLP; the generator is the direct edit's."""

    codes: Tensor
    frame_ids: np.ndarray
    frames: FrameStore
    key: str


@dataclass(frozen=True)
class Target:
    """Frames that the phases pull their result to, position by position those of the direct edit."""

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
class StitchTuned:
    """After phase 3: crops whose border meets the source, each rendered by a generator of its own."""

    frames: FrameStore
    frame_ids: np.ndarray
    key: str


@dataclass(frozen=True)
class Stitched:
    """Full frames of the clip with the edited face put back; ids as in the clip.

    ``seams`` holds the jump and flicker at the border, in levels of 255: of pasting plainly, of
    blending alone, and of the result.
    """

    frames: FrameStore
    frame_ids: np.ndarray
    seams: dict[str, dict[str, float | None]]
    key: str
