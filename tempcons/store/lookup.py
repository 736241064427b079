"""What a store holds already, without making anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tempcons.store.artefact import MANIFEST, Store


class NotMadeError(Exception):
    """A stage that the cache doesn't hold; those that depend on it can't be looked up."""


class Lookup(Store):
    """A store that finds artefacts, and neither makes nor locks any."""

    def produce(
        self,
        stage: str,
        depends: dict[str, Any],
        make: Callable[[Path], dict[str, Any] | None],
        resumable: bool = False,
    ) -> Path:
        """The finished artefact.

        Raises:
            NotMadeError: there is none.
        """
        folder = self.folder_of(stage, depends)
        if not (folder / MANIFEST).exists():
            raise NotMadeError(stage)
        self.records.append({"stage": stage, "key": folder.name, "path": str(folder), "reused": True})
        return folder
