"""Containers of pickled weights: ``torch.save`` zip archives, its older format, and plain pickles.

Everything is parsed by :class:`PickleMachine`; sizes are checked against the bytes that are
really there before anything is allocated.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from tempcons.check import WeightsError
from tempcons.weights.inert import STORAGES, Name, StorageRef, refuse, short, whole
from tempcons.weights.pickles import PickleMachine

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
ZIP_ERRORS = (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError, OSError, ValueError)
Container = Literal["zip", "legacy", "pickle"]


@dataclass(frozen=True)
class Archive:
    """A parsed file: plain values and stand-ins, and the names its pickle mentions."""

    root: Any
    names: frozenset[str]
    container: Container


def read_archive(path: Path) -> Archive:
    """Parse a ``.pt``, ``.pth``, ``.ckpt`` or ``.pkl`` file without running anything in it.

    Raises:
        WeightsError: truncated, damaged or refused contents.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        if head.startswith(b"PK"):
            return _read_zip(path)
        if not head.startswith(b"\x80"):
            raise WeightsError("weights", f"{path.name} is no weights file (it starts with {head!r})")
        if _is_legacy(stream):
            stream.seek(0)
            return _read_legacy(stream, path.stat().st_size)
        stream.seek(0)
        machine = PickleMachine(loads_storage=_load_nested)
        return Archive(machine.run(stream), frozenset(machine.names), "pickle")


# Zip archives


def _read_zip(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = _check_members(archive, path.stat().st_size)
            order = f"{prefix}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise refuse("numbers in big-endian order")
            sizes = {m.filename: m.file_size for m in archive.infolist()}
            data = archive.read(f"{prefix}data.pkl")
    except ZIP_ERRORS as error:
        raise refuse(f"{path.name} is no whole archive ({error})") from error

    def storage(pid: Any) -> StorageRef:
        found = _storage(pid)
        member = f"{prefix}data/{found.key}"
        if sizes.get(member) != found.nbytes:
            raise refuse(
                f"storage {short(found.key)} of {found.nbytes} bytes, but {sizes.get(member)} are there"
            )
        found.source = partial(_read_member, path, member)
        return found

    machine = PickleMachine(persistent=_once(storage))
    return Archive(machine.run(io.BytesIO(data)), frozenset(machine.names), "zip")


def _check_members(archive: zipfile.ZipFile, file_size: int) -> str:
    """The one folder that all members lie in; members that could mislead a reader are refused."""
    members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
            raise refuse(f"archive member with the path {member.filename!r:.60}")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise refuse(f"compressed archive member {member.filename!r:.60}")
        if member.flag_bits & 1:
            raise refuse(f"encrypted archive member {member.filename!r:.60}")
    if len({m.filename for m in members}) != len(members) or sum(m.file_size for m in members) > file_size:
        raise refuse("an archive whose members repeat or overlap")
    pickles = [m.filename for m in members if m.filename.endswith("/data.pkl") and m.filename.count("/") == 1]
    if len(pickles) != 1:
        raise WeightsError("weights", "a zip archive that is no torch.save file (no data.pkl)")
    return pickles[0].removesuffix("data.pkl")


def _read_member(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except ZIP_ERRORS as error:
        raise refuse(f"archive member {member} is damaged ({error})") from error


# The format before PyTorch 1.6: five pickles, then the storages one after the other


def _is_legacy(stream: BinaryIO) -> bool:
    head = stream.read(14)
    return head[2:3] == b"\x8a" and int.from_bytes(head[4:14], "little") == LEGACY_MAGIC


def _read_legacy(stream: BinaryIO, size: int) -> Archive:
    if PickleMachine().run(stream) != LEGACY_MAGIC or PickleMachine().run(stream) != LEGACY_PROTOCOL:
        raise refuse("an old torch.save file of an unknown version")
    system = PickleMachine().run(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise refuse("numbers in big-endian order")
    storages: dict[str, StorageRef] = {}

    def storage(pid: Any) -> StorageRef:
        found = _storage(pid)
        if found.nbytes > size:
            raise refuse(f"storage of {found.nbytes} bytes in a file of {size}")
        known = storages.setdefault(found.key, found)
        if (known.dtype, known.numel) != (found.dtype, found.numel):
            raise refuse(f"storage {short(found.key)} described twice, differently")
        return known

    machine = PickleMachine(persistent=storage)
    root = machine.run(stream)
    keys = PickleMachine().run(stream)
    listed = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not listed or set(keys) != set(storages):
        raise refuse("an old torch.save file whose storages don't match its tensors")
    for key in keys:
        _read_legacy_storage(stream, storages[key])
    return Archive(root, frozenset(machine.names), "legacy")


def _read_legacy_storage(stream: BinaryIO, storage: StorageRef) -> None:
    header = stream.read(8)
    if len(header) != 8 or struct.unpack("<q", header)[0] != storage.numel:
        raise refuse(f"storage {short(storage.key)} is cut off or of another size")
    data = stream.read(storage.nbytes)
    if len(data) != storage.nbytes:
        raise refuse(f"storage {short(storage.key)} is cut off")
    storage.source = lambda: data


def _load_nested(blob: Any) -> StorageRef:
    """A storage that a plain pickle carries as an old ``torch.save`` file inside."""
    if not isinstance(blob, bytes) or not _is_legacy(io.BytesIO(blob)):
        raise refuse("a nested storage of an unknown format")
    root = _read_legacy(io.BytesIO(blob), len(blob)).root
    if not isinstance(root, StorageRef):
        raise refuse("a nested storage that holds something else")
    return root


def _storage(pid: Any) -> StorageRef:
    """("storage", type, key, device, count[, view]): the device is ignored, everything goes to the CPU."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise refuse(f"persistent id {short(pid)}")
    kind, key = pid[1], pid[2]
    if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str):
        raise refuse(f"storage of type {short(kind)}")
    if len(pid) == 6 and pid[5] is not None:
        raise refuse("a storage that is a view of another one")
    return StorageRef(STORAGES[kind.name], key, whole(pid[4], "storage size"))


def _once(make: Callable[[Any], StorageRef]) -> Callable[[Any], StorageRef]:
    """Storages shared between tensors stay shared."""
    known: dict[Any, StorageRef] = {}

    def lookup(pid: Any) -> StorageRef:
        found = make(pid)
        return known.setdefault((found.key, found.dtype), found)

    return lookup
