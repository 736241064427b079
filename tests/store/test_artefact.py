"""Artefacts are made once, appear whole or not at all, and are made anew when what they depend on changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tempcons.store.artefact import Store, hash_file, make_key, peak_memory_mb, write_json

DEPENDS = {"version": 1, "settings": {"lr": 0.1, "size": [32, 32]}, "seed": 0}


class Maker:
    """Writes a file and counts how often it was asked to."""

    def __init__(self, fails_after: str | None = None) -> None:
        self.calls, self.fails_after = 0, fails_after
        self.found: list[str] = []

    def __call__(self, folder: Path) -> dict:
        self.calls += 1
        self.found = sorted(p.name for p in folder.iterdir())
        (folder / "half.txt").write_text("half")
        if self.fails_after == "half":
            raise RuntimeError("stopped")
        (folder / "whole.txt").write_text("whole")
        return {"answer": 42}


def test_second_time_is_reused(tmp_path):
    make, store = Maker(), Store(tmp_path)
    first = store.produce("stage", DEPENDS, make)
    second = store.produce("stage", DEPENDS, make)
    assert first == second and make.calls == 1
    assert (first / "whole.txt").read_text() == "whole"
    later = Store(tmp_path, opened=time.time() + 1)  # another process, another day
    assert later.produce("stage", DEPENDS, make) == first
    assert make.calls == 1
    assert [r["reused"] for r in store.records + later.records] == [False, True]


def test_manifest_says_what_it_was_made_from(tmp_path):
    store = Store(tmp_path)
    folder = store.produce("stage", DEPENDS, Maker())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["depends"] == DEPENDS
    assert manifest["info"] == {"answer": 42} == Store.info(folder)
    assert manifest["seconds"] >= 0 and manifest["peak_memory_mb"] > 0
    assert folder == tmp_path / "stage" / make_key("stage", DEPENDS)


def test_peak_memory_is_the_processs_own():
    """A large parent's memory isn't its child's."""
    large = bytearray(300_000_000)
    code = "from tempcons.store.artefact import peak_memory_mb; print(peak_memory_mb())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(large) / 1e6 < peak_memory_mb()
    assert 5 < float(child.stdout) < 250


@pytest.mark.parametrize("resumable", [False, True])
def test_failure_leaves_no_finished_folder(tmp_path, resumable):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="stopped"):
        store.produce("stage", DEPENDS, Maker("half"), resumable)
    folder = tmp_path / "stage" / make_key("stage", DEPENDS)
    assert not folder.exists()
    assert store.records == []
    again = Maker()
    store.produce("stage", DEPENDS, again, resumable)
    assert again.found == (["half.txt"] if resumable else [])
    assert (folder / "whole.txt").exists()
    assert not folder.with_name(folder.name + ".partial").exists()


def test_killed_process_leaves_no_finished_folder_and_no_lock(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from tempcons.store.artefact import Store\n"
        "def make(folder):\n"
        "    (folder / 'half.txt').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"Store(Path({str(tmp_path)!r})).produce('stage', {DEPENDS!r}, make)\n"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -9
    assert not (tmp_path / "stage" / make_key("stage", DEPENDS)).exists()
    folder = Store(tmp_path).produce("stage", DEPENDS, Maker())
    assert (folder / "whole.txt").exists()


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"settings": {"lr": 0.2, "size": [32, 32]}}, {"seed": 1}, {"extra": None}]
)
def test_key_changes_with_everything_it_depends_on(change):
    assert make_key("stage", {**DEPENDS, **change}) != make_key("stage", DEPENDS)


def test_key_depends_on_the_stage_and_not_on_the_order_of_settings():
    assert make_key("other", DEPENDS) != make_key("stage", DEPENDS)
    assert make_key("stage", dict(reversed(DEPENDS.items()))) == make_key("stage", DEPENDS)
    assert make_key("stage", DEPENDS) == make_key("stage", json.loads(json.dumps(DEPENDS)))


def test_changed_inputs_make_a_second_artefact_beside_the_first(tmp_path):
    make, store = Maker(), Store(tmp_path)
    first = store.produce("stage", DEPENDS, make)
    second = store.produce("stage", {**DEPENDS, "seed": 1}, make)
    assert first != second and first.exists() and make.calls == 2


def test_hash_of_a_file_is_its_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert hash_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": Path("x")})
    assert json.loads(path.read_text()) == {"a": "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_another_process_made_meanwhile_is_not_called_reused(tmp_path):
    ours, theirs = Store(tmp_path), Store(tmp_path)
    folder = theirs.produce("stage", DEPENDS, Maker())
    os.utime(folder / "manifest.json", (ours.opened + 1, ours.opened + 1))
    make = Maker()
    assert ours.produce("stage", DEPENDS, make) == folder and not make.calls
    [record] = ours.records
    assert not record["reused"] and record["other_process"]
    assert record["seconds"] == theirs.records[0]["seconds"]
    ours.produce("stage", DEPENDS, make)
    assert ours.records == [record]
