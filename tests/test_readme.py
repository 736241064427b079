"""The ten commands of the README: each composes, and each runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import hydra_config
from videos import encode

from tempcons.cli import check_choices
from tempcons.media.probe import probe
from tempcons.media.read import demo_clip, read_pyav
from tempcons.pipeline import run
from tempcons.schema import Config, parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PREFIX = "python train.py"
FRAMES = 6
QUICK = [
    f"clip.num_frames={FRAMES}",
    "inversion.pivotal.steps=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    *(f"comparison.{domain}.phase{k}.epochs=1" for domain in ("in", "out") for k in (1, 2)),
    "logger.wandb=offline",
    "metrics.every_epochs=0",
    "trainer.accelerator=cpu",
]


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


def plain() -> list[str]:
    return [c for c in commands() if "--" not in c and "-m " not in c]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the README calls some.mp4 and folder/of/frames."""
    base = tmp_path_factory.mktemp("readme")
    video = probe(demo_clip())
    frames = np.stack(list(read_pyav(video, list(range(40, 40 + FRAMES)))))
    encode(base / "some.mp4", frames)
    folder = base / "folder" / "of" / "frames"
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    return base


def settings(job: list[str], base: Path, outputs: str = "outputs") -> list[str]:
    """The job with files that exist, small, and its results out of the way."""
    here = [a.replace("=some.mp4", f"={base}/some.mp4").replace("=folder/", f"={base}/folder/") for a in job]
    return [*here, *QUICK, f"output.root={base / outputs}", f"output.cache={base}/cache"]


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


@pytest.mark.parametrize("command", [c for c in commands() if "--" not in c])
def test_command_composes(command):
    for job in jobs(command):
        assert composed(job).phase in ("direct", "latent", "generator", "both")


@pytest.mark.slow
@pytest.mark.parametrize("command", plain())
def test_command_runs(command, place):
    config = composed(settings(arguments(command), place))
    folder = place / "outputs" / str(plain().index(command))
    assert run(config, folder)["e_warp"] > 0
    assert (folder / "side_by_side.mp4").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if "-m " in c])
def test_sweep_runs_every_job(command, place):
    """As a user would: one process, one folder a job."""
    extra = [*settings([], place, "sweep"), "compare=false", "logger.wandb=disabled"]
    done = subprocess.run(
        [sys.executable, "train.py", *arguments(command), *extra], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((place / "sweep").rglob("metrics.json"))) == len(jobs(command))


def test_commands_that_only_show_something():
    for command in commands():
        if "--" in command:
            done = subprocess.run(
                [sys.executable, "train.py", *arguments(command)], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0 and done.stdout, done.stderr


def test_make_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`+[^`]+`+", README)))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"


def test_links_to_files_of_the_project_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in link:
            assert (ROOT / link).exists(), link
