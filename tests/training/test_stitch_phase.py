"""Stitch tuning: the border meets the source, the content stays, a stopped fit ends like an unbroken one."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from tiny import CPU, SIZE, same_state, state_copy, tiny_codes, tiny_generator

from tempcons.check import ConfigError
from tempcons.losses.masked import masked_squared_error
from tempcons.training import progress_bar
from tempcons.training.fit import fit
from tempcons.training.stitch_phase import (
    LEVELS,
    Group,
    StitchFrames,
    StitchTunePhase,
    TuningConfig,
    group_loader,
    groups_of,
)

TOTAL = 6
QUICK = TuningConfig(steps=30, steps_after=10, batch=2, lr=5e-3, lambda_content=0.05, stop_levels=0.5)
BRIEF = TuningConfig(**{**vars(QUICK), "steps": 3, "steps_after": 2})


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    inner = torch.zeros(1, 1, SIZE, SIZE)
    inner[..., 6:-6, 6:-6] = 1
    return 1 - inner, inner


def load(positions: range) -> StitchFrames:
    """The source is what another code gives; the edit is the generator's own picture."""
    generator = tiny_generator()
    at = slice(positions.start, positions.stop)
    codes, others = tiny_codes(generator, TOTAL)[at], 0.7 * tiny_codes(generator, TOTAL)[at] + 0.2
    border, content = (mask.expand(len(codes), -1, -1, -1) for mask in masks())
    with torch.no_grad():
        pictures = [generator.synthesis(c).clamp(-1, 1) for c in (others, codes)]
    return StitchFrames(codes, pictures[0], pictures[1], border, content)


def tuned(folder: Path, config: TuningConfig = QUICK, cuts: tuple[int, ...] = (), stop_at: int | None = None):
    edges = [0, *cuts, TOTAL]
    scenes = [range(a, b) for a, b in pairwise(edges)]
    module = StitchTunePhase(tiny_generator(), groups_of(scenes, config.batch), config, folder / "parts")

    def stopping(positions: range) -> StitchFrames:
        if stop_at is not None and positions.start >= stop_at:
            raise KeyboardInterrupt
        return load(positions)

    loader = group_loader(module.groups, stopping)
    fit(module, loader, folder / "checkpoint", CPU, "stitch", "border_levels", epochs=len(module.groups))
    return module


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> StitchTunePhase:
    return tuned(tmp_path_factory.mktemp("usual"))


def pictures(module: StitchTunePhase) -> torch.Tensor:
    frames = np.concatenate([np.load(module.part_path(group)) for group in module.groups])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def error_levels(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> float:
    return LEVELS * masked_squared_error(x, y, mask).sqrt().item()


def test_the_bar_ends_full_and_no_fuller(tmp_path, monkeypatch) -> None:
    """A group takes several optimiser steps, and counts once."""
    shares = []

    class Watched(Progress):
        def update(self, *given: Any, **told: Any) -> None:
            super().update(*given, **told)
            assert self.tasks[0].total
            shares.append(self.tasks[0].completed / self.tasks[0].total)

    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress_bar, "Console", lambda **_: terminal)
    monkeypatch.setattr(progress_bar, "Progress", Watched)
    tuned(tmp_path, BRIEF)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_masked_error_by_hand() -> None:
    x, y = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    mask = torch.tensor([[[[1.0, 0], [0, 0]]]])
    assert masked_squared_error(x, y, mask) == 1
    assert masked_squared_error(x, y, torch.zeros_like(mask)) == 0


def test_groups_stay_within_scenes_and_cover_every_frame() -> None:
    groups = groups_of([range(0, 5), range(5, 7)], 2)
    assert [(g.positions, g.first) for g in groups] == [
        (range(0, 2), True),
        (range(2, 4), False),
        (range(4, 5), False),
        (range(5, 7), True),
    ]


def test_the_border_comes_nearer_and_the_content_stays(usual) -> None:
    result, frames = pictures(usual), load(range(TOTAL))
    before = error_levels(frames.edited, frames.source, frames.border)
    after = error_levels(result, frames.source, frames.border)
    moved = error_levels(result, frames.edited, frames.content)
    away = error_levels(frames.source, frames.edited, frames.content)
    assert after < 0.5 * before
    assert moved < 0.8 * away


def test_without_content_loss_the_content_moves_further(tmp_path, usual) -> None:
    loose = tuned(tmp_path, TuningConfig(**{**vars(QUICK), "lambda_content": 0.0}))
    frames = load(range(TOTAL))
    moved = [error_levels(pictures(m), frames.edited, frames.content) for m in (usual, loose)]
    assert moved[0] < moved[1]


def test_a_later_group_starts_from_the_one_before(tmp_path) -> None:
    """With as few steps, a warm start ends nearer."""
    frames = load(range(2, TOTAL))
    few = {**vars(QUICK), "steps_after": 2}
    cold = {**vars(QUICK), "steps": 2, "warm_start": False}
    results = {
        name: tuned(tmp_path / name, TuningConfig(**how)) for name, how in (("warm", few), ("cold", cold))
    }
    left = {k: error_levels(pictures(m)[2:], frames.source, frames.border) for k, m in results.items()}
    assert left["warm"] < 0.8 * left["cold"]


def test_a_scene_starts_anew(tmp_path) -> None:
    """The second scene is as if there were no first one."""
    whole = pictures(tuned(tmp_path / "whole", BRIEF, cuts=(4,)))
    alone = StitchTunePhase(tiny_generator(), [Group(range(4, 6), True)], BRIEF, tmp_path / "alone")
    fit(alone, group_loader(alone.groups, load), tmp_path / "c", CPU, "stitch", "border_levels", epochs=1)
    assert torch.equal(whole[4:], pictures(alone))


def test_near_enough_stops_early(tmp_path) -> None:
    module = tuned(tmp_path, TuningConfig(**{**vars(QUICK), "stop_levels": 250.0}))
    assert same_state(module.generator, state_copy(tiny_generator()))
    assert module.trainer.callback_metrics["steps"] == 0


def test_a_stopped_fit_goes_on_from_the_last_group(tmp_path) -> None:
    unbroken = pictures(tuned(tmp_path / "unbroken", BRIEF))
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "broken", BRIEF, stop_at=4)
    first = tmp_path / "broken" / "parts" / "00000000.npy"
    made = first.stat().st_mtime_ns
    assert not (tmp_path / "broken" / "parts" / "00000004.npy").exists()
    assert torch.equal(pictures(tuned(tmp_path / "broken", BRIEF)), unbroken)
    assert first.stat().st_mtime_ns == made


def test_checkpoints_hold_the_generator_alone(tmp_path) -> None:
    tuned(tmp_path, BRIEF)
    kept = torch.load(tmp_path / "checkpoint" / "last.ckpt", weights_only=True)
    assert all(name.startswith("generator.") for name in kept["state_dict"])
    assert not kept["optimizer_states"][0]["state"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"reach": 0.5},
        {"reach": 0.0, "edge": 0.0},
        {"lambda_border": -1.0},
    ],
)
def test_wrong_settings(wrong) -> None:
    with pytest.raises(ConfigError, match=r"stitch\.tuning"):
        TuningConfig(**wrong)
