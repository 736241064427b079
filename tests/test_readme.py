"""The ten commands of the README: each composes, and each runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import train
from PIL import Image
from tiny import hydra_config
from tiny_assets import write_assets
from videos import encode

from tempcons.cli import check_choices
from tempcons.media.probe import probe
from tempcons.media.read import demo_clip, read_pyav
from tempcons.schema import PHASES, Config, parse
from tempcons.sweep import callback
from tempcons.weights import assets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PREFIX = "python train.py"
FRAMES = 6
# What makes a command short; a setting that the command itself names stays as it is there.
QUICK = [
    f"clip.num_frames={FRAMES}",
    "inversion.pivotal.steps=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    *(f"comparison.{domain}.phase{k}.epochs=1" for domain in ("in", "out") for k in (1, 2)),
    "metrics.every_epochs=0",
    "trainer.accelerator=cpu",
]
# Files that the README talks of, what needs an account and a network, and a length that is long here.
STAND_INS = {
    "=some.mp4": "={base}/some.mp4",
    "=folder/": "={base}/folder/",
    "logger.wandb=online": "logger.wandb=offline",
    "clip.num_frames=60": f"clip.num_frames={FRAMES}",
}


def commands() -> list[str]:
    """First cells of the table: ``python train.py ...`` in backticks."""
    return re.findall(rf"^\|\s*`({re.escape(PREFIX)}[^`]*)`\s*\|", README, flags=re.MULTILINE)


def arguments(command: str) -> list[str]:
    return shlex.split(command.removeprefix(PREFIX))


def jobs(command: str) -> list[list[str]]:
    """The overrides of every job that a command starts."""
    given = arguments(command)
    if "-m" not in given:
        return [given]
    choices = [[f"{k}={v}" for v in vs.split(",")] for k, vs in (a.split("=") for a in given if a != "-m")]
    return [list(job) for job in product(*choices)]


def kind(command: str) -> str:
    """ "shows" something, is a "sweep", or "runs" once."""
    given = arguments(command)
    return "shows" if any(a.startswith("--") for a in given) else "sweep" if "-m" in given else "runs"


def of_kind(wanted: str) -> list[str]:
    return [command for command in commands() if kind(command) == wanted]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder with what the README calls some.mp4 and folder/of/frames; networks that take no time."""
    base = tmp_path_factory.mktemp("readme")
    video = probe(demo_clip())
    frames = np.stack(list(read_pyav(video, list(range(40, 40 + FRAMES)))))
    encode(base / "some.mp4", frames)
    folder = base / "folder" / "of" / "frames"
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", write_assets(base / "assets"))
        yield base


def quick(given: list[str], base: Path, root: Path) -> list[str]:
    """The command's arguments with files that exist, small, and its results out of the way."""
    named = {argument.partition("=")[0] for argument in given}
    told = [stand_in(argument, base) for argument in given]
    added = [setting for setting in QUICK if setting.partition("=")[0] not in named]
    return [*told, *added, f"output.root={root}", f"output.cache={base}/cache"]


def stand_in(argument: str, base: Path) -> str:
    for said, meant in STAND_INS.items():
        argument = argument.replace(said, meant.format(base=base))
    return argument


def composed(job: list[str]) -> Config:
    check_choices(job, ROOT / "conf")
    return parse(hydra_config(job))


def test_there_are_ten_and_they_differ():
    assert len(commands()) == len(set(commands())) == 10


def test_the_promised_ones_are_among_them():
    for wanted in ("edit=nada_sketch phase=both", "edit=surprised phase=both", "--help"):
        assert f"{PREFIX} {wanted}" in commands()
    assert any("-m " in c and "lambda_r=" in c and "alpha=" in c for c in commands())
    assert any("clip.path=some.mp4" in c for c in commands())
    assert any("clip.path=folder/of/frames" in c for c in commands())


@pytest.mark.parametrize("command", of_kind("runs") + of_kind("sweep"))
def test_command_composes(command):
    for job in jobs(command):
        assert composed(job).phase in PHASES


@pytest.mark.slow
@pytest.mark.parametrize("command", of_kind("runs"))
def test_command_runs(command, place, tmp_path, capsys):
    """Through train.py to the report; figures of such networks mean nothing, those of the real ones are
    looked at elsewhere."""
    ended = train(quick(arguments(command), place, tmp_path), capsys)
    assert ended.code == 0, ended.err[-2000:]
    folder = (tmp_path / "latest").resolve()
    assert str(folder) in ended.out
    for name in ("side_by_side.mp4", "report.html", "metrics.json"):
        assert (folder / name).stat().st_size > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["clip"]["frame_ids"]) == FRAMES
    wanted = composed([stand_in(a, place) for a in arguments(command)])
    found = manifest["settings"]
    for name in ("phase", "compare", "clip.path", "edit.name", "recipe.name"):
        assert leaf(found, name) == leaf(wanted.composed, name), name


def leaf(settings: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        settings = settings[part]
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("command", of_kind("sweep"))
def test_sweep_runs_every_job(command, place, tmp_path, capsys, monkeypatch):
    at_exit: list[Callable[[], None]] = []
    register = SimpleNamespace(register=lambda end, *given: at_exit.append(partial(end, *given)))
    monkeypatch.setattr(callback, "atexit", register)
    less = ["compare=false", "logger.wandb=disabled"]
    ended = train([*quick(arguments(command), place, tmp_path), *less], capsys)
    assert ended.code == 0, ended.err[-2000:]
    assert len(list(tmp_path.rglob("metrics.json"))) == len(jobs(command)) > 1
    for end in at_exit:
        end()
    assert f"{len(jobs(command))} done" in capsys.readouterr().err


@pytest.mark.parametrize("command", of_kind("shows"))
def test_command_shows(command, capsys):
    ended = train(arguments(command), capsys)
    assert ended.code == 0 and "python train.py" in ended.out


def test_make_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`+[^`]+`+", README)))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"


def test_links_to_files_of_the_project_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in link:
            assert (ROOT / link).exists(), link


def test_the_main_table_is_one_of_the_results():
    shown = [
        line for line in README.splitlines() if line.startswith(("| edit |", "| surprised |", "| Sketch |"))
    ]
    kept = (ROOT / "experiments" / "results" / "table3.md").read_text().splitlines()
    assert len(shown) == 13 and set(shown) <= set(kept)
