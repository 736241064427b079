"""Small real video files for the tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def moving_square(total: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3): a bright square that moves one pixel a frame over a ramp."""
    ramp = np.linspace(20, 120, width, dtype=np.uint8)
    frames = np.repeat(
        np.broadcast_to(ramp[None, None, :, None], (total, height, width, 1)), 3, axis=3
    ).copy()
    for t in range(total):
        left = t % (width - 12)
        frames[t, 8:24, left : left + 12] = (200, 60, 40)
    return frames


def encode(
    path: Path,
    frames: np.ndarray,
    rate: int = 25,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    times: list[int] | None = None,
    faststart: bool = False,
    sound_s: float = 0.0,
) -> Path:
    """Write an mp4 with PyAV alone, so that the project's writer isn't its own witness."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.options = {"crf": "5"}
        if pixel_format == "gray":
            stream.codec_context.color_range = 2  # FFmpeg makes gray from RGB in full range
        if rotation:
            stream.set_display_rotation(rotation)
        audio = container.add_stream("aac", rate=16000) if sound_s else None
        for t, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times is not None:
                frame.pts = times[t]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio:
            _beep(container, audio, sound_s)
    return path


def _beep(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    tone = np.sin(np.arange(int(16000 * seconds)) * 0.2).astype(np.float32) * 0.3
    for at in range(0, len(tone) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, at : at + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, at
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
