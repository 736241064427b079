"""A fit that is stopped goes on from its last epoch and ends where an unbroken one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import (
    CPU,
    SIZE,
    TinyDistance,
    ZeroFlow,
    state_copy,
    tiny_edited,
    tiny_phase,
)
from torch import Tensor

from tempcons.training.fit import discard_checkpoint, fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.hyper import PhaseHyper
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.pivotal import PivotalConfig, PivotalTuning, frame_loader

EPOCHS = 3


class Stop(pl.Callback):
    """Stops the fit in the middle of an epoch, as Ctrl-C or a crash would."""

    def __init__(self, epoch: int, by: type[BaseException] | None) -> None:
        self.epoch, self.by = epoch, by

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            if self.by is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                raise self.by


def run(kind: str, folder: Path, stop: Stop | None = None, **changes: Any) -> dict[str, Tensor]:
    edited, phase = tiny_edited(), tiny_phase(kind, **changes)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "both", seed=4)
    callbacks: list[pl.Callback] = [FlowMaskCallback(ZeroFlow(), SIZE, True)]
    fit(phase, data, folder, CPU, kind, epochs=EPOCHS, callbacks=callbacks + ([stop] if stop else []))
    return state_copy(phase)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


BY_MUON: dict[str, Any] = {"phase2": PhaseHyper(lr=1e-3, epochs=2, kernel_lr=1e-2)}


@pytest.mark.parametrize(("kind", "changes"), [("latent", {}), ("generator", {}), ("generator", BY_MUON)])
@pytest.mark.parametrize("by", [KeyboardInterrupt, RuntimeError])
def test_stopped_fit_ends_like_an_unbroken_one(tmp_path, kind, changes, by):
    unbroken = run(kind, tmp_path / "unbroken", **changes)
    with pytest.raises(by):
        run(kind, tmp_path / "broken", Stop(2, by), **changes)
    checkpoint = tmp_path / "broken" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
    assert equal(run(kind, tmp_path / "broken", **changes), unbroken)


def test_kernels_by_muon_are_another_fit(tmp_path):
    assert not equal(run("generator", tmp_path / "a"), run("generator", tmp_path / "b", **BY_MUON))


def test_ctrl_c_is_heard_again_after_a_stopped_fit(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run("latent", tmp_path, Stop(0, KeyboardInterrupt))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fit_in_another_thread_leaves_signals_alone(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(run, "latent", tmp_path).result()
    assert signal.getsignal(signal.SIGINT) is before


def test_without_its_checkpoint_a_stopped_fit_ends_elsewhere_only_in_time(tmp_path):
    """The control of the test above: from scratch the result is the same, so only the epochs tell."""
    with pytest.raises(KeyboardInterrupt):
        run("latent", tmp_path, Stop(1, KeyboardInterrupt))
    discard_checkpoint(tmp_path)
    assert not tmp_path.exists()
    assert equal(run("latent", tmp_path), run("latent", tmp_path / "again"))


def test_resuming_does_not_repeat_finished_epochs(tmp_path):
    seen: list[int] = []

    class Count(Stop):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(trainer.current_epoch)

    with pytest.raises(KeyboardInterrupt):
        run("latent", tmp_path, Count(1, KeyboardInterrupt))
    run("latent", tmp_path, Count(99, None))
    assert seen == [0, 1, 1, 2]


@pytest.mark.slow
def test_killed_fit_ends_like_an_unbroken_one(tmp_path):
    """SIGKILL leaves no time to tidy up."""
    here = Path(__file__).parent
    code = (
        f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n"
        "from pathlib import Path; from test_resume import Stop, run\n"
        f"run('generator', Path({str(tmp_path / 'killed')!r}), Stop(2, None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here.parent.parent, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert equal(run("generator", tmp_path / "killed"), run("generator", tmp_path / "unbroken"))


def test_checkpoints_hold_only_what_changes(tmp_path):
    for kind, prefix in (("latent", "mapper."), ("generator", "generator.")):
        run(kind, tmp_path / kind)
        state = torch.load(tmp_path / kind / "last.ckpt", weights_only=True)["state_dict"]
        assert state and all(name.startswith(prefix) for name in state)


@pytest.mark.parametrize("kernel_lr", [None, 0.02])
def test_pivotal_tuning_resumes_and_learns_the_clip(tmp_path, kernel_lr):
    edited = tiny_edited()
    config = PivotalConfig(steps=60, batch=2, lr=5e-3, kernel_lr=kernel_lr, lambda_perceptual=0.01)

    def tune(folder: Path, stop: Stop | None = None) -> PivotalTuning:
        module = PivotalTuning(edited.generator, TinyDistance(), config)
        loader = frame_loader(edited.codes, edited.aligned, config, 0)
        callbacks = [stop] if stop else []
        fit(module, loader, folder, CPU, "pti", "psnr_db", 2, config.steps, callbacks)
        return module

    unbroken = tune(tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "broken", Stop(1, KeyboardInterrupt))
    resumed = tune(tmp_path / "broken")
    assert equal(state_copy(resumed.generator), state_copy(unbroken.generator))

    def error(generator) -> float:
        with torch.no_grad():
            return (generator.synthesis(edited.codes) - edited.aligned.pictures()).square().mean().item()

    assert error(resumed.generator) < 0.7 * error(edited.generator)
