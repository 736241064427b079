"""The table of variants, averaged over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tempcons.check import InputError
from tempcons.store.artefact import write_json
from tempcons.sweep.folder import read_sweep, write_plan
from tempcons.sweep.marks import mark_done
from tempcons.sweep.summary import summary


def figures(e_warp: float) -> dict[str, Any]:
    values = {"e_warp": e_warp, "e_long": 2 * e_warp}
    return {**values, "distance": 0.1, "sharpness": 0.9, "motion": 1.0, "second_flow": {"other": values}}


def write_run(folder: Path, overrides: list[str], result: float, domain: str = "in", **more: float) -> None:
    folder.mkdir()
    controls = {"smoothed_codes": figures(5e-4)}
    rows = {"direct": figures(8e-4), "phase2": figures(result)} | {k: figures(v) for k, v in more.items()}
    write_json(folder / "metrics.json", {**rows, "controls": controls})
    manifest = {
        "input": {"path": "/somewhere/clip.mp4"},
        "clip": {"frame_ids": [0, 1, 2]},
        "recipe": "tempcons",
        "seed": int(overrides[1].removeprefix("seed=")),
        "settings": {"edit": {"name": overrides[0].removeprefix("edit="), "domain": domain}},
        "networks": {"flow": "one", "second_flow": "other", "perceptual": "features"},
        "environment": {
            "packages": {"torch": "2"},
            "processor": "x86_64",
            "cores": 2,
            "date": "2026-11-22",
        },
    }
    write_json(folder / "manifest.json", manifest)
    mark_done(folder, overrides, {"e_warp": result})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    runs = {"a": ["edit=happy", "seed=0"], "b": ["edit=happy", "seed=1"], "c": ["edit=angry", "seed=0"]}
    write_plan(tmp_path, runs)
    for (key, overrides), result in zip(runs.items(), (2e-4, 4e-4, 1e-4), strict=True):
        write_run(tmp_path / key, overrides, result)
    return tmp_path


def test_means_and_extremes_over_seeds(sweep: Path) -> None:
    text = summary(sweep, read_sweep(sweep))
    happy, angry = text.split("### mean over")[0].split("### edit=")[1:]
    assert happy.startswith("happy (2 seeds: 0, 1)") and angry.startswith("angry (1 seeds: 0)")
    # Changes against 8e-4: -75 % and -50 %.
    assert "| phase2 | 3.00 (-62 % [-75, -50]) | 6.00 (-62 % [-75, -50]) |" in happy
    assert "| direct | 8.00 | 16.00 | 8.00 | 16.00 | 0.100 | 0.900 | 1.000 |" in happy
    assert "smoothed_codes" in happy


def test_different_variants_are_refused(sweep: Path) -> None:
    write_plan(sweep, {"d": ["edit=happy", "seed=2"]})
    write_run(sweep / "d", ["edit=happy", "seed=2"], 1e-4, extra=1e-4)
    with pytest.raises(InputError, match="different variants"):
        summary(sweep, read_sweep(sweep))


def test_means_over_the_edits_of_a_domain(sweep: Path) -> None:
    write_plan(sweep, {"d": ["edit=nada_elf", "seed=0"]})
    write_run(sweep / "d", ["edit=nada_elf", "seed=0"], 6e-4, domain="out")
    *_, last = summary(sweep, read_sweep(sweep)).split("### ")
    # Of happy (2e-4, 4e-4) and angry (1e-4) against 8e-4; the one edit of the other domain has no mean.
    assert last.startswith("mean over in-domain edits (happy, angry)")
    assert "| phase2 | 2.33 (-71 % [-88, -50]) |" in last


def test_no_means_over_edits_where_something_else_was_swept(sweep: Path) -> None:
    write_plan(sweep, {"d": ["edit=happy", "seed=0", "alpha=0.1"]})
    write_run(sweep / "d", ["edit=happy", "seed=0", "alpha=0.1"], 6e-4)
    assert "mean over" not in summary(sweep, read_sweep(sweep))
