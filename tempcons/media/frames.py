"""Frames on disk as memory-mapped arrays, looked at as pictures in [-1, 1]."""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from tempcons.check import InputError
from tempcons.media.range import to_frames, to_pictures


class FrameStore:
    """T uint8 RGB frames (T, H, W, 3), usually memory-mapped from a ``.npy`` file."""

    def __init__(self, array: np.ndarray) -> None:
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 (T, H, W, 3), got {array.dtype} {array.shape}")
        self.array = array

    @classmethod
    def open(cls, path: Path) -> FrameStore:
        """Memory-map frames written by :func:`write_frames`."""
        return cls(np.load(path, mmap_mode="r", allow_pickle=False))

    def __reduce__(self) -> tuple:
        """A file's frames go to another process as its path, others as they are."""
        if isinstance(self.array, np.memmap) and isinstance(self.array.base, mmap.mmap):
            return FrameStore.open, (Path(str(self.array.filename)),)
        return FrameStore, (np.array(self.array),)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.array.shape[1], self.array.shape[2]

    def take(self, index: int | slice | Sequence[int]) -> np.ndarray:
        """A copy of some frames (B, H, W, 3), or of one (H, W, 3); the mapped pages are given back at once.

        So memory doesn't grow while a long clip is read from end to end.
        """
        frames = np.array(self.array[index])
        mapped = getattr(self.array, "_mmap", None)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)
        return frames

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels and their shape."""
        found = hashlib.sha256(repr(self.array.shape).encode())
        for frame in self.stream():
            found.update(frame.data)
        return found.hexdigest()

    def stream(self) -> Iterator[np.ndarray]:
        """The frames (H, W, 3) one after another, each a copy."""
        for at in range(len(self)):
            yield self.take(at)

    def pictures(self, index: int | slice | Sequence[int] | None = None) -> Tensor:
        """Frames as (B, 3, H, W) float32 in [-1, 1]; all of them without ``index``."""
        return to_pictures(self.take(slice(None) if index is None else index))


def write_frames(path: Path, shape: tuple[int, int, int], batches: Iterable[Tensor | np.ndarray]) -> None:
    """Fill a ``.npy`` of (T, H, W) RGB frames batch by batch; memory does not grow with T.

    Args:
        path: file to write (callers write into a folder that is renamed when whole).
        shape: (T, H, W).
        batches: (B, 3, H, W) pictures in [-1, 1] or (B, H, W, 3) uint8 frames.

    Raises:
        ValueError: the batches hold more or fewer than T frames, or frames of another size.
        InputError: the disk is full or can't be written to.
    """
    total, at = shape[0], 0
    with _Target(path) as target:
        target.write(_header((*shape, 3)))
        for batch in batches:
            frames = to_frames(batch) if isinstance(batch, Tensor) else batch
            if at + len(frames) > total:
                raise ValueError(f"{path.name}: more than {total} frames given")
            if frames.shape[1:] != (*shape[1:], 3) or frames.dtype != np.uint8:
                raise ValueError(
                    f"{path.name}: frames of {shape[1:]} expected, got {frames.dtype} {frames.shape}"
                )
            target.write(np.ascontiguousarray(frames).tobytes())
            at += len(frames)
    if at != total:
        raise ValueError(f"{path.name}: {total} frames expected, {at} given")


class _Target:
    """A file whose write errors the user can understand.

    Written, not memory-mapped: a full disk is then an error instead of a killed process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Target:
        try:
            self.file = self.path.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.file.close()
        except OSError as failure:
            raise self._failed(failure) from failure

    def write(self, data: bytes) -> None:
        try:
            self.file.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> InputError:
        return InputError(
            "frames",
            f"can't write {self.path}: {error.strerror}",
            "free some space, or keep the cache on another disk",
        )


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
