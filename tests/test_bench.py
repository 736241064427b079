"""The benchmark's plumbing, and that what it compares computes the same; no times."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from rich.console import Console

from experiments import bench
from experiments.benchmarks import surroundings
from experiments.benchmarks.parts import SETTINGS, SIZES, Parts, make_parts
from experiments.benchmarks.steps import PHASES, WARM_UP, Naively, Ours
from tempcons.models.stylegan2 import Generator

pytestmark = pytest.mark.filterwarnings("ignore:.*weight enum.*", "ignore:.*'pretrained'.*")


@pytest.fixture(scope="module")
def parts() -> Parts:
    return make_parts("tiny", "cpu", seed=0)


@pytest.mark.parametrize("phase", PHASES)
def test_the_naive_composition_has_the_same_losses_step_after_step(parts, phase):
    """Both start from the same weights: losses agree as long as gradients do."""
    ours, naive = Ours(parts, phase, seed=0), Naively(parts, phase, seed=0)
    for way in (ours, naive):
        way.run(2)
    assert ours.losses == pytest.approx(naive.losses, rel=1e-5)
    assert len(set(naive.losses)) == WARM_UP + 2
    assert len(ours.times.work) == len(naive.times.clock) == 2


@pytest.mark.parametrize("phase", PHASES)
def test_recipes_with_a_schedule_are_timed_too(phase):
    ours = Ours(make_parts("tiny", "cpu", seed=0, settings=("recipe=tempcons",)), phase, seed=0)
    ours.run(2)
    assert len(ours.times.work) == 2


def test_one_command_one_table_one_file(tmp_path):
    given = ["--only", "steps", "--setting", "tiny", "--accelerator", "cpu", "--rounds", "1", "--steps", "1"]
    console = Console(record=True, width=160)
    path = bench.run(bench.arguments([*given, "--no-memory", "--no-fast", "--out", str(tmp_path)]), console)
    assert "tiny phase2 naive" in console.export_text()
    found = json.loads(path.read_text())
    assert path.name.endswith(f"{datetime.now(UTC):%Y-%m-%d}-steps.json")
    assert {(row["phase"], row["way"]) for row in found["rows"]} == {
        (phase, way) for phase in PHASES for way in ("exact", "naive")
    }
    seconds = {(row["phase"], row["way"]): row["seconds"] for row in found["rows"]}
    for phase in PHASES:
        assert found["ratio"][phase] == seconds[phase, "exact"] / seconds[phase, "naive"]
    assert found["ratio"]["fast"] is None
    assert {"cpu", "cores", "threads"} <= found["machine"].keys() and found["versions"]["torch"]


def test_ratio_of_the_fast_mode_is_the_whole_jobs():
    times = {"phase1": (1.0, 4.0, 1.0), "phase2": (3.0, 4.0, 2.0)}
    rows = [
        {"setting": "x", "phase": phase, "way": way, "seconds": s}
        for phase, values in times.items()
        for way, s in zip(("exact", "naive", "fast"), values, strict=True)
    ]
    assert bench.ratios(rows, "x") == {"phase1": 0.25, "phase2": 0.75, "fast": 4 / 12}
    assert bench.ratios(rows, "y") == {"phase1": None, "phase2": None, "fast": None}


def test_the_long_clip_names_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "LONG_CLIP_GB", 10**9)
    [row] = surroundings.long_clip(tmp_path, [])
    assert row["what"] == "skipped" and "GB needed" in row["why"] and str(tmp_path) in row["why"]
    assert "GB needed" in bench.also(row)


def test_the_first_bar_is_waited_for_on_a_terminal():
    ours, its = os.openpty()
    os.write(its, b"settings are read\nreading fra")
    os.write(its, b"mes 0/32\n")
    surroundings.wait_for(surroundings.FIRST_BAR, ours)
    os.write(its, b"an error\n")
    os.close(its)
    with pytest.raises(RuntimeError, match=r"never showed 'reading frames'(.|\n)*an error"):
        surroundings.wait_for(surroundings.FIRST_BAR, ours)
    os.close(ours)


def test_settings():
    assert bench.MAIN.keys() == {"cpu", "gpu"} and set(bench.MAIN.values()) <= set(SETTINGS)
    size = SIZES["ffhq-256"]
    assert size.channels[4] == 256 and size.channels[256] == 16
    assert SIZES["ffhq-1024"].channels[1024] == 32
    assert Generator(256, 8, 1, size.channels).n_latent == 14
