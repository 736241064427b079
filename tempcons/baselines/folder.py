"""Results of any other tool as a baseline: a video or a folder of its frames."""

from __future__ import annotations

from pathlib import Path

from tempcons.media.frames import FrameStore
from tempcons.media.read import list_pictures
from tempcons.metrics.evaluate import check_same_clip
from tempcons.metrics.source import read_frames
from tempcons.store.artefact import hash_file


def frames_of_other_tool(source: Path, direct: FrameStore, file: Path) -> FrameStore:
    """Read another tool's frames of the clip, which must match the direct edit frame by frame.

    Args:
        source: video file, or folder of pictures in natural order.
        direct: the direct edit.
        file: ``.npy`` to write the frames to.

    Raises:
        InputError: missing or unreadable source, another number of frames, or another size.
    """
    frames = read_frames(source, file)
    check_same_clip(frames, direct, str(source), "the direct edit")
    return frames


def content_hashes(source: Path) -> list[str]:
    """SHA-256 of a video file, or of the pictures of a folder in natural order.

    Raises:
        InputError: a folder without pictures, or with pictures of different sizes.
    """
    return [hash_file(path) for path in (list_pictures(source) if source.is_dir() else [source])]
