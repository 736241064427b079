"""The command line: near names, exit codes, and the help."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tempcons.check import ConfigError, InputError, near_names
from tempcons.cli import check_choices, expand_arguments, report_errors

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("edit=nada_sketsh", "nada_sketch"),
        ("edit=suprised", "surprised"),
        ("recipe=papr", "paper"),
        ("family=embeded", "embedded"),
        ("inversion=ptii", "pti"),
        ("edit=surprised,hapy", "happy"),
        ("lamda_r=5", "lambda_r"),
        ("+lamda_r=5", "lambda_r"),
        ("recipies.in.alpha=0.1", "recipe"),
        ("inversions=pti", "inversion"),
        ("~seeed=0", "seed"),
    ],
)
def test_unknown_choice_suggests_near_names(argument, near):
    with pytest.raises(ConfigError, match=f"did you mean .*{near}"):
        check_choices([argument], CONF)


def test_choice_like_nothing_lists_all():
    with pytest.raises(ConfigError, match=r"known: .*angry.*happy.*surprised"):
        check_choices(["edit=xyzxyzxyz"], CONF)


def test_good_choices_and_plain_settings_pass():
    check_choices(["edit=surprised", "phase=both", "clip.path=some.mp4", "-m", "lambda_r=50,200"], CONF)
    check_choices(["edit=surprised,happy", "recipe=paper", "--help"], CONF)
    check_choices(
        ["hydra/launcher=joblib", "hydra.run.dir=x", "recipe@comparison=paper", "-cn", "other"], CONF
    )
    check_choices(["comparison.in.lambda_r=3", "+edit.alpha.paper=0.1", "~clip.path", "++seed=1"], CONF)


def test_near_names_by_hand():
    assert near_names("paperr", ["paper", "tempcons"]) == "did you mean paper?"
    assert near_names("q", ["b", "a"]) == "known: a, b"


def test_printed_settings_show_values():
    assert expand_arguments(["train.py", "--cfg", "job"])[-1] == "--resolve"
    assert expand_arguments(["train.py", "edit=happy"]) == ["train.py", "edit=happy"]
    assert expand_arguments(["train.py", "-c", "job", "--resolve"]).count("--resolve") == 1


def test_a_sweep_may_be_asked_for_anywhere():
    assert expand_arguments(["train.py", "seed=0", "-m", "alpha=1,2"]) == [
        "train.py",
        "-m",
        "seed=0",
        "alpha=1,2",
    ]


@pytest.mark.parametrize("argument", ["clip.path=a (1).mp4", "alpha=range(1,2", "alpha=0.1,", "edit=["])
def test_a_value_that_cannot_be_read_names_its_quotes(argument):
    name, _, value = argument.partition("=")
    with pytest.raises(ConfigError, match="can't read") as found:
        check_choices(["--cfg", "job", argument], CONF)
    assert f"{name}=\"'{value}'\"" in str(found.value) and "\n" not in str(found.value)
    check_choices([f"clip.path='{value}'"], CONF)


def exit_code(error: BaseException) -> object:
    with pytest.raises(SystemExit) as stop, report_errors():
        raise error
    return stop.value.code


def test_user_errors_are_one_message_and_code_1(capsys):
    assert exit_code(InputError("clip", "no such file: x.mp4", "check clip.path")) == 1
    shown = capsys.readouterr().err
    assert shown == "error: clip: no such file: x.mp4; check clip.path\n"


def test_ctrl_c_says_how_to_go_on(capsys):
    assert exit_code(KeyboardInterrupt()) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_full_disk_is_a_user_error(capsys):
    assert exit_code(OSError(errno.ENOSPC, "No space left on device", "frames.npy")) == 1
    assert "no space left" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), ValueError("a fault of the program")])
def test_faults_keep_their_traceback(error):
    with pytest.raises(type(error)), report_errors():
        raise error


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )


def test_help_lists_edits_families_phases():
    done = call("--help")
    assert done.returncode == 0, done.stderr
    for edit in (CONF / "edit").glob("*.yaml"):
        assert edit.stem in done.stdout
    for name in ("family: ", "embedded", "direct", "latent", "generator", "both", "recipe: "):
        assert name in done.stdout


def test_unknown_edit_ends_with_one_line_and_code_1():
    done = call("edit=suprised")
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "surprised" in done.stderr


@pytest.mark.slow
def test_missing_clip_ends_with_one_message_and_code_1(tmp_path):
    done = call("clip.path=missing.mp4", f"output.root={tmp_path}/o", f"output.cache={tmp_path}/c")
    assert done.returncode == 1, done.stderr
    assert "error: clip: no such file or folder: missing.mp4" in done.stderr
    assert "Traceback" not in done.stderr
