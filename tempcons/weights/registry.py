"""Official weights by name: what they are, where they come from, where they lie on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tempcons.check import WeightsError, near_names
from tempcons.store.artefact import hash_file, write_json

CACHE_VARIABLE, OFFLINE_VARIABLE = "TEMPCONS_CACHE", "TEMPCONS_OFFLINE"
MANIFEST = Path(__file__).with_name("manifest.yaml")
RECORD = "trusted.json"


@dataclass(frozen=True)
class Entry:
    """One file of official weights.

    Attributes:
        name: how configs call it.
        what: what it is, in words.
        file: path in the weights folder, also for a copy downloaded by hand.
        licence, page: the publisher's.
        kind: layout it must turn out to have (:mod:`tempcons.weights.layouts`), None for arrays.
        resolution: pixels of the generator it is for.
        sha256: published hash; sha256_prefix: its first digits, where only those are published.
        size: bytes, where published.
        mirrors: https addresses and "gdrive:ID", tried in order; none means by hand.
        member: the file's path inside the zip archive that the mirrors hold.
    """

    name: str
    what: str
    file: str
    licence: str
    page: str
    kind: str | None = None
    resolution: int | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    mirrors: tuple[str, ...] = ()
    member: str | None = None

    @property
    def path(self) -> Path:
        return weights_folder() / self.file


def weights_folder() -> Path:
    """``$TEMPCONS_CACHE/weights``, or ``~/.cache/tempcons/weights``."""
    root = os.environ.get(CACHE_VARIABLE) or "~/.cache/tempcons"
    return Path(root).expanduser() / "weights"


def offline() -> bool:
    """Whether ``TEMPCONS_OFFLINE`` forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0")


@cache
def entries() -> dict[str, Entry]:
    """All entries of the manifest by name."""
    listed = yaml.safe_load(MANIFEST.read_text())
    made = {}
    for name, values in listed.items():
        prefix = values.get("sha256_prefix")
        known = values | {"sha256_prefix": None if prefix is None else str(prefix)}
        made[name] = Entry(name=name, **known | {"mirrors": tuple(values.get("mirrors", ()))})
    return made


def entry(name: str) -> Entry:
    """One entry.

    Raises:
        WeightsError: unknown name.
    """
    if name not in entries():
        raise WeightsError("weights", f"no weights called {name!r}", near_names(name, entries()))
    return entries()[name]


def require(names: Iterable[str]) -> dict[str, Path]:
    """Paths of all weights that a run needs, checked at once before it starts.

    Raises:
        WeightsError: lists every missing file with its page, its place and the command that fetches it.
    """
    wanted = [entry(name) for name in dict.fromkeys(names)]
    missing = [e for e in wanted if not e.path.is_file()]
    if missing:
        lines = [f"\n  {e.name}: {e.what}\n    from {e.page}\n    to   {e.path}" for e in missing]
        fetch = [e.name for e in missing if e.mirrors]
        hint = f"python -m tempcons.weights fetch {' '.join(fetch)}" if fetch else ""
        by_hand = [e.name for e in missing if not e.mirrors]
        hand = f"download by hand: {', '.join(by_hand)}" if by_hand else ""
        raise WeightsError(
            "weights",
            f"{len(missing)} files are missing:{''.join(lines)}\n",
            "; ".join(filter(None, (hint, hand))),
        )
    return {e.name: e.path for e in wanted}


def recorded() -> dict[str, str]:
    """SHA-256 by entry name of files trusted on first use on this machine."""
    path = weights_folder() / RECORD
    return json.loads(path.read_text()) if path.is_file() else {}


def verify(item: Entry, record: bool = False) -> str:
    """SHA-256 of an entry's file, compared with the published and the recorded one.

    Args:
        record: trust the file if no hash of it is known yet, and remember its hash.

    Raises:
        WeightsError: missing file, other size, or another hash.
    """
    if not item.path.is_file():
        raise WeightsError("weights", f"{item.name} is missing: {item.path}", f"get it from {item.page}")
    found = check_hash(item, item.path)
    if record and item.name not in recorded():
        weights_folder().mkdir(parents=True, exist_ok=True)
        write_json(weights_folder() / RECORD, recorded() | {item.name: found})
    return found


def record(name: str) -> dict[str, str]:
    """What run manifests tell of a file in use: name, kind, sha256, licence and page.

    Raises:
        WeightsError: missing, or not the published file.
    """
    item = entry(name)
    values = {"name": name, "kind": item.kind or "array", "sha256": verify(item)}
    return values | {"licence": item.licence, "card": item.page}


def check_hash(item: Entry, path: Path) -> str:
    """SHA-256 of ``path``, compared with what is known of the entry.

    Raises:
        WeightsError: other size or hash.
    """
    size = path.stat().st_size
    if item.size is not None and size != item.size:
        raise WeightsError("weights", f"{path} has {size} bytes, {item.size} published", "fetch it again")
    found = hash_file(path)
    known = item.sha256 or item.sha256_prefix or recorded().get(item.name)
    if known is not None and not found.startswith(known):
        raise WeightsError("weights", f"{path} has SHA-256 {found}, expected {known}", "fetch it again")
    return found
