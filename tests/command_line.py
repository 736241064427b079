"""``train.py`` as a user starts it, in this process: its argument checks, Hydra, the job, the exit code."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "train.py"


@dataclass(frozen=True)
class Ended:
    """How the command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines on stderr that name an error."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@contextmanager
def own_logging() -> Iterator[None]:
    """Hydra's log handlers must not outlive the command: they write to streams that close."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


def train(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run ``python train.py ARGUMENTS``."""
    capsys.readouterr()
    code = 0
    with pytest.MonkeyPatch.context() as patch, own_logging():
        patch.setattr(sys, "argv", [str(PROGRAM), *arguments])
        patch.chdir(ROOT)
        try:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Ended(code, *capsys.readouterr())
