"""What a video file really holds: the frames shown, their times, rotation and colour."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from tempcons.check import InputError

STAGE = "clip"

# ITU-T H.273 matrix coefficients; 2 says that the file doesn't tell.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
HD_HEIGHT = 720


@dataclass(frozen=True)
class Colour:
    """How YUV values of a video are to be read (numbers of ITU-T H.273, 2: not said).

    Attributes:
        space, primaries, transfer: the tags of the file, kept as they are.
        full_range: 0..255 instead of 16..235.
        matrix: the RGB matrix meant: the tag's, or by common practice BT.709 from 720 lines on and
            BT.601 below.
    """

    space: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False
    matrix: str = "bt601"


@dataclass(frozen=True)
class VideoInfo:
    """A video as its player shows it.

    Attributes:
        size: (H, W) after rotation.
        rotation: quarter turns to apply, counter-clockwise.
        fps: mean frames per second.
        pts: presentation times of the frames shown in ticks of ``time_base``, ascending; None where
            the file has none.
        timestamps_s: the same in seconds from the start of the file, one for each frame shown.
        constant_rate: whether all frames last equally long.
        pixel_format: of the coded frames, FFmpeg's name.
        aspect: width of a pixel over its height.
    """

    path: Path
    size: tuple[int, int]
    rotation: int
    fps: Fraction
    time_base: Fraction
    pts: np.ndarray | None
    timestamps_s: np.ndarray
    constant_rate: bool
    has_audio: bool
    pixel_format: str
    colour: Colour
    aspect: Fraction

    def __len__(self) -> int:
        return len(self.timestamps_s)


def open_video(path: Path) -> InputContainer:
    """Open a video file.

    Raises:
        InputError: missing, a folder, empty, or not a video.
    """
    if not path.exists():
        raise InputError(STAGE, f"no such file: {path}", f"looked from {Path.cwd()}; check clip.path")
    if path.is_dir():
        raise InputError(STAGE, f"{path} is a folder", "give one video file")
    if path.stat().st_size == 0:
        raise InputError(STAGE, f"{path} is empty (0 bytes)", "copy or download it again")
    try:
        container = av.open(str(path))
    except PermissionError as error:
        raise InputError(STAGE, f"{path} may not be read", "check its permissions") from error
    except av.FFmpegError as error:
        raise InputError(
            STAGE,
            f"{path} ({path.stat().st_size} bytes) is not a video FFmpeg can open, or is cut short",
            "play it in a player; make it again with: ffmpeg -i SOURCE -c:v libx264 new.mp4",
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(
            STAGE, f"{path} has no picture track: it holds sound only or is cut short", "check that it plays"
        )
    return container


def probe(path: Path) -> VideoInfo:
    """Count the frames shown (edit lists respected) without decoding more than the first.

    Raises:
        InputError: not a video, cut short, or without frames.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        count, pts = _shown(container, stream, path)
        _check_whole(stream, path)
        time_base = stream.time_base or Fraction(1, 1000)
        origin_s = (container.start_time or 0) / av.time_base
        has_audio = bool(container.streams.audio)
        nominal = stream.average_rate or stream.guessed_rate or Fraction(25)
    times = np.arange(count) / float(nominal) if pts is None else pts * float(time_base) - origin_s
    with open_video(path) as container:
        frame = _first_frame(container, path)
        stream = container.streams.video[0]
        turns = round(frame.rotation / 90) % 4
        height, width = (frame.height, frame.width) if turns % 2 == 0 else (frame.width, frame.height)
        return VideoInfo(
            path=path,
            size=(height, width),
            rotation=turns,
            fps=_mean_rate(times, nominal),
            time_base=time_base,
            pts=pts,
            timestamps_s=times,
            constant_rate=_is_constant(times, float(time_base)),
            has_audio=has_audio,
            pixel_format=frame.format.name,
            colour=_colour(frame),
            aspect=stream.sample_aspect_ratio or Fraction(1),
        )


def _shown(container: InputContainer, stream: VideoStream, path: Path) -> tuple[int, np.ndarray | None]:
    """Number of packets shown, and their sorted times (None where some are missing or repeat)."""
    shown = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
    except av.FFmpegError as error:
        raise InputError(
            STAGE, f"{path} is damaged after {len(shown)} frames", "copy it again or cut the damaged part off"
        ) from error
    if not shown:
        raise InputError(STAGE, f"{path} shows no frames", "check that it plays")
    times = {pts for pts in shown if pts is not None}
    usable = len(times) == len(shown)
    return len(shown), np.array(sorted(times), np.int64) if usable else None


def _check_whole(stream: VideoStream, path: Path) -> None:
    """The index names the bytes of each frame; frames past the end of the file mean it is cut short."""
    size = path.stat().st_size
    entries = stream.index_entries
    missing = sum(1 for entry in entries if entry.pos + entry.size > size)
    if missing:
        raise InputError(
            STAGE,
            f"{path} is cut short: {missing} of {len(entries)} frames lie past its end ({size} bytes)",
            "copy or download it again",
        )


def _first_frame(container: InputContainer, path: Path) -> av.VideoFrame:
    try:
        return next(container.decode(video=0))
    except (av.FFmpegError, StopIteration) as error:
        raise InputError(
            STAGE, f"{path}: the first frame can't be decoded", "copy it again or re-encode it"
        ) from error


def _colour(frame: av.VideoFrame) -> Colour:
    space = int(frame.colorspace)
    by_size = "bt709" if min(frame.height, frame.width) >= HD_HEIGHT else "bt601"
    return Colour(
        space=space,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=int(frame.color_range) == 2 or frame.format.name.startswith("yuvj"),
        matrix=MATRICES.get(space, by_size),
    )


def _mean_rate(times: np.ndarray, nominal: Fraction) -> Fraction:
    """The container's rate where the times agree with it to 1 %, else the rate of the times."""
    span = float(times[-1] - times[0])
    if len(times) < 2 or span <= 0:
        return nominal
    measured = (len(times) - 1) / span
    agrees = abs(measured / float(nominal) - 1) < 0.01
    return nominal if agrees else Fraction(measured).limit_denominator(1001)


def _is_constant(times: np.ndarray, tick_s: float) -> bool:
    if len(times) < 3:
        return True
    steps = np.diff(times)
    return bool(np.ptp(steps) <= 2 * tick_s + 1e-6)
