"""The sound of a source, put beside new pictures packet by packet, bit for bit."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from tempcons.check import InputError
from tempcons.media.probe import open_video

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sound:
    """The part of a source's sound that belongs to a clip.

    Attributes:
        source: a video with sound.
        start_s: where the clip starts, seconds from the start of the source.
        end_s: where it ends; None takes the sound to its end.
    """

    source: Path
    start_s: float = 0.0
    end_s: float | None = None

    def attach(self, container: OutputContainer) -> SoundCopy:
        """Add sound streams like the source's to ``container``."""
        return SoundCopy(self, container)


class SoundCopy:
    """Packets of all the sound streams of a source, in time with what is being written.

    Raises:
        InputError: the container can't hold sound of this kind.
    """

    def __init__(self, sound: Sound, container: OutputContainer) -> None:
        self.sound, self.container = sound, container
        self.input: InputContainer = open_video(sound.source)
        streams = self.input.streams.audio
        try:
            self.outputs = {s.index: container.add_stream_from_template(s) for s in streams}
        except ValueError as error:
            self.input.close()
            kinds = ", ".join(s.codec_context.name for s in streams)
            raise InputError(
                "render", f"{container.format.name} can't hold {kinds} sound", "write to a .mkv file"
            ) from error
        self.packets = self._packets()
        self.waiting = next(self.packets, None)

    def _packets(self) -> Generator[tuple[float, av.Packet], None, None]:
        """(seconds from the start of the clip, packet) of the packets that start within the clip."""
        origin = (self.input.start_time or 0) / av.time_base + self.sound.start_s
        length = float("inf") if self.sound.end_s is None else self.sound.end_s - self.sound.start_s
        for packet in self.input.demux(*self.input.streams.audio):
            if packet.pts is None or packet.size == 0:
                continue
            at = float(packet.pts * packet.time_base) - origin
            if self.sound.start_s > 0 and at < 0:
                continue
            if at < length:
                yield at, self._shifted(packet, origin)

    def _shifted(self, packet: av.Packet, origin: float) -> av.Packet:
        ticks = round(origin / packet.time_base)
        start = packet.pts or 0
        packet.dts = (start if packet.dts is None else packet.dts) - ticks
        packet.pts = start - ticks
        packet.stream = self.outputs[packet.stream.index]
        return packet

    def copy_until(self, time_s: float) -> None:
        """Write the packets not yet written that start at ``time_s`` or before."""
        while self.waiting and self.waiting[0] <= time_s:
            self.container.mux(self.waiting[1])
            self.waiting = next(self.packets, None)

    def close(self) -> None:
        """Close the source."""
        self.packets.close()
        self.input.close()


def suffix_for(source: Path) -> str:
    """ ".mp4" where that container holds the source's sound as it is, else ".mkv"."""
    with open_video(source) as video, av.open(io.BytesIO(), "w", format="mp4") as target:
        kinds = ", ".join(s.codec_context.name for s in video.streams.audio)
        try:
            for stream in video.streams.audio:
                target.add_stream_from_template(stream)
        except ValueError:
            log.info("render: mp4 can't hold %s sound, the video is written as .mkv", kinds)
            return ".mkv"
    return ".mp4"
