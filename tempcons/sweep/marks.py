"""What a job leaves in its folder: done.json (written last), or failed.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tempcons.check import InputError
from tempcons.store.artefact import write_json

DONE, FAILED, METRICS, PLAN = "done.json", "failed.json", "metrics.json", "sweep.json"
LOCK = ".lock"


def mark_done(folder: Path, overrides: Sequence[str], figures: dict[str, float]) -> None:
    """Say that everything in ``folder`` is complete."""
    (folder / FAILED).unlink(missing_ok=True)
    write_json(folder / DONE, {"overrides": list(overrides), "figures": figures})


def mark_failed(folder: Path, overrides: Sequence[str], error: str, trace: str | None) -> None:
    """Say why the job in ``folder`` has no result."""
    write_json(folder / FAILED, {"overrides": list(overrides), "error": error, "traceback": trace})


def finished(folder: Path) -> dict[str, float] | None:
    """Figures of a finished job, None for one that isn't.

    Raises:
        InputError: the job was finished, but its folder is broken.
    """
    if not (folder / DONE).exists():
        return None
    read_object(folder / METRICS)
    figures = read_object(folder / DONE).get("figures")
    if not isinstance(figures, dict):
        raise InputError("sweep", f"{folder / DONE} holds no figures", mend(folder))
    return figures


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a job's folder.

    Raises:
        InputError: it's missing or damaged.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            "sweep", f"broken run folder {path.parent}: no {path.name}", mend(path.parent)
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        what = f"broken run folder {path.parent}: {path.name} can't be read ({error})"
        raise InputError("sweep", what, mend(path.parent)) from error
    if not isinstance(value, dict):
        what = f"broken run folder {path.parent}: {path.name} holds a {type(value).__name__}"
        raise InputError("sweep", what, mend(path.parent))
    return value


def mend(folder: Path) -> str:
    """What to do about a broken folder."""
    return f"remove {folder} and start the sweep again: it runs only what is missing"
