"""Faces for the training scripts: a folder of aligned square pictures, or packed files of them.

A packed file is a safetensors file of the pictures' own bytes, which keeps them as they are and can be sent
in parts of a given size. The optional CSV (columns ``file``, ``identity``, ``colour``, ``emotion``) keeps
persons on one side of the split; without it every picture is a person of its own.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from tempcons.check import InputError

HELD_OUT_SHARE = 0.04
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}
PART_SUFFIX = ".faces"
# Columns of the CSV with landmarks, in pixels of pictures of so many px.
POINTS, LABELLED_SIZE = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right"), 128
LABELS_FILE = "labels.csv"
# What the header of a part has for each picture, at most.
HEADER_BYTES = 120
# Below the chroma at which the labels call a picture coloured; for folders without labels.
CHROMA_THRESHOLD = 4.0


@dataclass(frozen=True)
class Faces:
    """Pictures in memory, with what is known of them.

    Attributes:
        pictures: (N, 3, S, S) uint8.
        held: (N,) whether the person is kept for tests.
        colour: (N,) whether the picture has colours.
        emotion: N labels, "" where none is known.
        identity: (N,) person.
        points: (N, 5, 2) landmarks as shares of the side, not numbers where they are not known.
    """

    pictures: Tensor
    held: np.ndarray
    colour: np.ndarray
    emotion: list[str]
    identity: np.ndarray
    points: Tensor | None = None

    @property
    def size(self) -> int:
        """Side in px."""
        return self.pictures.shape[-1]

    def chosen(self, flags: np.ndarray) -> Tensor:
        """(n, 3, S, S) uint8 pictures where ``flags`` is true."""
        return self.pictures[torch.from_numpy(np.flatnonzero(flags))]

    @property
    def training(self) -> Tensor:
        """Pictures of persons to train on."""
        return self.chosen(~self.held)

    @property
    def testing(self) -> Tensor:
        """Pictures of persons kept for tests."""
        return self.chosen(self.held)


def to_range(pictures: Tensor) -> Tensor:
    """uint8 pictures to float ones in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def read(place: Path, labels: Path | None = None, size: int = 128, limit: int | None = None) -> Faces:
    """Read a folder of pictures or of packed parts.

    Args:
        labels: the CSV; packed folders bring their own.
        size: pictures of another side are resized by area.
        limit: only the first so many, for dry runs.

    Raises:
        InputError: no pictures there, or one that can't be decoded.
    """
    packed = place / LABELS_FILE
    rows = read_rows(packed if labels is None and packed.exists() else labels)
    named = [(name, data) for name, data in sorted(stored(place)) if not rows or name in rows][:limit]
    if not named:
        raise InputError("faces", f"no labelled pictures in {place}", "a folder of .jpg or .png files")
    pictures = np.stack([decode(name, data, size) for name, data in named])
    known = [rows.get(name, {}) for name, _ in named]
    identity = np.array([int(row.get("identity") or at) for at, row in enumerate(known)])
    return Faces(
        pictures=torch.from_numpy(pictures),
        held=held_out(identity),
        colour=np.array(
            [
                row["colour"] == "colour" if "colour" in row else has_colour(p)
                for row, p in zip(known, pictures, strict=True)
            ]
        ),
        emotion=[row.get("emotion", "") for row in known],
        identity=identity,
        points=torch.tensor([points_of(row) for row in known]),
    )


def points_of(row: dict[str, str]) -> list[list[float]]:
    """Landmarks of a row of the CSV as shares of the side; pixel centres are at whole numbers there."""
    return [
        [(float(row.get(f"{point}_{axis}") or "nan") + 0.5) / LABELLED_SIZE for axis in "xy"]
        for point in POINTS
    ]


def read_rows(labels: Path | None) -> dict[str, dict[str, str]]:
    """Rows of the CSV by file name; none without one."""
    if labels is None:
        return {}
    with labels.open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def held_out(identity: np.ndarray, share: float = HELD_OUT_SHARE) -> np.ndarray:
    """(N,) flags of the persons kept for tests: the same ones for the same set of persons.

    Those of a smaller share are among those of a larger one.
    """
    persons = np.unique(identity)
    chosen = np.random.RandomState(0).permutation(persons)[: int(share * len(persons))]
    return np.isin(identity, chosen)


def has_colour(picture: np.ndarray) -> bool:
    """Whether the mean difference between a picture's channels says that it has colours."""
    spread = picture.max(0).astype(np.int16) - picture.min(0)
    return bool(spread.mean() >= CHROMA_THRESHOLD)


def stored(place: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and file bytes of the pictures of a folder, packed or not."""
    parts = sorted(place.glob(f"*{PART_SUFFIX}"))
    for part in parts:
        yield from load_file(part).items()
    if not parts:
        for path in place.iterdir():
            if path.suffix.lower() in PICTURE_SUFFIXES:
                yield path.name, np.frombuffer(path.read_bytes(), np.uint8)


def decode(name: str, data: np.ndarray, size: int) -> np.ndarray:
    """(3, size, size) RGB uint8.

    Raises:
        InputError: the bytes are no picture.
    """
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError("faces", f"{name} is no readable picture", "remove it, or write it anew")
    if bgr.shape[:2] != (size, size):
        bgr = cv2.resize(bgr, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def pack(
    place: Path,
    labels: Path | None,
    out: Path,
    part_bytes: int,
    first_bytes: int | None = None,
    limit: int | None = None,
) -> list[Path]:
    """Write the pictures of a folder into parts, and the CSV beside them; returns what was written.

    Args:
        part_bytes: a part has at most so many, the first one ``first_bytes`` where that is given.
        limit: only the first so many pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, np.ndarray]] = [{}]
    room = first_bytes or part_bytes
    for name, data in sorted(stored(place))[:limit]:
        size = len(data) + HEADER_BYTES
        if size > room and parts[-1]:
            parts.append({})
            room = part_bytes
        parts[-1][name] = data
        room -= size
    written = [out / f"part{at}{PART_SUFFIX}" for at in range(len(parts))]
    for path, part in zip(written, parts, strict=True):
        save_file(part, path)
    if labels is not None:
        (out / LABELS_FILE).write_bytes(labels.read_bytes())
        written.append(out / LABELS_FILE)
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which faces."""
    parser.add_argument("--faces", type=Path, required=True, help="folder of aligned pictures, or packed")
    parser.add_argument("--labels", type=Path, help="CSV: file, identity, colour, emotion")
    parser.add_argument("--limit", type=int, help="only the first so many pictures (dry runs)")


def from_arguments(args: argparse.Namespace, size: int = 128) -> Faces:
    """What :func:`add_arguments` asked for."""
    return read(args.faces, args.labels, size, args.limit)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack a folder of pictures into files that can be sent.")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part-mib", type=float, default=24.0)
    args = parser.parse_args()
    written = pack(args.faces, args.labels, args.out, int(args.part_mib * 2**20), limit=args.limit)
    for path in written:
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"all: {sum(path.stat().st_size for path in written) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
