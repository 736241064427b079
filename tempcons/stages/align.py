"""Align: landmarks of one face on each frame, smoothed over time -> square crops."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from tempcons.check import ConfigError, InputError, near_names
from tempcons.geometry.quad import (
    CropRule,
    centre_and_axis,
    corners,
    crop,
    jitter_px,
    outside_share,
    side_px,
    smooth,
)
from tempcons.geometry.surround import faded_surround
from tempcons.geometry.track import Detection, choose, link, place
from tempcons.media.cuts import find_cuts, split_scenes
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.range import to_pictures
from tempcons.models.landmarks import make_detector
from tempcons.progress import track
from tempcons.store.artefact import Store, hash_file
from tempcons.types import Aligned, Clip

log = logging.getLogger(__name__)

STAGE = "align"
VERSION = 2
POLICIES = ("error", "interpolate", "keep_original")
BATCH = 4
MUCH_OUTSIDE = 0.35
FEWEST = 2


@dataclass(frozen=True)
class AlignConfig:
    """How the face is found and followed.

    Attributes:
        detector: name of a landmark detector ("mtcnn").
        on_missing: frames without the face are an "error", filled by "interpolate", or left out of
            the edit by "keep_original".
        smoothing_s: standard deviation in seconds of the smoothing over time; 0.067 is two frames
            at 30 per second.
        scene_cuts: find the cuts of the clip; every scene is followed and smoothed on its own.
        min_face_px: a smaller square (its side in source pixels) is edited with a warning.
        landmarks_path: a .npy with (T, 68, 2) or (T, 5, 2) points instead of a detector: one row for
            each frame of the clip or of the source; NaN where there is no face. A depth, in (T, 68, 3) as
            face-alignment or (T, 3, 68) as 3DDFA_V2 gives it, isn't used.
        face: "auto", "largest", or the number of the face by prominence in its scene, from 0.
        face_box: left, top, right, bottom around the face wanted, where it is first seen; scenes
            that show none there count as frames without the face.
    """

    detector: str = "mtcnn"
    on_missing: str = "error"
    smoothing_s: float = 0.067
    scene_cuts: bool = True
    min_face_px: int = 64
    landmarks_path: str | None = None
    face: str | int = "auto"
    face_box: list[float] | None = None


def run(
    clip: Clip,
    config: AlignConfig,
    crop_rule: CropRule,
    size: int,
    store: Store,
    device: torch.device | str = "cpu",
) -> Aligned:
    """Find, follow and crop the face.

    Args:
        clip: source frames.
        crop_rule: which square the model family crops.
        size: side of the crops, the generator's resolution.
        store: cache.
        device: where to look for the face and to crop.

    Raises:
        InputError: no face at all, or the face is missing in frames and the policy is "error".
        ConfigError: an unknown detector, policy or face; landmarks of a wrong shape.
    """
    _check(config)
    depends = {
        "version": VERSION,
        "clip": clip.key,
        "rule": asdict(crop_rule),
        "size": size,
        **asdict(config),
        "landmarks_path": hash_file(Path(config.landmarks_path)) if config.landmarks_path else None,
    }
    folder = store.produce(
        STAGE, depends, lambda partial: _make(partial, clip, config, crop_rule, size, device)
    )
    tracks = load_file(folder / "track.safetensors")
    return Aligned(
        frames=FrameStore.open(folder / "frames.npy"),
        frame_ids=tracks["frame_ids"],
        landmarks=tracks["landmarks"],
        quads=tracks["quads"],
        found=tracks["found"],
        cuts=tuple(store.info(folder)["cuts"]),
        raw_quads=tracks["raw_quads"],
        key=folder.name,
    )


def id_ranges(ids: Sequence[int]) -> str:
    """'41-44, 50' for [41, 42, 43, 44, 50]."""
    runs: list[list[int]] = []
    for i in ids:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _check(config: AlignConfig) -> None:
    if config.on_missing not in POLICIES:
        raise ConfigError(
            STAGE, f"align.on_missing={config.on_missing}", near_names(config.on_missing, POLICIES)
        )
    if not config.smoothing_s >= 0:
        raise ConfigError(STAGE, f"align.smoothing_s={config.smoothing_s}", "it must be 0 or more seconds")
    if config.landmarks_path and not Path(config.landmarks_path).is_file():
        raise InputError(STAGE, f"no such file: {config.landmarks_path}", "check align.landmarks_path")


def _make(
    folder: Path, clip: Clip, config: AlignConfig, rule: CropRule, size: int, device: torch.device | str
) -> dict[str, Any]:
    scenes = _scenes(clip, config)
    raw = _load_landmarks(clip, config) if config.landmarks_path else _detect(clip, config, scenes, device)
    found = ~np.isnan(raw).any((1, 2))
    _apply_policy(clip.frame_ids, found, config.on_missing)
    keep = found if config.on_missing == "keep_original" else np.ones_like(found)
    ids, times = clip.frame_ids[keep], clip.timestamps_s[keep]
    parts = _parts(scenes, keep)
    landmarks = _fill(raw[keep], found[keep], times, ids, parts)

    def calm(values: np.ndarray) -> np.ndarray:
        return np.concatenate([smooth(values[p], times[p], config.smoothing_s) for p in parts])

    centre, axis = centre_and_axis(landmarks, rule)
    quads, raw_quads = corners(calm(centre), calm(axis)), corners(centre, axis)
    _warn(quads, ids, clip.frames.size, size, config.min_face_px)
    save_file(
        {
            "frame_ids": ids,
            "landmarks": calm(landmarks),
            "quads": quads,
            "raw_quads": raw_quads,
            "found": found[keep],
        },
        folder / "track.safetensors",
    )
    positions = np.flatnonzero(keep)
    _write_crops(folder / "frames.npy", clip.frames, positions, quads, size, rule.fade, device)
    return {
        "cuts": clip.frame_ids[[scene.start for scene in scenes[1:]]].tolist(),
        "missing": clip.frame_ids[~found].tolist(),
        "crop_px": [float(side_px(quads).min()), float(side_px(quads).max())],
        "outside_share": float(outside_share(quads, clip.frames.size).max()),
        "jitter_px": _jitter(raw_quads, quads, parts),
    }


def _scenes(clip: Clip, config: AlignConfig) -> list[range]:
    """Positions of each scene of the clip."""
    if not config.scene_cuts:
        return [range(len(clip.frames))]
    frames = track(clip.frames.stream(), "looking for cuts", len(clip.frames))
    scenes = split_scenes(len(clip.frames), find_cuts(frames))
    if len(scenes) > 1:
        starts = [int(clip.frame_ids[scene.start]) for scene in scenes[1:]]
        log.warning("align: %d scenes, each handled on its own; cuts before frames %s", len(scenes), starts)
    return scenes


def _parts(scenes: Sequence[range], keep: np.ndarray) -> list[slice]:
    """Where the frames kept of each scene are among all that are kept; scenes without any are left out."""
    edges = np.concatenate([[0], np.cumsum(keep)])
    spans = [(int(edges[scene.start]), int(edges[scene.stop])) for scene in scenes]
    return [slice(a, b) for a, b in spans if a < b]


def _detect(
    clip: Clip, config: AlignConfig, scenes: Sequence[range], device: torch.device | str
) -> np.ndarray:
    """(T, K, 2) landmarks of the chosen face, NaN where it isn't seen."""
    detector = make_detector(config.detector, str(device))
    steps = track(clip.frames.stream(), "finding the face", len(clip.frames))
    detections = [detector.detect(frame) for frame in steps]
    tracks = [link(detections[scene.start : scene.stop]) for scene in scenes]
    faces: dict[int, Detection] = {}
    for scene, seen in zip(scenes, tracks, strict=True):
        if seen:
            chosen = choose(seen, str(config.face), config.face_box)
            faces |= {scene.start + at: detection for at, detection in chosen.items()}
    if faces:
        return _rows(faces, len(clip.frames))
    if any(tracks):
        boxes = ", ".join(place(face) for seen in tracks for face in seen)
        raise ConfigError(
            STAGE, f"no face at align.face_box={config.face_box}", f"there are faces at {boxes}"
        )
    raise InputError(STAGE, "no face in any frame", "check the clip; the face must be seen from the front")


def _rows(faces: dict[int, Detection], total: int) -> np.ndarray:
    points = next(iter(faces.values())).points
    rows = np.full((total, *points.shape), np.nan)
    for at, detection in faces.items():
        rows[at] = detection.points
    return rows


def _load_landmarks(clip: Clip, config: AlignConfig) -> np.ndarray:
    """Landmarks from a file, one row for each frame of the clip or of the source."""
    path = Path(str(config.landmarks_path))
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(STAGE, f"{path} is not a .npy file of numbers", "save it with numpy.save") from error
    if rows.ndim == 3 and rows.shape[1:] == (3, 68):
        rows = rows.swapaxes(1, 2)
    if rows.ndim != 3 or rows.shape[1:] not in ((5, 2), (68, 2), (68, 3)):
        raise InputError(STAGE, f"{path} holds {rows.shape}", "(T, 68, 2) or (T, 5, 2) is needed")
    rows = rows[..., :2]
    if len(rows) != len(clip.frame_ids):
        if len(rows) <= clip.frame_ids[-1]:
            raise InputError(
                STAGE,
                f"{path} has {len(rows)} rows, the clip {len(clip.frame_ids)} frames "
                f"up to id {clip.frame_ids[-1]}",
                "give one row for each frame of the clip, or of the whole source",
            )
        rows = rows[clip.frame_ids]
    if np.isnan(rows).any((1, 2)).all():
        raise InputError(STAGE, f"{path} has no face in any frame of the clip", "check align.landmarks_path")
    return rows.astype(np.float64)


def _apply_policy(frame_ids: np.ndarray, found: np.ndarray, policy: str) -> None:
    """Before anything costly: name the frames without a face, and stop if that's the policy."""
    missing = id_ranges(frame_ids[~found].tolist())
    if not missing:
        return
    if policy == "error":
        raise InputError(
            STAGE,
            f"no face in frames {missing} ({int((~found).sum())} of {len(found)})",
            "set align.on_missing=interpolate or keep_original, or trim with clip.start and clip.num_frames",
        )
    if policy == "keep_original" and found.sum() < FEWEST:
        raise InputError(
            STAGE,
            f"only {int(found.sum())} of {len(found)} frames shows the face",
            f"consistency over time needs {FEWEST} or more",
        )
    log.warning("align: no face in frames %s; align.on_missing=%s", missing, policy)


def _fill(
    landmarks: np.ndarray, found: np.ndarray, times: np.ndarray, ids: np.ndarray, parts: Sequence[slice]
) -> np.ndarray:
    """Missing rows by linear interpolation over time within the scene, the nearest row at its ends.

    Raises:
        InputError: a scene without any face: there is nothing to interpolate between.
    """
    filled = landmarks.copy()
    for part in parts:
        if not found[part].any():
            raise InputError(
                STAGE,
                f"no face in the whole scene of frames {id_ranges(ids[part].tolist())}",
                "set align.on_missing=keep_original, or trim with clip.start and clip.num_frames",
            )
        seen, at = found[part], times[part]
        rows = filled[part].reshape(len(at), -1)
        for column in rows.T:
            column[~seen] = np.interp(at[~seen], at[seen], column[seen])
        filled[part] = rows.reshape(filled[part].shape)
    return filled


def _jitter(raw: np.ndarray, smoothed: np.ndarray, parts: Sequence[slice]) -> dict[str, float]:
    before, after = (jitter_px([quads[part] for part in parts]) for quads in (raw, smoothed))
    log.info("align: jitter of the crop's corners %.2f px, %.2f px after smoothing", before, after)
    return {"before": before, "after": after}


def _warn(quads: np.ndarray, ids: np.ndarray, frame: tuple[int, int], size: int, min_face_px: int) -> None:
    """Say it where the face is small or leaves the picture."""
    smallest = side_px(quads).min()
    if smallest < min_face_px:
        log.warning(
            "align: the face is small: its crop is %.0f px wide, enlarged %.1f times to %d px",
            smallest,
            size / smallest,
            size,
        )
    leaving = outside_share(quads, frame) > MUCH_OUTSIDE
    if leaving.any():
        log.warning("align: the face leaves the picture in frames %s", id_ranges(ids[leaving].tolist()))


def _write_crops(
    path: Path,
    frames: FrameStore,
    positions: np.ndarray,
    quads: np.ndarray,
    size: int,
    fade: bool,
    device: torch.device | str,
) -> None:
    def batches() -> Iterator[Tensor]:
        starts = range(0, len(positions), BATCH)
        for at in track(starts, "cropping the face", len(starts)):
            part = slice(at, at + BATCH)
            yield _crops(frames.take(positions[part].tolist()), quads[part], size, fade, device)

    write_frames(path, (len(positions), size, size), batches())


def _crops(
    frames: np.ndarray, quads: np.ndarray, size: int, fade: bool, device: torch.device | str
) -> Tensor:
    """(B, 3, S, S); one by one where the surround is made up, as each is of another size."""
    if not fade or not outside_share(quads, frames.shape[1:3]).any():
        return crop(to_pictures(frames).to(device), quads, size)
    parts = [faded_surround(frame, quad) for frame, quad in zip(frames, quads, strict=True)]
    return torch.cat([crop(to_pictures(part).to(device), quad[None], size) for part, quad in parts])
