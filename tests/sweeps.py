"""Folders of finished sweeps, without running one: jobs with figures, videos and manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import FPS, tinted
from sweep_app import figures

from tempcons.media.write import VideoSettings, write_video
from tempcons.store.artefact import write_json
from tempcons.sweep import marks

GRID = [(lambda_r, alpha) for lambda_r in (0.5, 3.0) for alpha in (0.04, 0.08, 0.12)]
DIRECT = {"e_warp": 9e-4, "e_long": 2e-3, "distance": 0.0, "sharpness": 1.0, "motion": 1.0}
CONTROL = {"e_warp": 3e-4, "e_long": 1e-3, "distance": 0.06, "sharpness": 0.8, "motion": 0.9}


def write_sweep(folder: Path) -> Path:
    """Six finished jobs with videos, and one that failed."""
    for at, (lambda_r, alpha) in enumerate(GRID):
        write_job(folder / f"job{at}", lambda_r, alpha, blue=20 * at)
    failed = folder / "job9"
    failed.mkdir()
    marks.mark_failed(failed, ["lambda_r=9", "alpha=<b>0.04</b>"], "clip: no such file <i>", None)
    return folder


def write_job(run: Path, lambda_r: float, alpha: float, blue: int) -> None:
    """What a finished job leaves that a page of the sweep shows."""
    run.mkdir(parents=True)
    found = figures(lambda_r, alpha) | ({"sharpness": 0.5} if alpha > 0.1 else {})
    controls = {"flow_warped_mean": CONTROL}
    write_json(run / marks.METRICS, {"direct": DIRECT, "phase2": found, "controls": controls})
    for name, tint in (("direct", 200), ("phase2", blue)):
        write_video(run / f"{name}.mp4", tinted(tint), VideoSettings(FPS, crf=4))
    write_json(run / "manifest.json", manifest(lambda_r, alpha))
    (run / "report.html").write_text(f"<!doctype html><title>{lambda_r} {alpha}</title>")
    marks.mark_done(run, [f"lambda_r={lambda_r:g}", f"alpha={alpha:g}", "clip.num_frames=4"], found)


def manifest(lambda_r: float, alpha: float) -> dict[str, Any]:
    """Settings and origins, most of them the same in all jobs."""
    return {
        "settings": {"lambda_r": lambda_r, "alpha": alpha, "clip": {"path": "a <clip>.mp4"}, "seed": 0},
        "input": {"path": "a <clip>.mp4", "sha256": "0" * 64},
        "weights": [{"name": "generator", "licence": "CC0"}],
        "stages": [{"stage": "clip", "seconds": alpha}],
        "outputs": {"direct": "direct.mp4", "phase2": "phase2.mp4"},
    }
