from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from videos import encode, moving_square

from tempcons.check import ConfigError
from tempcons.geometry.quad import CropRule
from tempcons.media.frames import FrameStore
from tempcons.media.probe import probe
from tempcons.media.write import settings_like, write_video
from tempcons.stages import align, clip, stitch
from tempcons.store.artefact import Store

FACE = np.array([[24.0, 16], [36, 16], [30, 24], [26, 31], [34, 31]])
TOTAL = 8


@dataclass(frozen=True)
class Edit:
    frames: FrameStore
    frame_ids: np.ndarray
    key: str


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def source(tmp_path) -> Path:
    return encode(tmp_path / "a.mp4", moving_square(TOTAL), sound_s=0.32)


def prepared(source: Path, store: Store, tmp_path: Path, missing: tuple[int, ...] = ()):
    points = np.repeat(FACE[None], TOTAL, axis=0)
    points[list(missing)] = np.nan
    np.save(tmp_path / "points.npy", points)
    config = align.AlignConfig(landmarks_path=str(tmp_path / "points.npy"), on_missing="keep_original")
    read = clip.run(clip.ClipConfig(str(source)), store)
    return read, align.run(read, config, CropRule(0.65, 0.4), 32, store)


@pytest.mark.parametrize("mode", ["feather", "poisson"])
@pytest.mark.parametrize("region", ["crop", "face"])
def test_only_the_face_changes(source, store, tmp_path, mode: str, region: str) -> None:
    read, aligned = prepared(source, store, tmp_path)
    pale = Edit(FrameStore((0.7 * aligned.frames.array + 70).astype(np.uint8)), aligned.frame_ids, "pale")
    result = stitch.run(read, aligned, pale, stitch.StitchConfig(mode, region, 0.2), store)
    changed = (result.frames.array != read.frames.array).any(-1)
    left, top = np.floor(aligned.quads[0].min(0)).astype(int)
    right, bottom = np.ceil(aligned.quads[0].max(0)).astype(int) + 1
    assert changed[:, top:bottom, left:right].mean() > 0.2
    changed[:, max(top, 0) : bottom, max(left, 0) : right] = False
    assert not changed.any()
    seams = result.seams
    blended, plain = seams["stitched"]["seam_jump"], seams["plain_paste"]["seam_jump"]
    assert blended is not None and plain is not None and blended < 0.5 * plain
    assert "blend_only" not in seams


def test_frames_without_a_face_keep_their_bytes(source, store, tmp_path) -> None:
    read, aligned = prepared(source, store, tmp_path, missing=(2, 5))
    white = Edit(FrameStore(np.full_like(aligned.frames.array, 255)), aligned.frame_ids, "white")
    result = stitch.run(read, aligned, white, stitch.StitchConfig("feather"), store)
    same = (result.frames.array == read.frames.array).all((1, 2, 3))
    assert np.flatnonzero(same).tolist() == [2, 5]
    assert result.frame_ids.tolist() == list(range(TOTAL))


def test_faces_join_by_frame_id_not_by_position(source, store, tmp_path) -> None:
    read, aligned = prepared(source, store, tmp_path)
    shades = np.stack([np.full((32, 32, 3), 30 * t, np.uint8) for t in (3, 6)])
    two = Edit(FrameStore(shades), np.array([3, 6]), "two")
    result = stitch.run(read, aligned, two, stitch.StitchConfig("feather"), store)
    middle = aligned.quads[0].mean(0).round().astype(int)
    assert [int(result.frames.array[t, middle[1], middle[0], 0]) for t in (3, 6)] == [90, 180]


def test_the_video_is_like_its_source(source, store, tmp_path) -> None:
    read, _ = prepared(source, store, tmp_path)
    settings = settings_like(source, read.fps, read.timestamps_s)
    was, now = probe(source), probe(write_video(tmp_path / "out.mp4", read.frames, settings))
    assert (now.size, now.fps, len(now), now.has_audio) == (was.size, was.fps, len(was), True)
    assert now.colour == was.colour
    np.testing.assert_allclose(now.timestamps_s, was.timestamps_s, atol=1 / 90000)


@pytest.mark.parametrize("wrong", [{"mode": "poison"}, {"region": "hair"}, {"feather": 0.7}])
def test_wrong_settings(wrong) -> None:
    with pytest.raises(ConfigError, match=f"stitch.{next(iter(wrong))}"):
        stitch.StitchConfig(**wrong)
