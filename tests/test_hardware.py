"""Hardware presets, and what is said when memory runs out."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from command_line import ROOT, train
from composed import parsed

from tempcons import pipeline
from tempcons.check import TempconsError
from tempcons.runtime import PRESETS_GB, memory_explained
from tempcons.training.settings import TrainerConfig

PRESETS = ["auto", "cpu", *PRESETS_GB]


def test_the_default_is_neutral():
    assert parsed().trainer == TrainerConfig()


def test_every_preset_is_known_to_the_message_and_says_every_setting():
    assert {path.stem for path in (ROOT / "conf" / "hardware").glob("*.yaml")} == set(PRESETS)
    for name in PRESETS:
        config = parsed(f"hardware={name}")
        told = {k: v for k, v in config.composed["hardware"].items() if k != "name"}
        assert config.composed["hardware"]["name"] == name
        assert told.items() <= asdict(config.trainer).items()


def test_presets_keep_less_the_smaller_they_are():
    sizes = [parsed(f"hardware={name}").trainer for name in PRESETS_GB]
    assert [t.pairs_per_step for t in sizes] == sorted((t.pairs_per_step for t in sizes), reverse=True)
    assert [t.checkpointing for t in sizes] == sorted(t.checkpointing for t in sizes)
    assert all(t.precision == "bf16-mixed" and t.channels_last and t.fused_adam for t in sizes)


def test_a_setting_by_itself_wins_over_the_preset():
    assert parsed("hardware=80gb", "trainer.precision=32-true").trainer.precision == "32-true"


def test_several_pairs_a_step_raise_the_rate_by_the_rule():
    one, two = parsed("hardware=24gb"), parsed("hardware=80gb")
    assert two.hyper.phase2.lr == pytest.approx(one.hyper.phase2.lr * 2**0.5)
    assert one.hyper.phase2.kernel_lr and two.hyper.phase2.kernel_lr == pytest.approx(
        one.hyper.phase2.kernel_lr * 2**0.5
    )
    assert two.comparison is not None and one.comparison is not None
    assert two.comparison.phase1.lr == pytest.approx(one.comparison.phase1.lr * 2**0.5)


@pytest.mark.parametrize(("name", "below"), [("80gb", "24gb"), ("24gb", "12gb"), ("12gb", "8gb")])
def test_out_of_memory_names_the_next_smaller_preset(name, below):
    with (
        pytest.raises(TempconsError, match=f"memory: CUDA is full; set hardware={below}"),
        memory_explained(name),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA is full\nmuch advice")


def test_out_of_memory_with_the_smallest_preset():
    with pytest.raises(TempconsError, match=r"family\.flow\.size"), memory_explained("8gb"):
        raise torch.cuda.OutOfMemoryError("CUDA is full")


def test_out_of_memory_without_a_preset_goes_by_the_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(total_memory=15.7 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    with pytest.raises(TempconsError, match="hardware=12gb"), memory_explained("auto"):
        raise torch.cuda.OutOfMemoryError("CUDA is full")


def test_a_cpu_that_is_out_of_memory():
    with pytest.raises(TempconsError, match=r"clip\.num_frames"), memory_explained("cpu"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e15 bytes")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_explained("8gb"):
        raise RuntimeError("shapes differ")


def test_a_run_that_is_out_of_memory_ends_with_one_line(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(pipeline, "run", full)
    places = [
        f"output.root={tmp_path / 'o'}",
        f"output.cache={tmp_path / 'c'}",
        f"hydra.run.dir={tmp_path / 'r'}",
    ]
    presets = ["hardware=24gb", "trainer.accelerator=cpu"]
    ended = train([*places, *presets, "clip.num_frames=2"], capsys)
    assert ended.code == 1
    [line] = ended.errors
    assert "Tried to allocate 2.00 GiB" in line and "hardware=12gb" in line
