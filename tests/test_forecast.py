"""``train.py --dry-run``: every stage is named, cached ones are told apart, and nothing is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from composed import parsed
from rich.console import Console
from tiny_assets import write_assets
from tiny_family import face_clip

from tempcons import pipeline
from tempcons.forecast import table
from tempcons.forecast.calibration import Rates
from tempcons.forecast.costs import COSTS, Cost, Job, figures_cost
from tempcons.forecast.plan import FIGURES, Step
from tempcons.opening import open_run
from tempcons.weights import assets

QUICK = (
    "clip.num_frames=null",
    "clip.start=0",
    "inversion.pivotal.steps=1",
    *(f"{at}.in.phase{k}.epochs=1" for at in ("recipe", "comparison") for k in (1, 2)),
    "metrics.every_epochs=0",
    "logger.wandb=disabled",
    "trainer.accelerator=cpu",
)
MAIN = ["clip", "align", "invert", "edit", "target", "phase1", "phase2"]

Rows = list[tuple[Step, Cost]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Iterator[list[str]]:
    base = tmp_path_factory.mktemp("forecast")
    source, points = face_clip(base, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", write_assets(base / "assets"))
        yield [
            *QUICK,
            f"clip.path={source}",
            f"align.landmarks_path={points}",
            f"output.root={base / 'outputs'}",
            f"output.cache={base / 'cache'}",
        ]


@pytest.fixture
def told(settings) -> Callable[..., tuple[Rows, str]]:
    def tell(*overrides: str) -> tuple[Rows, str]:
        console = Console(width=110, record=True, file=io.StringIO())
        rows = table.tell(parsed(*settings, *overrides), console)
        return rows, console.export_text()

    return tell


def stages(rows: Rows, reused: bool) -> list[str]:
    return [step.stage for step, _ in rows if step.reused is reused]


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_without_a_cache_all_stages_are_to_do_and_nothing_is_written(told, settings):
    base = Path(settings[-1].partition("=")[2]).parent
    before = files(base)
    rows, text = told()
    assert files(base) == before and not (base / "cache").exists()
    assert stages(rows, True) == []
    assert stages(rows, False)[: len(MAIN)] == MAIN
    assert stages(rows, False)[len(MAIN) :] == ["phase1", "phase2", "controls", "figures", "results"]
    assert "reused" not in text and "phase 2 (tempcons)" in text and "nothing was written" in text


def test_fitting_an_edit_to_the_clip_takes_its_time(told):
    plain, fitted, learned = (
        {
            step.stage: cost.seconds
            for step, cost in told(
                "edit=eyeglasses", f"edit.refine={steps}", f"edit.refine_generator={learns}"
            )[0]
        }
        for steps, learns in ((0, 0), (6000, 0), (0, 6000))
    )
    assert fitted["edit"] > 20 * plain["edit"] and learned["edit"] > 20 * plain["edit"]


def test_full_frames_and_other_methods_have_their_stages(told):
    rows, text = told("phase=full", "baselines=[dvp,wplus]", "stitch=tuned")
    assert {"phase3", "stitch", "dvp", "wplus"} <= set(stages(rows, False))
    assert "phase 3" in text


def test_the_direct_edit_has_no_phases(told):
    rows, _ = told("phase=direct")
    assert stages(rows, False) == ["clip", "align", "invert", "edit", "controls", "figures", "results"]


def test_costs_are_positive_and_grow_with_the_work(told):
    short, _ = told("compare=false")
    long, _ = told("compare=false", "phase2.epochs=50")
    assert all(own.seconds > 0 and own.memory_mb >= 0 for _, own in short)

    def of(rows: Rows, stage: str) -> Cost:
        return next(own for step, own in rows if step.stage == stage)

    assert of(long, "phase2").seconds > 5 * of(short, "phase2").seconds
    assert of(short, "clip").disk_mb == pytest.approx(4 * 48 * 64 * 3 / 1e6)


def test_figures_take_the_time_of_both_flows():
    """Of 32 frames 31 neighbouring pairs and every fourth far one are measured."""
    rates = Rates(**dict.fromkeys((field.name for field in fields(Rates)), 0.0))
    job = Job(parsed(), 32, (144, 176), 128, rates, 0.0, variants=8)

    def seconds(**known: float) -> float:
        step = Step(FIGURES, "figures")
        return figures_cost(replace(job, rates=replace(rates, **known)), step).seconds

    assert seconds(second_flow=1.0) == seconds(flow=1.0) == 8 * (31 + 7 + 6 + 4) + 2 * 31


def test_what_the_cache_holds_is_reused(told, settings, tmp_path):
    config = parsed(*settings)
    open_run(config, tmp_path)
    Path(config.output.root).mkdir()
    rows, text = told()
    assert stages(rows, True) == ["clip"]
    pipeline.run(parsed(*settings, "phase=both", "compare=false"), tmp_path / "run")
    rows, text = told()
    assert stages(rows, True) == [*MAIN, "controls"]
    assert text.count("reused") == len(MAIN) + 1
    assert all(own == Cost() for step, own in rows if step.reused)
    # With all that is beside it in the cache, the figures are too.
    rows, _ = told("compare=false")
    assert stages(rows, True) == [*MAIN, "controls", "figures"]
    rows, _ = told("phase2.lr=0.5")
    assert stages(rows, True) == [*MAIN[:-1], "controls"]


def test_every_stage_that_can_be_planned_has_a_cost(told):
    rows, _ = told("phase=full", "baselines=[dvp,wplus]")
    assert {step.stage for step, _ in rows} <= set(COSTS)


def test_the_command_leaves_no_folder_behind(settings, tmp_path, capsys, monkeypatch):
    from command_line import train

    seen = []
    monkeypatch.setattr(table, "tell", lambda config: seen.append(config.edit.name))
    place = f"output.root={tmp_path / 'outputs'}"
    assert train([*settings, place, "--dry-run"], capsys).code == 0
    assert train([*settings, place, "dry_run=true", "edit=happy"], capsys).code == 0
    assert seen == ["surprised", "happy"]
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_not_forecast(settings, tmp_path, capsys):
    from command_line import train

    ended = train(["-m", "--dry-run", *settings, f"output.root={tmp_path}", "alpha=0.1,0.2"], capsys)
    [line] = ended.errors
    assert ended.code == 1 and "leave -m out" in line and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "< 1 s"), (42, "42 s"), (300, "5 min"), (7200, "2.0 h")])
def test_durations(seconds, text):
    assert table.duration(seconds) == text


def test_amounts():
    assert (table.amount(12.3), table.amount(2500)) == ("12 MB", "2.5 GB")
