"""What a result is measured beside is made in a second process, which ends with the first."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import hydra_config

from tempcons import pipeline, side_process
from tempcons.pipeline import BESIDE_LOG, made_beside, run
from tempcons.schema import parse

TESTS = Path(__file__).parent
LONGEST_S = 60.0
PARENT = """
import sys, time, torch
from pathlib import Path
from tempcons import side_process
from test_side_process import tell_and_sleep

if __name__ == "__main__":
    torch.set_num_threads(2)
    with side_process.beside(tell_and_sleep, Path(sys.argv[1]) / "told.log", Path(sys.argv[1])):
        time.sleep(600)
"""


@pytest.fixture
def threads() -> Iterator[None]:
    """Four threads, whatever the tests have."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def tell(folder: Path) -> None:
    """Leave the process's number and threads."""
    print("told on the way")
    (folder / "half").write_text(f"{os.getpid()} {torch.get_num_threads()}")
    (folder / "half").rename(folder / "found")


def tell_and_sleep(folder: Path) -> None:
    tell(folder)
    time.sleep(10 * LONGEST_S)


def fail(folder: Path) -> None:
    tell(folder)
    raise RuntimeError("not today")


def wait_for(path: Path) -> str:
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < LONGEST_S, f"{path} never came"
        time.sleep(0.05)
    return path.read_text()


def gone(number: int) -> bool:
    """Whether a process has ended; one that nobody waited for counts as ended."""
    try:
        state = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rsplit(")", 1)[1].split()[0] == "Z"


def end_of(number: int) -> None:
    began = time.monotonic()
    while not gone(number):
        assert time.monotonic() - began < LONGEST_S, f"process {number} goes on"
        time.sleep(0.05)


def test_each_has_half_of_the_threads_and_the_second_ends_with_the_block(tmp_path, threads):
    with side_process.beside(tell_and_sleep, tmp_path / "told.log", tmp_path):
        number, theirs = map(int, wait_for(tmp_path / "found").split())
        assert torch.get_num_threads() == theirs == 2
        assert number != os.getpid() and not gone(number)
    assert gone(number) and torch.get_num_threads() == 4
    assert "told on the way" in (tmp_path / "told.log").read_text()


def test_the_block_keeps_its_half_when_the_second_is_ready_sooner(tmp_path, threads):
    """Rounding depends on the number of threads, and must not depend on when the other was ready."""
    with side_process.beside(tell, tmp_path / "told.log", tmp_path):
        wait_for(tmp_path / "found")
        for process in multiprocessing.active_children():
            process.join(LONGEST_S)
        assert not multiprocessing.active_children() and torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


def test_with_one_thread_none_is_started(tmp_path, threads):
    torch.set_num_threads(1)
    with side_process.beside(tell, tmp_path / "told.log", tmp_path):
        assert torch.get_num_threads() == 1
    assert not list(tmp_path.iterdir())


def test_a_failure_is_told_and_ends_nothing(tmp_path, threads, caplog):
    caplog.set_level(logging.WARNING, "tempcons")
    with side_process.beside(fail, tmp_path / "told.log", tmp_path):
        wait_for(tmp_path / "found")
        while multiprocessing.active_children():
            time.sleep(0.05)
    assert "not today" in (tmp_path / "told.log").read_text()
    assert f"second process failed ({tmp_path / 'told.log'}" in caplog.text


def test_it_ends_when_the_first_is_killed(tmp_path):
    code = tmp_path / "parent.py"
    code.write_text(PARENT)
    places = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    parent = subprocess.Popen(
        [sys.executable, str(code), str(tmp_path)], env={**os.environ, "PYTHONPATH": places}
    )
    number = int(wait_for(tmp_path / "found").split()[0])
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end_of(number)


def test_a_run_takes_the_comparison_from_the_second_process(tmp_path, threads):
    overrides = [
        "clip.num_frames=6",
        "inversion.pivotal.steps=2",
        "phase=generator",
        "phase2.epochs=1",
        "comparison.in.phase2.epochs=1",
        "trainer.accelerator=cpu",
        "metrics.every_epochs=0",
        f"output.root={tmp_path / 'outputs'}",
        f"output.cache={tmp_path / 'cache'}",
    ]
    folder = tmp_path / "outputs" / "run"
    run(parse(hydra_config(overrides)), folder)
    assert "phase2: made in" in (folder / BESIDE_LOG).read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    phases = [record for record in manifest["stages"] if record["stage"] == "phase2"]
    assert len(phases) == 2 and len({record["key"] for record in phases}) == 2
    assert not any(record["reused"] for record in phases)
    assert "recipe=paper" in json.loads((folder / "metrics.json").read_text())
    again = folder.with_name("again")
    run(parse(hydra_config(overrides)), again)
    assert "recipe=paper" in json.loads((again / "metrics.json").read_text())
    assert not (again / BESIDE_LOG).exists(), "all was in the cache, yet a second process was started"


@pytest.mark.parametrize("setting", ["trainer.side_process=false", "trainer.workers=1"])
def test_none_is_started_where_it_is_not_wanted_or_could_not_work(tmp_path, setting, monkeypatch):
    prepared: Any = None
    there = False
    monkeypatch.setattr(pipeline, "others_are_there", lambda *_: there)

    def started(setting: str, device: str = "cpu") -> bool:
        config = parse(hydra_config([setting, "trainer.accelerator=cpu"]))
        family: Any = SimpleNamespace(device=torch.device(device))
        return not isinstance(made_beside(config, tmp_path, prepared, family), nullcontext)

    assert started("compare=true")
    assert not started(setting)
    assert not started("compare=true", "cuda")
    there = True
    assert not started("compare=true")
