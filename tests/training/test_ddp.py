"""Several processes share the pairs of a clip, and end where one process ends."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import wandb_log
from tiny import (
    FRAMES,
    SIZE,
    TinyDistance,
    ZeroFlow,
    same_state,
    state_copy,
    tiny_edited,
    tiny_phase,
)
from torch import Tensor

from tempcons.check import ConfigError
from tempcons.media.frames import FrameStore, write_frames
from tempcons.models.code_sampler import CodeSampler
from tempcons.models.flow import DISFlow, FarnebackFlow
from tempcons.models.perceptual import Lite0Distance
from tempcons.training.epoch_metrics import EpochMetrics
from tempcons.training.fit import TrainerConfig, fit, lightning_strategy
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.logging import LoggerConfig, run_log
from tempcons.training.mask_panels import MaskRecorder, load_masks
from tempcons.training.pairs import AnchorPairDataModule, EpochShuffle, Part, StepPart
from tempcons.training.progress_bar import FitProgress

TWO = TrainerConfig(accelerator="cpu", devices=2, strategy="ddp", pairs_per_step=1)
ONE = TrainerConfig(accelerator="cpu", devices=1, pairs_per_step=2)


# how pairs are split


@pytest.mark.parametrize("count", [1, 2, 5, 7, 8, 31])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_step_has_the_pairs_that_one_process_would_take(count, world, batch):
    order = list(EpochShuffle(count, seed=3))
    parts = [list(EpochShuffle(count, 3, Part(rank, world), batch)) for rank in range(world)]
    steps = -(-count // (world * batch))
    assert {-(-len(part) // batch) for part in parts} == {steps}, "all take part in each step"
    for step in range(steps):
        whole = order[step * world * batch : (step + 1) * world * batch]
        found, weights = [], 0.0
        for rank, part in enumerate(parts):
            about = StepPart(rank, world, len(whole))
            own = part[step * batch : (step + 1) * batch]
            assert len(own) == len(about.take(torch.tensor(whole)))
            if about.weight:
                assert own == about.take(torch.tensor(whole)).tolist()
                found += own
            weights += about.weight
        assert sorted(found) == sorted(whole)
        assert weights / world == pytest.approx(1)


def test_mean_over_processes_is_the_mean_over_pairs():
    losses = torch.tensor([1.0, 5.0, 9.0])
    parts = [StepPart(rank, 2, 3) for rank in range(2)]
    shared = sum(part.weight * part.take(losses).mean() for part in parts) / 2
    assert shared == losses.mean()


def test_a_process_is_told_in_words_what_it_cannot_do():
    with pytest.raises(ConfigError, match="did you mean ddp"):
        TrainerConfig(strategy="dpp")
    with pytest.raises(ConfigError, match=r"trainer\.devices = 0"):
        TrainerConfig(devices=0)


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"trainer\.devices = 3, but 2 GPUs"):
        lightning_strategy(TrainerConfig(devices=3))


def sent(value):
    """What another process gets."""
    return pickle.loads(pickle.dumps(value))


def test_what_a_fit_needs_can_be_sent_to_processes(tmp_path):
    first, second = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    for flow in (DISFlow("fine", 1), FarnebackFlow(9)):
        assert sent(flow).name == flow.name
        assert torch.equal(sent(flow)(first, second), flow(first, second))
    network = Lite0Distance(random=True)
    assert torch.equal(sent(network)(first, second), network(first, second))
    sampler = CodeSampler(torch.zeros(8, 16), torch.ones(2, 8, 16), 1.0)
    draws = [s(3, torch.Generator().manual_seed(0)) for s in (sampler, sent(sampler))]
    assert torch.equal(*draws)
    assert sent(FitProgress("phase 1")).name == "phase 1"


def test_frames_are_sent_as_their_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 400, 400, 3), dtype=np.uint8)
    write_frames(tmp_path / "frames.npy", (6, 400, 400), [frames])
    mapped = FrameStore.open(tmp_path / "frames.npy")
    assert len(pickle.dumps(mapped)) < 1000
    for store in (mapped, FrameStore(mapped.array[2:4]), FrameStore(frames)):
        assert np.array_equal(sent(store).array, store.array)


# whole fits


def trained(kind: str, config: TrainerConfig, folder: Path, epochs: int = 2) -> dict[str, Tensor]:
    """The state after a fit with all callbacks and loggers of a run."""
    edited, phase = tiny_edited(), tiny_phase(kind)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", config.pairs_per_step, seed=4)
    if kind == "generator":
        data.dataset.pairs.pop()
    watched = [(edited.anchor_id, i) for i in edited.frame_ids.tolist()]
    callbacks: list[pl.Callback] = [
        FlowMaskCallback(ZeroFlow(), SIZE, True),
        MaskRecorder(folder / "masks.safetensors", watched, 10.0),
        EpochMetrics(edited.codes, edited.frames, ZeroFlow(), TinyDistance()),
    ]
    with run_log(LoggerConfig(), folder, "ddp", {}) as logs:
        loggers = logs.loggers("phase2")
        fit(phase, data, folder / "ckpt", config, kind, epochs=epochs, callbacks=callbacks, logger=loggers)
    return state_copy(phase)


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "csv" / "phase2" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["latent", "generator"])
def test_two_processes_end_where_one_ends(tmp_path, kind):
    """With a pair left out there are three: the last step leaves one process without any."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone, shared = trained(kind, ONE, one), trained(kind, TWO, two)
    assert alone.keys() == shared.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, atol=2e-5, rtol=1e-4, msg=name)
    assert not same_state(tiny_phase(kind), shared), "something was learnt"
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), rel=1e-3)
    for name in ("e_warp", "distance", "sharpness"):
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-2, abs=1e-7)
        values = wandb_log.values(wandb_log.log_file(two), f"phase2-{name}")
        assert values == pytest.approx(logged(two, name), abs=1e-9), "logged once, by the first process"
    seen = load_masks(two / "masks.safetensors")
    assert len(seen) == FRAMES - (2 if kind == "generator" else 1), "each process has seen a part of them"
