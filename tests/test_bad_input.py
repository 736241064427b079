"""Bad input, from the command line: one clear message each, and exit code 1."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import Ended, train
from PIL import Image
from tiny_assets import write_assets
from tiny_family import face_clip
from videos import encode, moving_square

from tempcons.media.probe import probe
from tempcons.media.read import demo_clip, read_pyav
from tempcons.weights import assets

FRAMES = 6
QUICK = ["phase=direct", "inversion=encoder", "logger.wandb=disabled", "trainer.accelerator=cpu"]
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """Clips, good and bad, and small weights."""
    base = tmp_path_factory.mktemp("bad")
    face_clip(base, FRAMES)
    encode(base / "one.mp4", moving_square(1))
    encode(base / "nobody.mp4", moving_square(3, 96, 128))
    demo = probe(demo_clip())
    twins = np.stack([np.hstack([frame, frame]) for frame in read_pyav(demo, range(40, 43))])
    encode(base / "twins.mp4", twins)
    encode(base / "flashes.mp4", np.where(np.arange(6)[:, None, None, None] % 2, 230, twins[[0] * 6] // 8))
    whole = encode(base / "whole.mp4", moving_square(40), faststart=True).read_bytes()
    (base / "cut.mp4").write_bytes(whole[: int(0.7 * len(whole))])
    (base / "text.mp4").write_text("this is not a video")
    (base / "empty").mkdir()
    (base / "mixed").mkdir()
    for name, height in (("1", 48), ("2", 40)):
        Image.fromarray(moving_square(1)[0][:height]).save(base / "mixed" / f"{name}.png")
    gaps = np.load(base / "points.npy")
    gaps[2:4] = np.nan
    np.save(base / "gaps.npy", gaps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", write_assets(base / "assets"))
        yield base


@pytest.fixture
def run(place, tmp_path, capsys) -> Run:
    """``python train.py`` on the good clip, with changes; {0} in them is the fixture's folder."""

    def go(*changes: str) -> Ended:
        settings = [
            *QUICK,
            "clip=file",
            f"clip.path={place}/talk.mp4",
            f"align.landmarks_path={place}/points.npy",
            f"output.root={tmp_path}/outputs",
            f"output.cache={tmp_path}/cache",
        ]
        return train([*settings, *(change.format(place) for change in changes)], capsys)

    return go


DETECT = "align.landmarks_path=null"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["clip.path={0}/missing.mp4"], ["clip: no such file or folder", "missing.mp4"]),
        (["clip.path={0}/empty"], ["clip: no pictures in", ".png"]),
        (["clip.path={0}/text.mp4"], ["text.mp4", "not a video"]),
        (["clip.path={0}/cut.mp4"], ["cut.mp4", "cut short"]),
        (["clip.path={0}/one.mp4"], ["one.mp4 has 1 frame", "2 frames or more"]),
        (["clip.path={0}/mixed"], ["1.png is 64x48, 2.png is 64x40"]),
        (["clip.path={0}/nobody.mp4", DETECT], ["align: no face in any frame"]),
        (["clip.path={0}/twins.mp4", DETECT], ["align: two faces are equally prominent", "align.face=0"]),
        (["clip.path={0}/flashes.mp4"], ["clip: 6 of 6 scenes last a single frame", "continuous scenes"]),
        (["align.landmarks_path={0}/gaps.npy"], ["no face in frames 2-3", "on_missing=interpolate"]),
        (["clip.start=99"], ["clip.start=99 is beyond the end"]),
        (["clip.num_frames=1"], ["clip.num_frames=1"]),
        (["anchor=6"], ["anchor = 6 is not a frame of the clip (0..5)"]),
        (["anchor=-1"], ["anchor = -1 is not a frame"]),
        (["edit=suprised"], ["no edit named 'suprised'", "did you mean surprised"]),
        (["edit=depp"], ["depp does not exist for family=embedded", "ffhq"]),
        (["edit.domain=out"], ["surprised is a direction but edit.domain=out"]),
        (["edit.domain=sideways"], ["edit.domain = 'sideways'; known: in, out"]),
        (["edit=direction", "edit.file=nowhere.npy"], ["no file nowhere.npy"]),
        (["lambda_r=-1"], ["lambda_r = -1", "negative"]),
        (["lambda_eps=nan"], ["lambda_eps = nan", "finite"]),
        (["lamda_r=5"], ["no setting 'lamda_r'", "lambda_r"]),
        (["+lamda_r=5"], ["no setting 'lamda_r'", "lambda_r"]),
        (["phase=bth"], ["phase = 'bth'", "both"]),
        (["family=fhq"], ["no family named 'fhq'", "ffhq"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in value[0] else "",
)
def test_one_clear_error(run, changes, says):
    ended = run(*changes)
    assert ended.code == 1
    [message] = ended.errors
    assert all(part in message for part in says), message
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("policy", "edited"), [("interpolate", FRAMES), ("keep_original", FRAMES - 2)])
def test_a_face_missing_in_some_frames_is_no_error_where_the_policy_says_so(run, tmp_path, policy, edited):
    ended = run("align.landmarks_path={0}/gaps.npy", f"align.on_missing={policy}")
    assert (ended.code, ended.errors) == (0, [])
    [frames] = (tmp_path / "cache" / "edit").glob("*/frames.npy")
    assert len(np.load(frames)) == edited


def test_a_nearly_full_disk_is_told_before_anything_runs(run, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    ended = run()
    assert ended.code == 1 and "5 MB free" in ended.errors[0]
    assert not list(tmp_path.glob("cache/*"))


def test_a_disk_that_fills_up_in_the_middle_leaves_no_half_result(run, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "frames.npy")

    with monkeypatch.context() as patch:
        patch.setattr("tempcons.stages.edit.render_frames", full)
        ended = run()
    assert ended.code == 1 and "no space left on the disk (frames.npy)" in ended.errors[0]
    assert not list((tmp_path / "cache").glob("edit/*/manifest.json"))
    assert not (tmp_path / "outputs" / "latest").exists()
    assert run().code == 0


def test_an_unwritable_place(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    ended = run(f"output.cache={tmp_path}/file/cache")
    assert ended.code == 1 and "can't write to" in ended.errors[0]


def test_a_read_only_place(run, tmp_path, monkeypatch):
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", read_only)
    ended = run()
    assert ended.code == 1
    [message] = ended.errors
    assert "can't write to" in message and "Read-only file system" in message


def test_a_good_run_says_where_everything_is(run, tmp_path):
    ended = run()
    assert (ended.code, ended.errors) == (0, [])
    folder = (tmp_path / "outputs" / "latest").resolve()
    for line in ("video: {}/side_by_side.mp4", "report: {}/report.html", "everything: {}"):
        assert line.format(folder) in ended.out
    assert (folder / "report.html").exists() and (folder / "side_by_side.mp4").exists()
