"""Results of any other tool as a baseline: a video or a folder of its frames."""

from __future__ import annotations

from pathlib import Path

from tempcons.media.frames import FrameStore
from tempcons.metrics.evaluate import check_same_clip
from tempcons.metrics.source import read_frames


def frames_of_other_tool(source: Path, direct: FrameStore, folder: Path) -> FrameStore:
    """Read another tool's frames of the clip, which must match the direct edit frame by frame.

    Args:
        source: video file, or folder of pictures in natural order.
        direct: the direct edit.
        folder: existing folder that the frames are written into.

    Raises:
        InputError: missing or unreadable source, another number of frames, or another size.
    """
    frames = read_frames(source, folder)
    check_same_clip(frames, direct, str(source), "the direct edit")
    return frames
