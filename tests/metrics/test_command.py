"""python -m tempcons.metrics: any folder or video, and one clear message for bad input."""

import csv
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tempcons.metrics.__main__ import main

FRAMES, HEIGHT, WIDTH = 6, 32, 48


def moving(noise: float, frames: int = FRAMES, width: int = WIDTH) -> np.ndarray:
    random = np.random.default_rng(0)
    coarse = np.asarray(
        Image.fromarray(random.integers(40, 216, (6, 12, 3), dtype=np.uint8)).resize((96, 48))
    )
    clean = np.stack([coarse[8 : 8 + HEIGHT, t : t + width] for t in range(frames)])
    return (clean + noise * random.standard_normal(clean.shape)).clip(0, 255).astype(np.uint8)


def write_folder(path: Path, frames: np.ndarray) -> Path:
    path.mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{t}.png")
    return path


def write_video(path: Path, frames: np.ndarray) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=Fraction(25), options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clips(tmp_path) -> dict[str, Path]:
    return {
        "clean": write_folder(tmp_path / "clean", moving(0)),
        "noisy": write_folder(tmp_path / "noisy", moving(8)),
        "video": write_video(tmp_path / "clean.mp4", moving(0)),
        "short": write_folder(tmp_path / "short", moving(0, frames=4)),
        "narrow": write_folder(tmp_path / "narrow", moving(0, width=40)),
        "single": write_folder(tmp_path / "single", moving(0, frames=1)),
    }


def test_folder_against_reference_and_input(clips, tmp_path, capsys):
    arguments = [clips["clean"], "--reference", clips["noisy"], "--input", clips["clean"]]
    assert main([*map(str, arguments), "--anchor", "1", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    for column in ("e_warp", "e_long", "distance", "sharpness", "motion", "dis-medium-x2", "farneback"):
        assert column in shown
    whole = json.loads((tmp_path / "out/metrics.json").read_text())
    summary = whole["clips"]["clean"]["summary"]
    assert 0 < summary["e_warp"] == summary["e_warp_input_flow"] < 1e-3
    assert summary["sharpness"] < 1 and summary["distance"] > 0
    with (tmp_path / "out/per_frame.csv").open() as file:
        assert [row["frame"] for row in csv.DictReader(file)] == [str(t) for t in range(FRAMES)]
    with (tmp_path / "out/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["size"] == "48x32" for row in rows)
    assert {row["flow_network"] for row in rows if row["metric"] == "e_warp"} == {
        "dis-medium-x2",
        "farneback-w15-x1",
    }


def test_video_file_gives_the_numbers_of_its_frames(clips, tmp_path):
    for name, out in (("clean", "a"), ("video", "b")):
        assert main([str(clips[name]), "--out", str(tmp_path / out)]) == 0
    folder, video = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in "ab")
    assert video["clips"]["clean"]["summary"] == folder["clips"]["clean"]["summary"]


def test_without_reference_nothing_relative_is_shown(clips, tmp_path, capsys):
    assert main([str(clips["noisy"]), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "sharpness_abs" in shown and "motion_px" in shown
    summary = json.loads((tmp_path / "out/metrics.json").read_text())["clips"]["noisy"]["summary"]
    assert not {"distance", "sharpness", "motion", "flicker"} & summary.keys()


def test_several_clips_have_an_interval(clips, tmp_path, capsys):
    videos = [str(clips["clean"]), str(clips["noisy"])]
    assert main([*videos, "--metrics", "e_warp", "--size", "40", "--out", str(tmp_path / "out")]) == 0
    assert "mean, 95%" in capsys.readouterr().out
    whole = json.loads((tmp_path / "out/metrics.json").read_text())
    interval = whole["over_clips"]["dis-medium-x2"]["e_warp"]
    values = [clip["summary"]["e_warp"] for clip in whole["clips"].values()]
    assert interval["clips"] == 2 and interval["low"] == min(values) and interval["high"] == max(values)
    assert whole["clips"]["clean"]["conditions"]["e_warp"]["size"] == "40x27"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clean", "--metrics", "e_wrap"], "no metric named 'e_wrap'; did you mean e_warp"),
        (["clean", "--metrics", "distance"], "--reference"),
        (["clean", "--metrics", "e_warp_lai2018"], "--input"),
        (["clean", "--reference", "short"], "clean has 6 frames"),
        (["clean", "--reference", "narrow"], "48x32 pixels"),
        (["clean", "--input", "short"], "short has 4"),
        (["clean", "noisy", "--reference", "clean"], "2 videos but 1 given with --reference"),
        (["clean", "clean"], "given twice"),
        (["single"], "single has 1 frame"),
        (["missing"], "no such file or folder"),
        (["clean", "--anchor", "6"], "anchor 6 is not among 6 frames"),
        (["clean", "--flow", "dis-mediun-x2"], "did you mean medium"),
        (["clean", "--flow", "raft-large-12"], "needs weights"),
        (["clean", "--flow", "spynet"], "no flow network named 'spynet'"),
        (["clean", "--size", "500"], "smaller than the size 500"),
        (["clean", "--size", "0"], "--size 0"),
        (["clean", "--level", "95"], "--level 95"),
        (["clean", "--out", "video"], "is a file"),
    ],
)
def test_bad_input_is_one_message(clips, tmp_path, capsys, arguments, message):
    known = {**clips, "missing": tmp_path / "missing"}
    assert main([str(known.get(argument, argument)) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_exit_code_of_the_command(tmp_path):
    command = [sys.executable, "-m", "tempcons.metrics", str(tmp_path / "nothing.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "nothing.mp4" in done.stderr
