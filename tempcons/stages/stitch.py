"""Stitch: edited faces -> back into the frames of the source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from tempcons.check import ConfigError, near_names
from tempcons.geometry.paste import Window, edge_mask, face_mask, paste, paste_poisson, place
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.range import to_pictures
from tempcons.metrics.seam import seam_jump
from tempcons.progress import track
from tempcons.store.artefact import Store
from tempcons.types import Aligned, Clip, Stitched

log = logging.getLogger(__name__)

STAGE = "stitch"
VERSION = 1
Paste = Callable[[np.ndarray, Tensor, np.ndarray, Tensor], np.ndarray]
MODES: dict[str, Paste] = {"feather": paste, "poisson": paste_poisson}
REGIONS = ("crop", "face")
MEASURED = 8  # frames on which the seam is measured


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
        region: "crop", the whole square, or "face", an ellipse from brow to chin.
        feather: width of the soft border as a share of the square's side.
    """

    mode: str = "poisson"
    region: str = "crop"
    feather: float = 0.1


def run(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig, store: Store) -> Stitched:
    """Full frames with the edited face; frames of the clip without a face stay as they are.

    Raises:
        ConfigError: an unknown mode or region, or a feather outside [0, 0.5].
    """
    _check(config)
    depends = {
        "version": VERSION,
        "clip": clip.key,
        "aligned": aligned.key,
        "faces": faces.key,
        **asdict(config),
    }
    folder = store.produce(STAGE, depends, lambda partial: _make(partial, clip, aligned, faces, config))
    return Stitched(FrameStore.open(folder / "frames.npy"), clip.frame_ids, folder.name)


def _check(config: StitchConfig) -> None:
    if config.mode not in MODES:
        raise ConfigError(STAGE, f"stitch.mode={config.mode}", near_names(config.mode, MODES))
    if config.region not in REGIONS:
        raise ConfigError(STAGE, f"stitch.region={config.region}", near_names(config.region, REGIONS))
    if not 0 <= config.feather <= 0.5:
        raise ConfigError(STAGE, f"stitch.feather={config.feather}", "a share of the side from 0 to 0.5")


def _make(folder: Path, clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig) -> dict[str, Any]:
    total = len(clip.frames)
    shown = track(stitched(clip, aligned, faces, config), "putting the face back", total)
    write_frames(folder / "frames.npy", (total, *clip.frames.size), (frame[None] for frame in shown))
    jumps = _seams(clip, aligned, faces, config)
    log.info("stitch: jump at the border %.2f levels (plain paste %.2f)", jumps["seam"], jumps["plain"])
    return {"seam_jump_levels": jumps, "edited_frames": len(faces.frame_ids)}


def stitched(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 frames of the clip in order, the face put back where there is one."""
    put = MODES[config.mode]
    at_face = {int(i): at for at, i in enumerate(faces.frame_ids)}
    at_quad = {int(i): at for at, i in enumerate(aligned.frame_ids)}
    for frame, frame_id in zip(clip.frames.stream(), clip.frame_ids.tolist(), strict=True):
        if frame_id not in at_face:
            yield frame
            continue
        q = at_quad[frame_id]
        picture = to_pictures(faces.frames.take([at_face[frame_id]]))[0]
        yield put(frame, picture, aligned.quads[q], _mask(aligned, q, picture.shape[-1], config))


def _mask(aligned: Aligned, at: int, size: int, config: StitchConfig) -> Tensor:
    """(S, S); Poisson blending needs no soft border, as it cuts the mask at one half."""
    feather = config.feather if config.mode == "feather" else 0.0
    if config.region == "face":
        return face_mask(aligned.landmarks[at], aligned.quads[at], size, feather)
    return edge_mask(size, feather)


def _seams(clip: Clip, aligned: Aligned, faces: Faces, config: StitchConfig) -> dict[str, float]:
    """Mean jump at the region's border over a few frames: of this mode, and of plain pasting."""
    rows = []
    for f in np.unique(np.linspace(0, len(faces.frame_ids) - 1, MEASURED).astype(int)).tolist():
        q = int(np.flatnonzero(aligned.frame_ids == faces.frame_ids[f])[0])
        c = int(np.flatnonzero(clip.frame_ids == faces.frame_ids[f])[0])
        frame, quad = clip.frames.take([c])[0], aligned.quads[q]
        window = Window.around(quad, clip.frames.size)
        if window.empty:
            continue
        picture = to_pictures(faces.frames.take([f]))[0]
        mask = _mask(aligned, q, picture.shape[-1], config)
        face, weight = place(picture, quad, mask, window)
        inside, source = weight > 0.5, frame[window.slices]
        plain = np.where(inside[..., None], face, source)
        blended = MODES[config.mode](frame, picture, quad, mask)[window.slices]
        rows.append([seam_jump(result, source, inside) for result in (blended, plain)])
    seam, plain_seam = np.mean(rows, axis=0) if rows else (0.0, 0.0)
    return {"seam": float(seam), "plain": float(plain_seam)}
