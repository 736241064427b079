"""The GPU session: arithmetic, commands, limits of what is sent."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile

import pytest

from experiments.zoo import faces, gpu_session
from experiments.zoo.gpu_session import TASKS, bring_back, command, count, pack, receive, train
from experiments.zoo.looks import LOOKS
from experiments.zoo.props import PROPS
from tempcons.check import ConfigError
from tempcons.weights.assets import ASSETS


def test_the_arithmetic_adds_up():
    table = count()
    forward = {name.split(",")[0]: row["gflop"] for name, row in table.items() if "forward" in name}
    step = table["gan, training step"]
    g, d = forward["generator"], forward["discriminator"]
    assert step["gflop"] == pytest.approx(3 * g + 8.375 * d + 1.5 * forward["encoder"])
    assert step["per_second_at_5%"] == pytest.approx(0.05 * 989e12 / (step["gflop"] * 1e9))
    assert 0.1 < g < 5 and 0.1 < d < 10


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("dry", [True, False])
def test_the_commands_are_understood(name, dry, tmp_path, monkeypatch):
    (tmp_path / "gan").symlink_to(ASSETS)
    call = command(name, 1.5, tmp_path, dry, 2)
    module = importlib.import_module(call[2])
    seen = {}

    def stop(args, size=128):
        seen.update(vars(args))
        raise InterruptedError

    monkeypatch.setattr(sys, "argv", call[2:])
    # A script's own number of threads would stay for the tests after this one.
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr("experiments.zoo.faces.from_arguments", stop)
    with pytest.raises(InterruptedError):
        module.main()
    if TASKS[name].total_minutes is None:
        assert seen["out"].parent == tmp_path / name and seen["device"] == ("cpu" if dry else "cuda")
        return
    assert seen["minutes"] == 1.5 and seen["steps"] == 2 and seen["out"] == tmp_path / name
    assert seen["accelerator"] == ("cpu" if dry else "gpu")


def test_every_look_and_thing_has_a_task():
    assert sorted(gpu_session.LOOKS) == sorted(LOOKS) and sorted(gpu_session.PROPS) == sorted(PROPS)


def test_chains_run_side_by_side_and_a_failed_piece_ends_its_own(tmp_path, monkeypatch, capsys):
    def stands_for(name, minutes, work, dry, steps):
        done = f"open(r'{work / name}' + '/samples.png', 'w').write('{minutes}')"
        return [sys.executable, "-c", "raise SystemExit(1)" if name == "encoder" else done]

    monkeypatch.setattr(gpu_session, "command", stands_for)
    with pytest.raises(SystemExit, match="encoder"):
        train(["gan:2", "encoder,refiner+look_elf"], tmp_path / "work", tmp_path / "out", True, 1)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {row["task"]: row["exit"] for row in told} == {"gan": 0, "encoder": 1, "look_elf": 0}
    with zipfile.ZipFile(tmp_path / "out" / "small.zip") as archive:
        assert set(archive.namelist()) == {"gan/samples.png", "look_elf/samples.png"}
        assert archive.read("gan/samples.png") == b"2.0"


def test_small_files_come_back_as_one_and_too_large_ones_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "work" / "gan"
    (folder / "parts").mkdir(parents=True)
    (folder / "generator.safetensors").write_bytes(b"0" * 3000)
    (folder / "parts" / "part0.safetensors").write_bytes(b"0" * 3000)
    (folder / "samples.png").write_bytes(b"0" * 10)
    monkeypatch.setattr(gpu_session, "SMALL_MIB", 2000 / 2**20)
    (folder / "encoder.safetensors").write_bytes(b"0" * 3000)

    def brought(*names):
        bring_back(list(names), tmp_path / "work", tmp_path / "out")
        return {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}

    sent = {"gan/generator.safetensors", "gan/parts/part0.safetensors", "small.zip"}
    assert brought("gan") == sent | {"gan/encoder.safetensors"}
    # A later encoder went on from it.
    (tmp_path / "work" / "encoder").mkdir()
    assert brought("gan", "encoder") == sent
    monkeypatch.setattr(gpu_session, "FILE_MIB", 2500 / 2**20)
    with pytest.raises(ConfigError, match="MiB"):
        brought("gan")


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
    monkeypatch.setattr(gpu_session, "pack_wheels", lambda target: None)
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
