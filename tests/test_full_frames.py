"""``phase=full``: from a video with sound to the same video with another face, small and random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tiny import hydra_config
from tiny_family import direction, face_clip, tiny_family

from tempcons import pipeline
from tempcons.check import ConfigError, InputError
from tempcons.media.probe import probe
from tempcons.media.read import read_pyav
from tempcons.schema import parse
from tempcons.stages.clip import ClipConfig
from tempcons.stages.clip import run as read_clip
from tempcons.stages.full_frame import check_room
from tempcons.stages.full_frame_picture import COLUMN, GAP, LABEL_HEIGHT, around
from tempcons.store.artefact import Store

FRAMES = 6
QUICK = (
    "clip=file",
    "edit=direction",
    "compare=false",
    "inversion.pivotal.steps=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    "metrics.every_epochs=0",
    "logger.wandb=disabled",
    "trainer.accelerator=cpu",
)
GAPS = [k * COLUMN + (k - 1) * GAP + g for k in (1, 2) for g in range(GAP)]
TUNING = ("stitch.tuning.steps=4", "stitch.tuning.steps_after=2")


@dataclass(frozen=True)
class Done:
    """A finished run."""

    folder: Path
    source: Path
    figures: dict[str, float]

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())


Go = Callable[..., Done]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def go(base) -> Iterator[Go]:
    """Runs the pipeline on a tiny clip with a tiny family; ``how`` goes to the clip's encoder."""

    def run(name: str, *overrides: str, **how: Any) -> Done:
        place = base / name if how else base
        place.mkdir(exist_ok=True)
        source, points = face_clip(place, FRAMES, **({"sound_s": 0.24} | how))
        quick = QUICK if "stitch=poisson" in overrides else (*QUICK, *TUNING)
        settings = [
            *quick,
            f"clip.path={source}",
            f"align.landmarks_path={points}",
            f"edit.file={direction(base)}",
            f"output.root={base / 'outputs'}",
            f"output.cache={base / 'cache'}",
            *overrides,
        ]
        folder = base / "outputs" / name
        return Done(folder, source, pipeline.run(parse(hydra_config(settings)), folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_family", lambda *_: tiny_family())
        yield run


@pytest.fixture(scope="module")
def full(go) -> Done:
    return go("full", "phase=full")


@pytest.fixture(scope="module")
def blended(go) -> Done:
    return go("blended", "phase=stitch", "stitch=poisson", "render.lossless=true")


def pictures(path: Path) -> np.ndarray:
    video = probe(path)
    return np.stack(list(read_pyav(video, range(len(video))))).astype(int)


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def lengths_s(path: Path) -> list[float]:
    """Seconds that the picture and the whole file last."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration and stream.time_base and container.duration
        return [float(stream.duration * stream.time_base), container.duration / av.time_base]


def test_the_whole_way_ends_with_the_same_video_but_for_the_face(full):
    was, now = probe(full.source), probe(full.folder / "full.mp4")
    assert (now.size, now.fps, len(now), now.colour) == (was.size, was.fps, len(was), was.colour)
    np.testing.assert_allclose(now.timestamps_s, was.timestamps_s, atol=1e-4)
    assert sound(full.folder / "full.mp4") == sound(full.source)
    change = np.abs(pictures(full.folder / "full.mp4") - pictures(full.source)).max(-1)
    assert change[:, 40:, 52:].mean() < 4 < change[:, 12:32, 22:38].mean()
    with av.open(str(full.folder / "full.mp4")) as container:
        assert "Edited video" in container.metadata["comment"]
        assert "direction, embedded, recipe tempcons, phase full" in container.metadata["edit"]


def test_aligned_videos_figures_and_page_are_there_too(full):
    for name in ("input", "direct", "phase1", "phase2", "side_by_side", "full_side_by_side"):
        assert len(probe(full.folder / f"{name}.mp4")) == FRAMES, name
    figures = full.json("metrics.json")["full_frame"]
    for name in ("source", "direct_pasted", "stitched"):
        assert figures[name]["e_warp"] >= 0
    for name in ("direct_pasted", "blend_only", "stitched"):
        assert figures[name]["seam_jump"] > 0 and figures[name]["border_flicker"] >= 0
    assert figures["conditions"]["e_warp"]["size"] == "64x48"
    assert full.figures["full_e_warp"] == figures["stitched"]["e_warp"]
    assert full.figures["e_warp"] == full.json("metrics.json")["phase2"]["e_warp"]
    page = (full.folder / "report.html").read_text()
    assert "Alignment and full frames" in page and "Shake of the crop" in page and "blend only" in page


def test_a_still_shows_source_pasted_edit_and_result(full):
    sheet = np.asarray(Image.open(full.folder / "full_frames.png"), dtype=int)
    source, pasted, stitched = np.split(np.delete(sheet, GAPS, axis=1), 3, axis=1)
    height = round(COLUMN * 48 / 64)
    far = slice(LABEL_HEIGHT + height - 40, LABEL_HEIGHT + height), slice(COLUMN - 60, COLUMN)
    for picture in (pasted, stitched):
        assert (source[far] == picture[far]).all()
        assert np.abs(source - picture)[LABEL_HEIGHT:].max() > 20
    assert len(sheet) == LABEL_HEIGHT + height + GAP + COLUMN


def test_a_close_up_stays_within_the_frame():
    quad = np.array([[-10.0, -4], [-10, 16], [10, 16], [10, -4]])
    assert around(quad, (48, 64), 1.5) == (slice(0, 30), slice(0, 30))
    assert around(quad + np.array([40, 20]), (48, 64), 1.5) == (slice(11, 41), slice(25, 55))
    assert around(quad, (24, 64), 9) == (slice(0, 24), slice(0, 24))


def test_the_manifest_says_how_the_face_was_found_and_put_back(full):
    manifest = full.json("manifest.json")
    assert [s["stage"] for s in manifest["stages"]][-3:] == ["phase3", "stitch", "full_frame"]
    assert manifest["outputs"]["full"] == "full.mp4"
    alignment = manifest["alignment"]
    assert alignment["face_region"] == "ellipse around 5 landmarks"
    assert alignment["missing"] == alignment["cuts"] == []
    assert 0 <= alignment["jitter_px"]["after"] <= alignment["jitter_px"]["before"] + 1e-9


def test_a_second_run_reuses_everything_and_says_where_the_video_is(go, full, capsys):
    again = go("again", "phase=full")
    assert all(s["reused"] for s in again.json("manifest.json")["stages"])
    said = capsys.readouterr().out
    assert "full frames" in said and "full.mp4" in said


def test_stitch_alone_puts_the_direct_edit_back(go, full):
    done = go("stitch", "phase=stitch")
    assert {"direct", "full_frame"} <= set(done.json("metrics.json"))
    assert "phase2" not in done.json("metrics.json")
    stages = [s["stage"] for s in done.json("manifest.json")["stages"]]
    assert "phase3" in stages and "phase2" not in stages


def test_blending_needs_no_tuning(blended):
    assert "phase3" not in [s["stage"] for s in blended.json("manifest.json")["stages"]]
    assert "blend_only" not in blended.json("metrics.json")["full_frame"]


def test_other_phases_stay_with_the_aligned_video(go):
    done = go("direct", "phase=direct")
    assert not (done.folder / "full.mp4").exists()
    assert "full_frame" not in done.json("metrics.json")


def test_a_label_is_seen_and_lossless_is_exact(go, blended):
    label = go("label", "phase=stitch", "stitch=poisson", "render.lossless=true", "render.label=true").folder
    changed = (pictures(blended.folder / "full.mp4") != pictures(label / "full.mp4")).any((0, 3))
    assert changed[24:].any() and not changed[:24].any()


def test_a_variable_rate_stays(go):
    times = [0, 900, 3000, 4100, 7700, 9000]
    done = go("vfr", "phase=stitch", "stitch=poisson", times=times, rate=90000, sound_s=0)
    was, now = probe(done.source), probe(done.folder / "full.mp4")
    assert not was.constant_rate
    np.testing.assert_allclose(now.timestamps_s, was.timestamps_s - was.timestamps_s[0], atol=1 / 45000)
    np.testing.assert_allclose(lengths_s(now.path), lengths_s(was.path), atol=1 / float(was.fps))


def test_a_rotated_clip_comes_back_as_it_is_seen(go):
    done = go("turned", "phase=stitch", "stitch=poisson", rotation=180)
    source, result = pictures(done.source), pictures(done.folder / "full.mp4")
    assert source.shape == result.shape
    assert np.abs(source - result).max(-1)[:, 40:, 52:].mean() < 4


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("gray", {"pixel_format": "gray"}),
        ("ten_bits", {"pixel_format": "yuv420p10le"}),
        ("odd", {"pixel_format": "yuv444p", "size": (47, 63)}),
        ("long_sound", {"sound_s": 1.0}),
    ],
)
def test_unusual_videos_come_back_as_they_were(go, name, how):
    done = go(name, "phase=stitch", "stitch=poisson", **how)
    was, now = probe(done.source), probe(done.folder / "full.mp4")
    assert (now.size, now.fps, len(now)) == (was.size, was.fps, len(was))
    assert sound(now.path) == sound(was.path)
    np.testing.assert_allclose(lengths_s(now.path), lengths_s(was.path), atol=1 / float(was.fps))
    source, result = pictures(done.source), pictures(now.path)
    assert np.abs(source - result).max(-1)[:, 40:, 52:].mean() < 4


def test_out_of_domain_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"border can be tuned.*3\.4.*stitch=feather or stitch=poisson"):
        parse(hydra_config(["phase=full", "edit=nada_sketch"]))
    for overrides in (["phase=full", "stitch=feather"], ["phase=both"]):
        assert parse(hydra_config([*overrides, "edit=nada_sketch"])).edit.domain == "out"


def test_too_little_room_for_full_frames_is_known_before_the_costly_stages(tmp_path, monkeypatch):
    clip = read_clip(ClipConfig(str(face_clip(tmp_path)[0])), Store(tmp_path / "cache"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(InputError, match="needed for full frames"):
        check_room(clip, tmp_path)


@pytest.mark.parametrize(
    "wrong", ["stitch.mode=poison", "stitch.tuning.batch=0", "stitch.tuning.lr=0", "render.crf=99"]
)
def test_wrong_settings_are_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=wrong.split("=")[0]):
        parse(hydra_config([wrong]))
