"""Downloads of official weights: resumed after a break, checked, then renamed into place."""

from __future__ import annotations

import logging
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tempcons.check import WeightsError
from tempcons.weights.load import inspect
from tempcons.weights.registry import OFFLINE_VARIABLE, Entry, check_hash, offline, verify

log = logging.getLogger(__name__)

PIECE = 1 << 20
TIMEOUT_S = 30
GDRIVE = "gdrive:"
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
MAX_MEMBER = 4 << 30
Opener = Callable[..., Any]


def fetch(item: Entry, opener: Opener = urllib.request.urlopen) -> Path:
    """Bring an entry's file to the weights folder, unless it is there; returns its path.

    The file is checked (hash, then layout and resolution) under a temporary name first.

    Raises:
        WeightsError: offline, no mirror, every mirror failed, or another file than expected.
    """
    if item.path.is_file():
        verify(item, record=True)
        return item.path
    if offline():
        hint = f"unset {OFFLINE_VARIABLE}, or copy the file from {item.page} to {item.path}"
        raise WeightsError("weights", f"{item.name} is missing and {OFFLINE_VARIABLE} is set", hint)
    if not item.mirrors:
        hint = f"download it from {item.page} and save it as {item.path}"
        raise WeightsError("weights", f"{item.name} can't be fetched by program", hint)
    part = item.path.with_name(item.path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _from_first_mirror(item, part, opener)
    if item.member is not None:
        part = extract_member(part, item.member)
    try:
        check_hash(item, part)
        check_contents(item, part)
    except WeightsError:
        part.replace(part.with_suffix(".wrong"))
        raise
    part.replace(item.path)
    verify(item, record=True)
    return item.path


def _from_first_mirror(item: Entry, part: Path, opener: Opener) -> None:
    problems = []
    for mirror in item.mirrors:
        try:
            if mirror.startswith(GDRIVE):
                _download_from_drive(mirror.removeprefix(GDRIVE), part)
            else:
                download(mirror, part, opener)
            return
        except (urllib.error.URLError, OSError, WeightsError) as error:
            problems.append(f"{mirror}: {error}")
            log.warning("%s: %s", item.name, problems[-1])
    hint = f"download it from {item.page} and save it as {item.path}"
    raise WeightsError("weights", f"{item.name}: no mirror answered ({'; '.join(problems)})", hint)


def download(url: str, part: Path, opener: Opener = urllib.request.urlopen) -> None:
    """Fetch ``url`` to ``part``, going on where an earlier try stopped.

    Raises:
        OSError: the connection failed (what came is kept).
        WeightsError: no https address, or fewer bytes than announced.
    """
    if not url.startswith("https://"):
        raise WeightsError("weights", f"{url} is no https address")
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "tempcons"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and have:
            return
        raise
    with response:
        resumed = response.status == PARTIAL_CONTENT
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with part.open("ab" if resumed else "wb") as file:
            _copy(response, file, have, total, part.name)
    size = part.stat().st_size
    if total is not None and size != total:
        raise WeightsError("weights", f"{url} broke off at {size} of {total} bytes", "fetch again to go on")


def _copy(response: Any, file: Any, have: int, total: int | None, name: str) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(name.removesuffix(".part"), total=total, completed=have)
        while piece := response.read(PIECE):
            file.write(piece)
            progress.advance(task, len(piece))


def _download_from_drive(file_id: str, part: Path) -> None:
    try:
        import gdown
    except ImportError as error:
        raise WeightsError("weights", "Google Drive needs gdown", "pip install 'tempcons[drive]'") from error
    if gdown.download(id=file_id, output=str(part), resume=True) is None:
        raise WeightsError("weights", f"Google Drive gave no file for {file_id}")


def extract_member(archive: Path, member: str) -> Path:
    """One file out of a zip archive, beside it under the archive's name; the archive is deleted.

    Nothing is written under a name from the archive, so its paths can't lead anywhere.

    Raises:
        WeightsError: no archive, no such member, or a member of absurd size.
    """
    target = archive.with_name(archive.name + ".member")
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            if info.file_size > MAX_MEMBER:
                raise WeightsError("weights", f"{member} claims {info.file_size} bytes")
            with opened.open(info) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, PIECE)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(
            "weights", f"{archive.name} has no {member} ({error})", "fetch it again"
        ) from error
    archive.unlink()
    return target


def check_contents(item: Entry, path: Path | None = None) -> None:
    """Whether an entry's file (or ``path``, before it is renamed) holds the network it should.

    Raises:
        WeightsError: another network, or another resolution.
    """
    if item.kind is None:
        return
    found = inspect(path or item.path)
    wrong_size = None not in (item.resolution, found.resolution) and item.resolution != found.resolution
    if found.kind != item.kind or wrong_size:
        got = f"{found.kind} for {found.resolution} px"
        raise WeightsError("weights", f"{item.name} holds {got}, not {item.kind} for {item.resolution} px")
