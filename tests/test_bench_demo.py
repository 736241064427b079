"""The demo's benchmark: clones of commits, figures of turns; no times."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from experiments import bench_demo
from tempcons.check import InputError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
AUTHOR = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch) -> Path:
    """Two commits in the place of the project's own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr(bench_demo, "ROOT", folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for text in ("first", "second"):
        (folder / "train.py").write_text(text)
        bench_demo.git("add", "train.py")
        bench_demo.git(*AUTHOR, "commit", "--quiet", "-m", text)
    return folder


def test_a_clone_is_the_repository_as_it_was(tmp_path):
    code = bench_demo.clone(bench_demo.git("rev-parse", "HEAD~1"), tmp_path / "code")
    assert (code / "train.py").read_text() == "first"


def test_an_unknown_commit_is_refused(tmp_path):
    with pytest.raises(InputError, match="no-such-commit"):
        bench_demo.rows("no-such-commit", 1, [], tmp_path)


def test_the_figure_is_the_ratio_of_medians():
    times = {"before": (9.0, 12.0, 30.0), "now": (6.0, 4.0, 1.0)}
    rows = [{"way": way, "seconds": value} for way, values in times.items() for value in values]
    assert bench_demo.ratio(rows) == 3.0
