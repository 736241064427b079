"""Videos to files: encoded frame by frame, under a temporary name until whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image, ImageDraw, ImageFont

import tempcons
from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.media.probe import HD_HEIGHT, Colour, probe
from tempcons.media.read import ACCURATE, YUV_MATRICES
from tempcons.media.sound import Sound

log = logging.getLogger(__name__)

STAGE = "render"
COMMENT = "Edited video: the face was changed with tempcons"
SD = Colour(space=6, primaries=6, transfer=6, matrix="bt601")
HD = Colour(space=1, primaries=1, transfer=1, matrix="bt709")
FINE_TICKS = 90_000  # per second, for frames of unequal length


@dataclass(frozen=True)
class VideoSettings:
    """How a video is written.

    Attributes:
        fps: frames per second.
        timestamps_s: seconds of each frame where they are not equally long; the first may be any.
        lossless: exact RGB (H.264 in RGB; not every player shows it) instead of a good copy.
        crf: quality of the good copy; 16 is hard to tell from the original.
        colour: matrix, range and tags; None takes BT.709 from 720 lines on, else BT.601.
        aspect: width of a pixel over its height.
        metadata: added to the file's own; it always says that the video was edited.
        sound: packets to put beside the picture.
    """

    fps: float
    timestamps_s: np.ndarray | None = None
    lossless: bool = False
    crf: int = 16
    colour: Colour | None = None
    aspect: Fraction = Fraction(1)
    metadata: dict[str, str] = field(default_factory=dict)
    sound: Sound | None = None


class VideoWriter:
    """H.264 in the container that the name's ending says (.mp4, .mkv), renamed when whole.

    Used as a context manager: an error inside leaves no file behind. Odd sizes are kept; 4:2:0
    can't hold them, so they are written as 4:4:4.

    Raises:
        InputError: no space, a folder that can't be written to, or sound the container can't hold.
    """

    def __init__(self, path: Path, size: tuple[int, int], settings: VideoSettings) -> None:
        self.path, self.size, self.settings = path, size, settings
        self.partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self.colour = settings.colour or (HD if min(size) >= HD_HEIGHT else SD)
        self.count = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error

    def _open(self) -> None:
        settings = self.settings
        options = {"movflags": "faststart+use_metadata_tags"} if self.path.suffix == ".mp4" else {}
        self.container = av.open(str(self.partial), "w", options=options)
        self.container.metadata.update(settings.metadata)
        self.container.metadata["comment"] = COMMENT
        self.container.metadata["tempcons"] = tempcons.__version__
        rate = rate_of(settings.fps)
        self.tick = 1 / rate if settings.timestamps_s is None else Fraction(1, FINE_TICKS)
        self.stream = self.container.add_stream("libx264rgb" if settings.lossless else "libx264", rate=rate)
        self.stream.height, self.stream.width = self.size
        self.stream.pix_fmt = self._pixel_format()
        self.stream.options = {"crf": "0" if settings.lossless else str(settings.crf)}
        self.stream.sample_aspect_ratio = settings.aspect
        context = self.stream.codec_context
        context.time_base = self.tick
        if not settings.lossless:
            context.colorspace, context.color_primaries = self.colour.space, self.colour.primaries
            context.color_trc, context.color_range = self.colour.transfer, self._range()
        self.sound = settings.sound.attach(self.container) if settings.sound else None

    def _pixel_format(self) -> str:
        if self.settings.lossless:
            return "rgb24"
        odd = self.size[0] % 2 or self.size[1] % 2
        if odd:
            log.info("%s: %dx%d is odd, written as 4:4:4", self.path.name, self.size[1], self.size[0])
        return "yuv444p" if odd else "yuv420p"

    def _range(self) -> ColorRange:
        return ColorRange.JPEG if self.colour.full_range else ColorRange.MPEG

    def add(self, frame: np.ndarray) -> None:
        """Encode one (H, W, 3) uint8 RGB frame.

        Raises:
            ValueError: not such a frame.
            InputError: it can't be written.
        """
        if frame.shape != (*self.size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 {(*self.size, 3)}, got {frame.dtype} {frame.shape}")
        try:
            self._mux(self.stream.encode(self._to_video(frame)))
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error
        self.count += 1

    def _to_video(self, frame: np.ndarray) -> av.VideoFrame:
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if not self.settings.lossless:
            rgb = rgb.reformat(
                format=self.stream.pix_fmt,
                dst_colorspace=YUV_MATRICES[self.colour.matrix],
                dst_color_range=self._range(),
                interpolation=ACCURATE,
            )
        times = self.settings.timestamps_s
        elapsed = self.count * self.tick if times is None else Fraction(float(times[self.count] - times[0]))
        rgb.pts, rgb.time_base = round(elapsed / self.tick), self.tick
        return rgb

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            if self.sound and packet.dts is not None:
                self.sound.copy_until(float(packet.dts * packet.time_base))
            self.container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except (OSError, av.FFmpegError) as failure:
            raise self._failed(failure) from failure
        finally:
            self._discard()

    def _finish(self) -> None:
        if not self.count:
            raise ValueError(f"{self.path.name}: no frames to write")
        self._mux(self.stream.encode())
        if self.sound:
            self.sound.copy_until(float("inf"))
        self.container.close()
        self.partial.replace(self.path)

    def _discard(self) -> None:
        try:
            self.container.close()
        except (OSError, av.FFmpegError) as error:
            log.debug("closing %s: %s", self.partial, error)
        if self.sound:
            self.sound.close()
        self.partial.unlink(missing_ok=True)

    def _failed(self, error: Exception) -> InputError:
        why = getattr(error, "strerror", None) or str(error)
        return InputError(
            STAGE, f"can't write {self.path}: {why}", "check the free space and the permissions of the folder"
        )


def write_video(path: Path, frames: FrameStore | Iterable[np.ndarray], settings: VideoSettings) -> Path:
    """Write frames, (H, W, 3) uint8 RGB each, as they come; memory doesn't grow with their number.

    Raises:
        InputError: it can't be written; nothing is left under the final name.
        ValueError: no frames, or frames of different sizes.
    """
    steps = iter(frames.stream() if isinstance(frames, FrameStore) else frames)
    first = next(steps, None)
    if first is None:
        raise ValueError(f"{path.name}: no frames to write")
    with VideoWriter(path, first.shape[:2], settings) as writer:
        for frame in chain([first], steps):
            writer.add(frame)
    return path


def settings_like(
    source: Path,
    fps: float,
    timestamps_s: np.ndarray,
    lossless: bool = False,
    metadata: dict[str, str] | None = None,
    crf: int = 16,
) -> VideoSettings:
    """Settings for new pictures in place of a source's: its colour, pixel shape, times and sound.

    Args:
        source: the video, or the folder of pictures, the frames come from.
        fps: of the frames taken.
        timestamps_s: of the frames taken, seconds from the start of the source.
    """
    if source.is_dir():
        return VideoSettings(fps, lossless=lossless, crf=crf, metadata=metadata or {})
    video = probe(source)
    start, end = float(timestamps_s[0]), float(timestamps_s[-1])
    last = end >= float(video.timestamps_s[-1])
    return VideoSettings(
        fps,
        timestamps_s=None if video.constant_rate else timestamps_s,
        lossless=lossless,
        crf=crf,
        colour=video.colour,
        aspect=1 / video.aspect if video.rotation % 2 else video.aspect,
        metadata=metadata or {},
        sound=Sound(source, start, None if last else end + 1 / fps) if video.has_audio else None,
    )


def rate_of(fps: float) -> Fraction:
    """The exact rate meant by ``fps``: 29.97 is 30000/1001, as video files keep it."""
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    return ntsc if abs(float(ntsc) - fps) < 5e-3 else Fraction(fps).limit_denominator(1001)


def side_by_side(
    columns: Sequence[FrameStore | Iterable[np.ndarray]], labels: Sequence[str] = ()
) -> Iterator[np.ndarray]:
    """Frames of several videos beside each other, of one height, with a strip of labels above.

    Raises:
        ValueError: the columns hold different numbers of frames, or labels and columns don't match.
    """
    if labels and len(labels) != len(columns):
        raise ValueError(f"{len(labels)} labels for {len(columns)} columns")
    sources = [column.stream() if isinstance(column, FrameStore) else column for column in columns]
    strip = None
    for row in zip(*sources, strict=True):
        joined = np.hstack(row)
        if labels and strip is None:
            strip = _label_strip([frame.shape[1] for frame in row], labels)
        yield joined if strip is None else np.vstack([strip, joined])


def _label_strip(widths: Sequence[int], labels: Sequence[str]) -> np.ndarray:
    """(h, sum of widths, 3): white text on black, each label centred on its column."""
    height = 2 * max(8, min(widths) // 16)
    strip = Image.new("RGB", (sum(widths), height))
    draw = ImageDraw.Draw(strip)
    left = 0
    for width, label in zip(widths, labels, strict=True):
        font = _font_to_fit(label, width - 4, height * 0.7)
        draw.text((left + width / 2, height / 2), label, fill="white", font=font, anchor="mm")
        left += width
    return np.asarray(strip)


def _font_to_fit(text: str, width: float, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    font = ImageFont.load_default(size)
    length = font.getlength(text)
    return font if length <= width else ImageFont.load_default(max(6.0, size * width / length))


def with_label(frames: Iterable[np.ndarray], text: str = "edited video") -> Iterator[np.ndarray]:
    """Frames with a visible label in the lower left corner."""
    for frame in frames:
        picture = Image.fromarray(frame)
        font = ImageFont.load_default(max(9, picture.height // 24))
        at = (picture.height // 36, picture.height - picture.height // 36)
        ImageDraw.Draw(picture).text(
            at, text, fill="white", font=font, anchor="ls", stroke_width=1, stroke_fill="black"
        )
        yield np.asarray(picture)
