"""Stitch: edited faces -> back into the frames of the source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from torch import Tensor

from tempcons.check import ConfigError, near_names
from tempcons.geometry.paste import Window, paste, paste_poisson, place
from tempcons.geometry.quad import side_px
from tempcons.geometry.region import dilated, face_region, region_name, soften
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.range import to_pictures
from tempcons.metrics.seam import border_flicker, seam_jump
from tempcons.progress import track
from tempcons.store.artefact import Store
from tempcons.training.settings import TuningConfig
from tempcons.types import Aligned, Clip, Domain, Stitched

log = logging.getLogger(__name__)

STAGE = "stitch"
VERSION = 2
Paste = Callable[[np.ndarray, Tensor, np.ndarray, Tensor], np.ndarray]
MODES: dict[str, Paste] = {"feather": paste, "poisson": paste_poisson}
REGIONS = ("crop", "face")
MEASURED = 8  # places in the clip where the seam is measured
BAND = 0.02  # half width of the band around the seam, as a share of the face's square
PLAIN, BLEND, STITCHED = "plain_paste", "blend_only", "stitched"


class Faces(Protocol):
    """What is put back: the direct edit, or what a phase made of it."""

    @property
    def frames(self) -> FrameStore: ...
    @property
    def frame_ids(self) -> np.ndarray: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True)
class StitchConfig:
    """How the edited face is put back.

    Attributes:
        mode: "feather" fades over a soft border; "poisson" keeps the edit's gradients and takes the
            source's colours at the border.
        region: "crop", the whole square, or "face", as the landmarks show it.
        feather: width of the soft border as a share of the square's side.
        tuning: tune the generator first, so that the border meets the source (phase 3); None pastes
            the pictures as they are.
    """

    mode: str = "poisson"
    region: str = "crop"
    feather: float = 0.1
    tuning: TuningConfig | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(STAGE, f"stitch.mode={self.mode}", near_names(self.mode, MODES))
        if self.region not in REGIONS:
            raise ConfigError(STAGE, f"stitch.region={self.region}", near_names(self.region, REGIONS))
        if not 0 <= self.feather <= 0.5:
            raise ConfigError(STAGE, f"stitch.feather={self.feather}", "a share of the side from 0 to 0.5")

    def check_domain(self, domain: Domain, edit: str) -> None:
        """Raise ConfigError for stitch tuning of an out-of-domain edit (paper, Section 3.4)."""
        if self.tuning is not None and domain == "out":
            raise ConfigError(
                STAGE,
                f"edit={edit} is out-of-domain: its look differs from the input all over the picture, so no "
                "border can be tuned to meet the source (paper, Section 3.4)",
                f"put it back as it is with stitch={' or stitch='.join(MODES)}",
            )

    @property
    def plain(self) -> StitchConfig:
        """The same border, hard, and nothing blended: what others are measured against."""
        return replace(self, mode="feather", feather=0.0)


def run(
    clip: Clip,
    aligned: Aligned,
    faces: Faces,
    config: StitchConfig,
    store: Store,
    before: Faces | None = None,
) -> Stitched:
    """Full frames with the edited face; frames of the clip without a face stay as they are.

    Args:
        clip: the source.
        aligned: where the face is.
        faces: pictures of it; frames join by id.
        config: how it is put back.
        store: cache.
        before: the pictures before stitch tuning, which are pasted plainly to measure the seam against;
            ``faces`` themselves where there was none.
    """
    untuned = before or faces
    depends = {
        "version": VERSION,
        "clip": clip.key,
        "aligned": aligned.key,
        "faces": faces.key,
        "before": untuned.key,
        **asdict(config),
        **region_reads(aligned, config),
    }

    def make(folder: Path) -> dict[str, Any]:
        total = len(clip.frames)
        shown = track(stitched(clip, aligned, faces, config), "putting the face back", total)
        write_frames(folder / "frames.npy", (total, *clip.frames.size), (frame[None] for frame in shown))
        figures = {PLAIN: seam_figures(clip, aligned, untuned, config.plain)}
        if before is not None:
            figures[BLEND] = seam_figures(clip, aligned, before, config)
        figures[STITCHED] = seam_figures(clip, aligned, faces, config)
        for name, row in figures.items():
            log.info("stitch: %s, jump at the border %s, flicker %s levels", name, *map(_shown, row.values()))
        return {"seams": figures, "edited_frames": len(faces.frame_ids)}

    folder = store.produce(STAGE, depends, make)
    figures = store.info(folder)["seams"]
    return Stitched(FrameStore.open(folder / "frames.npy"), clip.frame_ids, figures, folder.name)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def stitched(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 frames of the clip in order, the face put back where there is one."""
    at_face = positions_of(faces.frame_ids)
    at_quad = positions_of(aligned.frame_ids)
    put = MODES[config.mode]
    for frame, frame_id in zip(clip.frames.stream(), clip.frame_ids.tolist(), strict=True):
        if frame_id not in at_face:
            yield frame
            continue
        q = at_quad[frame_id]
        picture = to_pictures(faces.frames.take([at_face[frame_id]]))[0]
        yield put(frame, picture, aligned.quads[q], mask_of(aligned, q, picture.shape[-1], config))


def positions_of(frame_ids: np.ndarray) -> dict[int, int]:
    """Frame id -> position."""
    return {int(frame_id): at for at, frame_id in enumerate(frame_ids)}


def region_of(aligned: Aligned, at: int, size: int, region: str) -> np.ndarray:
    """(S, S) bool: the face, or the whole crop."""
    if region == "crop":
        return np.ones((size, size), bool)
    if aligned.regions is not None:
        return aligned.regions.take(at)[..., 0] > 127
    return face_region(aligned.landmarks[at], aligned.quads[at], size)


def region_label(aligned: Aligned, config: StitchConfig) -> str:
    """How the region is found, for logs and manifests."""
    if config.region == "crop":
        return "whole crop"
    return "segmentation" if aligned.regions is not None else region_name(aligned.landmarks)


def region_reads(aligned: Aligned, config: StitchConfig) -> dict[str, Any]:
    """What a stage that looks at the region depends on, beside the alignment itself."""
    seen = config.region == "face" and aligned.regions is not None
    return {"regions": aligned.regions_key} if seen else {}


def mask_of(aligned: Aligned, at: int, size: int, config: StitchConfig) -> Tensor:
    """(S, S) in [0, 1]: what is put back. Poisson blending cuts at one half and needs no soft border."""
    region = region_of(aligned, at, size, config.region)
    if config.tuning is not None:
        region = dilated(region, config.tuning.reach)
    return soften(region, config.feather if config.mode == "feather" else 0.0)


def seam_figures(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig) -> dict[str, float | None]:
    """Mean jump across the border, and flicker in a band around it, over a few places of the clip.

    Both in levels of 255; None where nothing could be measured (no border within the picture, no two
    neighbouring frames).
    """
    jumps: list[float] = []
    flickers: list[float] = []
    for first, second in neighbours(clip, faces):
        before, now = (_seam(clip, aligned, faces, config, frame_id) for frame_id in (first, second))
        jumps += [seam_jump(s.result, s.source, s.inside) for s in (before, now) if s.inside.any()]
        if now.band.any():
            pairs = (now.result, before.result, now.source, before.source)
            flickers.append(border_flicker(*pairs, now.band))
    jump, flicker = (float(np.mean(values)) if values else None for values in (jumps, flickers))
    return {"seam_jump": jump, "border_flicker": flicker}


def neighbours(clip: Clip, faces: Faces) -> list[tuple[int, int]]:
    """Ids of at most MEASURED pairs of neighbouring frames of the clip that both have a face."""
    edited = set(faces.frame_ids.tolist())
    ids = clip.frame_ids.tolist()
    pairs = [(a, b) for a, b in pairwise(ids) if a in edited and b in edited]
    places = np.linspace(0, max(len(pairs) - 1, 0), MEASURED).astype(int)
    return [pairs[at] for at in dict.fromkeys(places.tolist()) if at < len(pairs)]


@dataclass(frozen=True)
class Seam:
    """One frame with and without the face, (H, W, 3) uint8, and its border, (H, W) bool."""

    result: np.ndarray
    source: np.ndarray
    inside: np.ndarray
    band: np.ndarray


def _seam(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig, frame_id: int) -> Seam:
    at = positions_of(aligned.frame_ids)[frame_id]
    [source] = clip.frames.take([positions_of(clip.frame_ids)[frame_id]])
    picture = to_pictures(faces.frames.take([positions_of(faces.frame_ids)[frame_id]]))[0]
    quad = aligned.quads[at]
    # The border of the hard region: where a soft one is cut at half depends on its width.
    hard = mask_of(aligned, at, picture.shape[-1], config.plain)
    result = MODES[config.mode](source, picture, quad, mask_of(aligned, at, picture.shape[-1], config))
    inside = np.zeros(source.shape[:2], bool)
    window = Window.around(quad, source.shape[:2])
    if not window.empty:
        inside[window.slices] = place(picture, quad, hard, window)[1] > 0.5
    return Seam(result, source, inside, _band(inside, max(2, round(BAND * float(side_px(quad))))))


def _band(inside: np.ndarray, width: int) -> np.ndarray:
    """Pixels at most ``width`` from the border."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    mask = inside.astype(np.uint8)
    return cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
