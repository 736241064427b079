"""The W&B run: closed whatever happens, grouped by sweep, metrics over epochs, media; read back offline."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import wandb
import wandb_log
from PIL import Image
from tiny import CPU, SIZE, TinyDistance, ZeroFlow, sample_codes, tiny_edited, tiny_hyper

from tempcons.check import ConfigError
from tempcons.training.epoch_metrics import EpochMetrics
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.logging import EPOCH_METRICS, LoggerConfig, RunLog, run_log
from tempcons.training.pairs import AnchorPairDataModule


def train(logs: RunLog, folder: Path, epochs: int = 2) -> None:
    edited = tiny_edited()
    phase = GeneratorTunePhase(edited.generator, sample_codes, TinyDistance(), tiny_hyper(), True, 1.0)
    callbacks = [
        FlowMaskCallback(ZeroFlow(), SIZE, True),
        EpochMetrics(edited.codes, edited.frames, ZeroFlow(), TinyDistance()),
    ]
    data = AnchorPairDataModule(edited, edited.codes, edited.frames)
    logger = logs.loggers("phase2")
    fit(phase, data, folder, CPU, "test", epochs=epochs, callbacks=callbacks, logger=logger)


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Path:
    """The folder of a run that logged two epochs, figures and media."""
    folder = tmp_path_factory.mktemp("run")
    Image.new("RGB", (4, 4)).save(folder / "slices.png")
    (folder / "direct.mp4").write_bytes(b"not looked into")
    with run_log(LoggerConfig(group="a-sweep", tags=["t"]), folder, "job", {"lambda_r": 3.0}) as logs:
        train(logs, folder / "checkpoint")
        logs.log_results(
            {"e_warp": 0.5}, {"direct": folder / "direct.mp4"}, {"slices": folder / "slices.png"}
        )
    return wandb_log.log_file(folder)


def test_figures_of_every_epoch(logged):
    for name in ("e_warp", "distance", "sharpness"):
        values = wandb_log.values(logged, f"phase2-{name}")
        assert len(values) == 2 and all(value > 0 for value in values), name
    assert wandb_log.values(logged, "phase2-lpips") == [], "a distance that isn't LPIPS is not called so"
    with (logged.parents[2] / "csv" / "phase2" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["sharpness"]]
    assert [float(row["sharpness"]) for row in rows] == pytest.approx(
        wandb_log.values(logged, "phase2-sharpness")
    )


def test_metrics_are_defined_over_epochs(logged):
    defined = {m.name or m.glob_name: m for m in wandb_log.of_kind(logged, "metric")}
    for phase in ("phase1", "phase2"):
        for name in ("*", *EPOCH_METRICS):
            assert defined[f"{phase}-{name}"].step_metric == f"{phase}-epoch"
        assert defined[f"{phase}-epoch"].options.hidden


def test_the_run_belongs_to_its_sweep(logged):
    (run,) = wandb_log.of_kind(logged, "run")
    assert (run.run_group, run.display_name, list(run.tags)) == ("a-sweep", "job", ["t"])
    assert wandb_log.config(logged)["lambda_r"] == 3.0
    assert wandb_log.summary(logged)["e_warp"] == 0.5


def test_media(logged):
    (row,) = [r for r in wandb_log.history(logged) if any(k.startswith("video/") for k in r)]
    assert {name.rpartition(".")[0] for name in row if name.endswith(".path")} == {"video/direct", "slices"}
    assert (logged.parent / "files" / row["slices.path"]).exists()


@pytest.mark.parametrize(("by", "code"), [(RuntimeError, 1), (KeyboardInterrupt, 130), (None, 0)])
def test_closed_whatever_happens(tmp_path, by, code):
    try:
        with run_log(LoggerConfig(), tmp_path, "job", {}):
            assert wandb.run is not None
            if by is not None:
                raise by
    except (RuntimeError, KeyboardInterrupt) as error:
        assert type(error) is by
    assert wandb.run is None
    assert exit_code(wandb_log.log_file(tmp_path)) == code


def exit_code(log: Path, patience_s: float = 30) -> int:
    """What the run ended with; W&B's own process may write it a moment after the run is closed."""
    end = time.monotonic() + patience_s
    while not (found := wandb_log.of_kind(log, "exit")):
        assert time.monotonic() < end, "the run was never closed"
        time.sleep(0.05)
    return found[0].exit_code


def test_closed_when_it_fails_at_its_start(tmp_path, monkeypatch):
    def fail(run):
        raise RuntimeError

    monkeypatch.setattr("tempcons.training.logging.define_metrics", fail)
    with pytest.raises(RuntimeError), run_log(LoggerConfig(), tmp_path, "job", {}):
        pass
    assert wandb.run is None


def test_jobs_in_one_process_have_runs_of_their_own(tmp_path):
    ids: list[str] = []
    for sweep, job in (("s", "a"), ("s", "b"), ("s", "a"), ("other", "a")):
        folder = tmp_path / str(len(ids))
        folder.mkdir()
        with run_log(LoggerConfig(group=sweep), folder, job, {}) as logs:
            assert logs.wandb is not None
            ids.append(logs.wandb.id)
    assert ids[0] == ids[2] and len(set(ids)) == 3, "a job that is started again goes on with its run"


def test_online_without_an_account(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with (
        pytest.raises(ConfigError, match=r"needs an account .*logger\.wandb=offline"),
        run_log(LoggerConfig(wandb="online"), tmp_path, "job", {}),
    ):
        pass
    assert wandb.run is None


def test_disabled_writes_csv_alone(tmp_path):
    with run_log(LoggerConfig(wandb="disabled"), tmp_path, "job", {}) as logs:
        train(logs, tmp_path / "checkpoint", epochs=1)
        logs.log_results({"e_warp": 0.5}, {})
    assert (tmp_path / "csv" / "phase2" / "metrics.csv").exists() and not (tmp_path / "wandb").exists()
