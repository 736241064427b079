"""Reads back what an offline W&B run wrote: no account, no network, no wandb process.

The file ``run-ID.wandb`` has a 7-byte header (":W&B", magic, version), then blocks of 32 KiB with
records in pieces, each behind a 7-byte header (CRC-32, length, type), as LevelDB's logs have.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

BLOCK, HEADER = 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def log_file(folder: Path) -> Path:
    """The only offline run's log below a run folder."""
    found = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    if len(found) != 1:
        raise FileNotFoundError(f"one offline run expected in {folder / 'wandb'}, found {len(found)}")
    return found[0]


def records(path: Path) -> Iterator[Record]:
    """All records of a log; a damaged piece is an error."""
    data = path.read_bytes()
    if data[:4] != b":W&B":
        raise ValueError(f"{path} is no W&B log")
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        crc, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if kind == 0 and length == 0:
            at += left
            continue
        piece = data[at + HEADER : at + HEADER + length]
        if zlib.crc32(bytes([kind]) + piece) != crc:
            raise ValueError(f"{path}: damaged at byte {at}")
        at += HEADER + length
        parts = piece if kind in (FULL, FIRST) else parts + piece
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def name_of(item: Any) -> str:
    """Key of a history, summary or config item; nested ones joined by dots."""
    return item.key or ".".join(item.nested_key)


def history(path: Path) -> list[dict[str, Any]]:
    """Logged rows, in order."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            rows.append({name_of(i): json.loads(i.value_json) for i in record.history.item})
    return rows


def values(path: Path, name: str) -> list[Any]:
    """All logged values of a metric."""
    return [row[name] for row in history(path) if name in row]


def config(path: Path) -> dict[str, Any]:
    """Settings the run was started with."""
    found: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        update = (
            record.run.config.update if kind == "run" else record.config.update if kind == "config" else []
        )
        found |= {name_of(i): json.loads(i.value_json) for i in update}
    return found


def summary(path: Path) -> dict[str, Any]:
    """Final figures."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            found |= {name_of(i): json.loads(i.value_json) for i in record.summary.update}
    return found


def of_kind(path: Path, kind: str) -> list[Any]:
    """Records of a kind, such as "run", "metric" or "exit"."""
    return [getattr(record, kind) for record in records(path) if record.WhichOneof("record_type") == kind]
