"""The GPU session: arithmetic, commands, limits of what is sent."""

from __future__ import annotations

import importlib
import sys

import pytest

from experiments.zoo import faces, gpu_session
from experiments.zoo.gpu_session import TASKS, bring_back, command, count, pack, receive, train
from tempcons.check import ConfigError


def test_the_arithmetic_adds_up():
    table = count()
    forward = {name.split(",")[0]: row["gflop"] for name, row in table.items() if "forward" in name}
    step = table["gan, training step"]
    g, d = forward["generator"], forward["discriminator"]
    assert step["gflop"] == pytest.approx(4 * g + 8.375 * d)
    assert step["per_second_at_5%"] == pytest.approx(0.05 * 989e12 / (step["gflop"] * 1e9))
    assert 0.1 < g < 5 and 0.1 < d < 10


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("dry", [True, False])
def test_the_commands_are_understood(name, dry, tmp_path, monkeypatch):
    call = command(name, 1.5, tmp_path, dry, 2)
    module = importlib.import_module(call[2])
    seen = {}

    def stop(args, size=128):
        seen.update(vars(args))
        raise InterruptedError

    monkeypatch.setattr(sys, "argv", call[2:])
    monkeypatch.setattr("experiments.zoo.faces.from_arguments", stop)
    with pytest.raises(InterruptedError):
        module.main()
    assert seen["minutes"] == 1.5 and seen["steps"] == 2 and seen["out"] == tmp_path / name
    assert seen["accelerator"] == ("cpu" if dry else "gpu")


def test_small_files_come_back_as_one_and_too_large_ones_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "work" / "gan"
    (folder / "parts").mkdir(parents=True)
    (folder / "generator.safetensors").write_bytes(b"0" * 3000)
    (folder / "parts" / "part0.safetensors").write_bytes(b"0" * 3000)
    (folder / "samples.png").write_bytes(b"0" * 10)
    monkeypatch.setattr(gpu_session, "SMALL_MIB", 2000 / 2**20)
    bring_back("gan", tmp_path / "work", tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert names == {"gan/generator.safetensors", "gan/parts/part0.safetensors", "gan/small.zip"}
    monkeypatch.setattr(gpu_session, "FILE_MIB", 2500 / 2**20)
    with pytest.raises(ConfigError, match="MiB"):
        bring_back("gan", tmp_path / "work", tmp_path / "out")


def test_an_unknown_task_is_named(tmp_path):
    with pytest.raises(ConfigError, match="gan"):
        train(["gam:1"], tmp_path, tmp_path / "out", True, 1)


def test_parts_gather_on_the_disk(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part}.faces").write_bytes(b"1")
        (tmp_path / part / "site").mkdir()
        receive(tmp_path / part, tmp_path / "work")
    assert {p.name for p in (tmp_path / "work" / "faces").iterdir()} == {"a.faces", "b.faces"}
    assert (tmp_path / "work" / "site").is_dir()


def test_every_call_carries_what_fits(face_folder, tmp_path, monkeypatch, capsys):
    def packages(target):
        target.mkdir(parents=True)
        (target / "weights").write_bytes(b"0" * 30_000)

    place, labels = face_folder / "pictures", face_folder / "labels.csv"
    tree = 100_000
    monkeypatch.setattr(gpu_session, "pack_packages", packages)
    monkeypatch.setattr(gpu_session, "tracked_bytes", lambda: tree)
    monkeypatch.setattr(gpu_session, "MIB", 10_000)
    monkeypatch.setattr(gpu_session, "SENT_MIB", 30.0)
    pack(place, labels, tmp_path / "sent", None)
    folders = sorted((tmp_path / "sent").iterdir())
    assert len(folders) > 1 and (folders[0] / "labels.csv").exists() and (folders[0] / "site").exists()
    for folder in folders:
        assert tree + sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 300_000
        receive(folder, tmp_path / "work")
    assert len(faces.read(tmp_path / "work" / "faces").pictures) == len(list(place.iterdir()))
    monkeypatch.setattr(gpu_session, "SENT_MIB", 12.0)
    with pytest.raises(ConfigError, match="no room"):
        pack(place, labels, tmp_path / "sent", None)
