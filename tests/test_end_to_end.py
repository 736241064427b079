"""From the demo clip to the report, both domains, small: every promised file, and nothing made twice."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
import wandb_log
from safetensors.torch import load_file
from tiny import hydra_config

from tempcons.check import ConfigError, InputError
from tempcons.metrics.evaluate import VideoMetrics
from tempcons.opening import check_space
from tempcons.pipeline import run
from tempcons.schema import parse

ROOT = Path(__file__).parent.parent
FRAMES = 8
QUICK = (
    f"clip.num_frames={FRAMES}",
    "inversion.pivotal.steps=4",
    "inversion.pivotal.batch=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    *(f"comparison.{domain}.phase{k}.epochs=1" for domain in ("in", "out") for k in (1, 2)),
    "trainer.accelerator=cpu",
    # The default recipe has it in its target alone; here its terms, flow and masks are looked at.
    "lambda_photo=1",
)
FIGURES = ("e_warp", "e_long", "distance", "sharpness", "motion")
STAGES = ["clip", "align", "invert", "edit", "phase1", "phase2", "phase1", "phase2", "controls"]


@dataclass(frozen=True)
class Run:
    """A finished run and what it left."""

    folder: Path
    root: Path
    cache: Path
    result: dict[str, float]

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    @property
    def stages(self) -> list[dict[str, Any]]:
        return self.json("manifest.json")["stages"]


def known_stages(done: Run) -> list[str]:
    return [s["stage"] for s in done.stages if s["stage"] in STAGES]


def settings(base: Path, *overrides: str) -> list[str]:
    return [*QUICK, f"output.root={base / 'outputs'}", f"output.cache={base / 'cache'}", *overrides]


def go(base: Path, name: str, *overrides: str) -> Run:
    config = parse(hydra_config(settings(base, *overrides)))
    folder = base / "outputs" / name
    return Run(folder, base / "outputs", base / "cache", run(config, folder))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def surprised(base) -> Run:
    return go(base, "surprised", "edit=surprised", "phase=both")


@pytest.fixture(scope="module")
def again(base, surprised) -> Run:
    return go(base, "again", "edit=surprised", "phase=both")


@pytest.fixture(scope="module")
def sketch(base, surprised) -> Run:
    return go(base, "sketch", "edit=nada_sketch", "phase=both", "compare=false")


def check_figures(figures: dict[str, Any]) -> None:
    for name in FIGURES:
        assert isinstance(figures[name], float) and math.isfinite(figures[name]), name
        assert name in figures["conditions"], name
    assert figures["e_warp"] > 0
    assert figures["conditions"]["e_warp"]["flow_network"]
    assert figures["second_flow"]


def check_files(done: Run, variants: list[str]) -> None:
    for name in [*variants, "side_by_side"]:
        with av.open(str(done.folder / f"{name}.mp4")) as video:
            stream = video.streams.video[0]
            assert sum(1 for _ in video.decode(stream)) == FRAMES, name
            assert float(stream.average_rate or 0) == pytest.approx(29.97, abs=0.01)
    for name in ("report.html", "slices.png", "per_frame.csv", "codes.safetensors"):
        assert (done.folder / name).stat().st_size > 0, name


def test_every_promised_file_is_there(surprised):
    check_files(surprised, ["input", "direct", "phase1", "phase2"])
    codes = load_file(surprised.folder / "codes.safetensors")["codes"]
    assert codes.shape[0] == FRAMES and codes.ndim == 3
    generator = load_file(surprised.folder / "generator.safetensors")
    assert "conv1.conv.weight" in generator
    assert not list(surprised.root.rglob("*.tmp"))


def test_metrics_json(surprised):
    metrics = surprised.json("metrics.json")
    assert {"direct", "phase1", "phase2", "recipe=paper", "controls"} <= set(metrics)
    assert set(metrics["controls"]) == {"smoothed_codes", "flow_warped_mean"}
    for name in ("direct", "phase1", "phase2", "recipe=paper"):
        check_figures(metrics[name])
    for control in metrics["controls"].values():
        check_figures(control)
    assert metrics["direct"]["distance"] == 0
    assert metrics["direct"]["motion"] == metrics["direct"]["sharpness"] == 1
    assert metrics["phase2"]["distance"] > 0
    assert surprised.result["e_warp"] == metrics["phase2"]["e_warp"]


def test_per_frame_rows(surprised):
    with (surprised.folder / "per_frame.csv").open() as file:
        rows = list(csv.DictReader(file))
    variants = {row["variant"] for row in rows}
    assert {"direct", "phase1", "phase2", "smoothed_codes", "flow_warped_mean"} <= variants
    assert len(rows) == FRAMES * len(variants)


def test_manifest(surprised):
    manifest = surprised.json("manifest.json")
    keys = {
        "recipe",
        "input",
        "clip",
        "weights",
        "networks",
        "settings",
        "hyper",
        "seed",
        "stages",
        "outputs",
    }
    assert keys | {"environment", "peak_memory_mb"} <= set(manifest)
    assert manifest["recipe"] == "tempcons" and manifest["seed"] == 0
    assert len(manifest["input"]["sha256"]) == 64
    assert {w["name"] for w in manifest["weights"]} == {
        "generator",
        "encoder",
        "sampler",
        "direction_surprised",
    }
    assert all(len(w["sha256"]) == 64 and w["licence"] for w in manifest["weights"])
    assert manifest["clip"]["frame_ids"] == list(range(40, 40 + FRAMES))
    assert known_stages(surprised) == STAGES
    assert all(s["seconds"] >= 0 and s["peak_memory_mb"] > 0 for s in manifest["stages"])
    assert manifest["environment"]["packages"]["torch"]


def test_latest_names_the_newest_run(surprised, again):
    latest = surprised.root / "latest"
    assert latest.is_symlink() and latest.resolve().parent == surprised.root.resolve()
    assert (latest / "metrics.json").exists()


def test_wandb_offline_log_reads_back(surprised):
    log = wandb_log.log_file(surprised.folder)
    for phase, terms in (("phase1", ["rf", "target"]), ("phase2", ["r", "target"])):
        for name in ("e_warp", "distance", "sharpness", "loss", *(f"loss/{t}" for t in terms)):
            values = wandb_log.values(log, f"{phase}-{name}")
            assert len(values) == 1 and math.isfinite(values[0]), f"{phase}-{name}"
    # What was logged after phase 2's last epoch is the video that is reported, up to its 8 bits.
    reported = surprised.json("metrics.json")["phase2"]
    assert wandb_log.values(log, "phase2-distance")[0] == pytest.approx(reported["distance"], rel=0.2)
    assert wandb_log.summary(log)["e_warp"] == pytest.approx(reported["e_warp"])
    config = wandb_log.config(log)
    assert config["lambda_r"] == surprised.json("manifest.json")["hyper"]["lambda_r"]
    videos = [k for row in wandb_log.history(log) for k in row if k.startswith("video/") and "path" in k]
    assert len(videos) >= 5


def test_the_dashboard_shows_what_is_logged(surprised, tmp_path):
    """Every panel of experiments/dashboard.py finds its data in the offline run."""
    said = tmp_path / "dashboard.json"
    subprocess.run([sys.executable, "-m", "experiments.dashboard", "--json", str(said)], cwd=ROOT, check=True)
    log = wandb_log.log_file(surprised.folder)
    logged = {name for row in wandb_log.history(log) for name in row}
    final, settings = wandb_log.summary(log), wandb_log.config(log)
    sections = json.loads(said.read_text())["sections"]
    for panel in (panel for section in sections for panel in section["panels"]):
        if panel["kind"] == "line":
            assert panel["x"] in logged and logged & set(panel["y"]), panel["title"]
        elif panel["kind"] == "media":
            assert {f"{name}.path" for name in panel["y"]} <= logged, panel["title"]
        else:
            assert {*panel["y"], panel["x"] or "e_warp"} <= set(final), panel["title"]
            assert set(panel["settings"]) <= set(settings)


def test_csv_log_holds_the_same(surprised):
    with (surprised.folder / "csv" / "phase1" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = [float(row["e_warp"]) for row in rows if row["e_warp"]]
    assert logged == pytest.approx(wandb_log.values(wandb_log.log_file(surprised.folder), "phase1-e_warp"))


def test_second_run_reuses_every_stage_and_gives_the_same_figures(surprised, again):
    assert known_stages(again) == STAGES
    assert all(s["reused"] for s in again.stages)
    assert not any(s["reused"] for s in surprised.stages)
    assert again.json("metrics.json") == surprised.json("metrics.json")


def test_same_seed_same_numbers_without_the_cache(surprised, tmp_path):
    """Everything anew in another place: the same video to the last bit."""
    fresh = go(tmp_path, "fresh", "edit=surprised", "phase=both", "compare=false", "logger.wandb=disabled")
    assert not any(s["reused"] for s in fresh.stages)
    for name in ("codes.safetensors", "generator.safetensors"):
        one, other = load_file(fresh.folder / name), load_file(surprised.folder / name)
        assert all(one[k].equal(other[k]) for k in other), name
    ours, theirs = fresh.json("metrics.json"), surprised.json("metrics.json")
    assert ours["phase2"] == theirs["phase2"]


def test_out_of_domain_run(surprised, sketch):
    check_files(sketch, ["input", "direct", "phase1", "phase2"])
    metrics = sketch.json("metrics.json")
    assert {"direct", "phase1", "phase2", "controls"} <= set(metrics)
    assert not any(name.startswith("recipe=") for name in metrics)
    check_figures(metrics["phase2"])
    reused = {s["stage"]: s["reused"] for s in sketch.stages}
    assert reused["invert"] and not reused["edit"]  # the inversion is shared between edits
    assert {w["name"] for w in sketch.json("manifest.json")["weights"]} >= {"nada_sketch"}


def test_out_of_domain_phases_change_what_they_may(sketch):
    direct = Path(next(s["path"] for s in sketch.stages if s["stage"] == "edit"))
    refined = Path(next(s["path"] for s in sketch.stages if s["stage"] == "phase1"))
    before = load_file(direct / "codes.safetensors")["codes"]
    after = load_file(refined / "codes.safetensors")["codes"]
    assert before.shape == after.shape and not before.equal(after)
    old = load_file(direct / "generator.safetensors")
    new = load_file(sketch.folder / "generator.safetensors")
    assert any(not old[k].equal(new[k]) for k in old)


@pytest.mark.parametrize(
    ("phase", "variants"),
    [("direct", ["direct"]), ("latent", ["direct", "phase1"]), ("generator", ["direct", "phase2"])],
)
def test_single_phases(base, surprised, phase, variants):
    done = go(base, phase, f"phase={phase}", "compare=false", "logger.wandb=disabled")
    figures = done.json("metrics.json")
    assert [v for v in ("direct", "phase1", "phase2") if v in figures] == variants
    check_files(done, ["input", *variants])
    assert (done.folder / "generator.safetensors").exists() == (phase == "generator")


def test_wrong_anchor_is_known_before_the_costly_stages(tmp_path, base):
    with pytest.raises(ConfigError, match=r"anchor = 7 is not a frame of the clip \(40\.\.47\)"):
        go(tmp_path, "anchor", "anchor=7")
    assert not (tmp_path / "cache" / "invert").exists()


def test_nearly_full_disk_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(InputError, match="5 MB free"):
        check_space(tmp_path)


def test_measured_values_are_plain(surprised):
    assert all(type(v) is float for v in surprised.result.values())
    assert {"summary", "conditions", "per_frame"} <= set(VideoMetrics.__dataclass_fields__)


@pytest.mark.slow
def test_killed_run_goes_on_from_the_last_finished_stage(tmp_path, surprised):
    """SIGKILL in the middle; the same command then ends as an unbroken run does."""
    command = [sys.executable, "train.py", *settings(tmp_path, "compare=false", "logger.wandb=disabled")]
    victim = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: list((tmp_path / "cache" / "phase2").glob("*.partial")), victim)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    assert victim.returncode == -signal.SIGKILL
    assert not (tmp_path / "outputs" / "latest").exists()
    done = go(tmp_path, "after", "compare=false", "logger.wandb=disabled")
    reused = {s["stage"]: s["reused"] for s in done.stages}
    assert all(reused[stage] for stage in ("clip", "align", "invert", "edit", "phase1"))
    assert not reused["phase2"]
    assert done.json("metrics.json")["phase2"] == surprised.json("metrics.json")["phase2"]


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path):
    command = [
        sys.executable,
        "train.py",
        *settings(tmp_path, "compare=false", "inversion.pivotal.steps=4000"),
    ]
    victim = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts pytest in the background has it and its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda: list((tmp_path / "cache" / "invert").glob("*.partial/checkpoint/last.ckpt")), victim)
        victim.send_signal(signal.SIGINT)
        _, said = victim.communicate(timeout=300)
    finally:
        victim.kill()
        victim.wait()
    assert victim.returncode == 130, said[-2000:]
    assert "the same command goes on" in said
    assert not list((tmp_path / "cache" / "invert").glob("*[0-9a-f]/manifest.json"))


def wait_for(there, process: subprocess.Popen, patience_s: float = 900) -> None:
    """Until ``there()``; the process must not end before."""
    end = time.monotonic() + patience_s
    while not there():
        assert process.poll() is None, f"ended with {process.returncode} before it could be stopped"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_no_test_run_reaches_for_an_account():
    assert os.environ["WANDB_MODE"] == "offline" and os.environ["WANDB_ERROR_REPORTING"] == "false"
