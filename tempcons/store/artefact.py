"""Results of stages on disk: keyed by what they depend on, written whole or not at all.

An artefact is a folder ``ROOT/STAGE/KEY``. It is made in ``KEY.partial`` under a lock and renamed
when its ``manifest.json`` is written, so a folder with the final name is always complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
RECORDED = ("stage", "key", "path", "reused", "seconds", "peak_memory_mb")


def make_key(stage: str, depends: dict[str, Any]) -> str:
    """16 hex digits that change when anything in ``depends`` (plain JSON types) changes."""
    text = json.dumps([stage, depends], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float:
    """Largest resident memory of this process so far, in MB.

    Linux tells it in ``status``; what getrusage tells there begins with the parent's memory where that
    started this process.
    """
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")
    temporary.replace(path)


@dataclass
class Store:
    """A cache folder of artefacts.

    Attributes:
        root: the cache folder, shared by all runs and jobs.
        records: one entry per artefact asked for, as it was when it was first asked for: stage, key, path,
            reused, seconds, peak_memory_mb.
        opened: when; what other processes make later wasn't there before.
    """

    root: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    opened: float = field(default_factory=time.time)

    def produce(
        self,
        stage: str,
        depends: dict[str, Any],
        make: Callable[[Path], dict[str, Any] | None],
        resumable: bool = False,
    ) -> Path:
        """The artefact of ``stage`` for ``depends``: reused if complete, else made.

        Args:
            stage: name of the stage, also the folder.
            depends: everything the result depends on (plain JSON types): settings, keys of the
                artefacts read, hashes of input files and weights, seed.
            make: fills the folder it is given; what it returns goes into the manifest as ``info``.
            resumable: keep what an interrupted ``make`` left, so that it can go on.

        Returns:
            The finished folder.
        """
        folder = self.folder_of(stage, depends)
        key = folder.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(key + ".lock")):
            if (folder / MANIFEST).exists():
                if not any(record["path"] == str(folder) for record in self.records):
                    self.records.append(self.found(stage, folder))
                return folder
            partial = folder.with_name(key + ".partial")
            if partial.exists() and not resumable:
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            began = time.perf_counter()
            info = make(partial) or {}
            record = {
                "stage": stage,
                "key": key,
                "path": str(folder),
                "reused": False,
                "seconds": round(time.perf_counter() - began, 2),
                "peak_memory_mb": round(peak_memory_mb()),
            }
            write_json(partial / MANIFEST, {**record, "depends": depends, "info": info})
            partial.rename(folder)
            self.records.append(record)
            log.info("%s: made in %.1f s", stage, record["seconds"])
            return folder

    def folder_of(self, stage: str, depends: dict[str, Any]) -> Path:
        """Where the artefact of ``stage`` for ``depends`` is, or would be."""
        return self.root / stage / make_key(stage, depends)

    def found(self, stage: str, folder: Path) -> dict[str, Any]:
        """The record of an artefact that is there: reused, or made by another process meanwhile."""
        if (folder / MANIFEST).stat().st_mtime < self.opened:
            log.info("%s: reused %s", stage, folder)
            return {"stage": stage, "key": folder.name, "path": str(folder), "reused": True, "seconds": 0.0}
        manifest = json.loads((folder / MANIFEST).read_text())
        log.info("%s: made in %.1f s by another process", stage, manifest["seconds"])
        return {name: manifest[name] for name in RECORDED} | {"other_process": True}

    @staticmethod
    def info(folder: Path) -> dict[str, Any]:
        """What ``make`` returned when the artefact was made."""
        return json.loads((folder / MANIFEST).read_text())["info"]
