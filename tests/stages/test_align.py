from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tempcons.check import ConfigError, InputError
from tempcons.geometry.quad import CropRule, jitter_px, quad_from_landmarks, source_to_crop
from tempcons.geometry.track import Detection
from tempcons.media.frames import FrameStore
from tempcons.models import landmarks
from tempcons.stages.align import AlignConfig, id_ranges, run
from tempcons.stages.clip import ClipConfig
from tempcons.stages.clip import run as read_clip
from tempcons.store.artefact import Store
from tempcons.types import Clip

CONF = Path(__file__).parents[2] / "conf"
EMBEDDED = CropRule(0.65, 0.40)
FACE = np.array([[40.0, 40], [60, 40], [50, 52], [43, 64], [57, 64]])


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def make_clip(total: int = 10, size: tuple[int, int] = (100, 120), first: int = 0) -> Clip:
    noise = np.random.default_rng(0).integers(0, 255, (1, *size, 3), dtype=np.uint8)
    return Clip(
        frames=FrameStore(np.repeat(noise, total, axis=0)),
        frame_ids=np.arange(first, first + total),
        timestamps_s=np.arange(first, first + total) / 25,
        fps=25.0,
        has_audio=False,
        source=Path("made.mp4"),
        reader="pyav",
        key=f"made{total}{size}{first}",
    )


def saved(tmp_path, points: np.ndarray) -> str:
    np.save(tmp_path / "points.npy", points)
    return str(tmp_path / "points.npy")


def moving(total: int = 10) -> np.ndarray:
    return FACE + np.arange(total)[:, None, None] * [0.5, 0.25]


class Seen:
    """A detector that has known positions for a face and tells them frame by frame."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = iter(points)

    def detect(self, frame: np.ndarray) -> list[Detection]:
        points = next(self.points)
        if np.isnan(points).any():
            return []
        return [Detection(np.concatenate([points.min(0) - 10, points.max(0) + 10]), 1.0, points)]


@pytest.fixture
def seen(monkeypatch):
    def put(points: np.ndarray) -> None:
        monkeypatch.setitem(landmarks.DETECTORS, "seen", lambda device: Seen(points))

    return put


def test_the_demo_face_sits_where_the_training_faces_do(store) -> None:
    clip = read_clip(ClipConfig("demo", start=40, num_frames=4), store)
    config = AlignConfig(**yaml.safe_load((CONF / "align" / "default.yaml").read_text()))
    aligned = run(clip, config, EMBEDDED, 128, store)
    assert aligned.frames.array.shape == (4, 128, 128, 3)
    assert aligned.frame_ids.tolist() == [40, 41, 42, 43]
    to_crop = source_to_crop(aligned.quads, 128)
    points = np.einsum("tij,tkj->tki", to_crop[..., :2], aligned.landmarks) + to_crop[:, None, :, 2]
    np.testing.assert_allclose(points.mean(0)[[0, 1]], [[39.4, 42.7], [87.6, 42.8]], atol=3)
    assert points.mean(0)[[3, 4], 1] == pytest.approx([94.6, 94.6], abs=5)


def test_points_from_a_file_give_their_quads(tmp_path, store) -> None:
    config = AlignConfig(landmarks_path=saved(tmp_path, moving()), smoothing_s=0)
    aligned = run(make_clip(), config, EMBEDDED, 16, store)
    np.testing.assert_allclose(aligned.quads, quad_from_landmarks(moving(), EMBEDDED))
    assert aligned.found.all()


def test_points_of_the_whole_source_are_taken_by_frame_id(tmp_path, store) -> None:
    config = AlignConfig(landmarks_path=saved(tmp_path, moving(30)), smoothing_s=0)
    aligned = run(make_clip(first=7), config, EMBEDDED, 16, store)
    np.testing.assert_allclose(aligned.landmarks, moving(30)[7:17])


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1)])
def test_the_depth_of_landmarks_is_left_out(tmp_path, store, axes) -> None:
    """face-alignment gives (T, 68, 3), 3DDFA_V2 (T, 3, 68)."""
    flat = np.random.default_rng(0).uniform(20, 60, (10, 68, 2)) + np.arange(68)[:, None] / 4
    deep = np.concatenate([flat, np.full((10, 68, 1), 7.0)], axis=2).transpose(axes)
    config = AlignConfig(landmarks_path=saved(tmp_path, deep), smoothing_s=0)
    np.testing.assert_array_equal(run(make_clip(), config, EMBEDDED, 16, store).landmarks, flat)


def test_smoothing_calms_the_crop(tmp_path, store) -> None:
    shaken = moving(40) + np.random.default_rng(0).standard_normal((40, 5, 2))
    path = saved(tmp_path, shaken)
    rough = run(make_clip(40), AlignConfig(landmarks_path=path, smoothing_s=0), EMBEDDED, 16, store)
    calm = run(make_clip(40), AlignConfig(landmarks_path=path, smoothing_s=0.12), EMBEDDED, 16, store)
    assert jitter_px([calm.quads]) < 0.3 * jitter_px([rough.quads])
    told = store.info(store.root / "align" / calm.key)["jitter_px"]
    assert told["before"] == pytest.approx(jitter_px([rough.quads]))
    assert told["after"] == pytest.approx(jitter_px([calm.quads]))


def test_the_crop_shows_the_quad(tmp_path, store) -> None:
    clip = make_clip(2)
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None], (100, 120, 3))
    clip = replace(clip, frames=FrameStore(np.stack([ramp, ramp])), key="ramp")
    aligned = run(clip, AlignConfig(landmarks_path=saved(tmp_path, moving(2))), EMBEDDED, 16, store)
    left, right = aligned.quads[0, 0, 0], aligned.quads[0, 3, 0]
    want = left + (np.arange(16) + 0.5) / 16 * (right - left)
    np.testing.assert_allclose(aligned.frames.array[0, 8, :, 0], want, atol=0.6)


def gaps(total: int = 10) -> np.ndarray:
    points = moving(total)
    points[[3, 4, 8]] = np.nan
    return points


def test_missing_faces_are_an_error_that_lists_them(seen, store) -> None:
    seen(gaps())
    with pytest.raises(InputError, match=r"no face in frames 43-44, 48 \(3 of 10\).*on_missing=interpolate"):
        run(make_clip(first=40), AlignConfig("seen"), EMBEDDED, 16, store)


def test_missing_faces_are_interpolated(seen, store, caplog) -> None:
    seen(gaps())
    config = AlignConfig("seen", on_missing="interpolate", smoothing_s=0)
    aligned = run(make_clip(first=40), config, EMBEDDED, 16, store)
    np.testing.assert_allclose(aligned.landmarks, moving())
    assert np.flatnonzero(~aligned.found).tolist() == [3, 4, 8]
    assert "43-44, 48" in caplog.text


def test_frames_without_a_face_can_keep_the_original(seen, store) -> None:
    seen(gaps())
    aligned = run(make_clip(first=40), AlignConfig("seen", on_missing="keep_original"), EMBEDDED, 16, store)
    assert aligned.frame_ids.tolist() == [40, 41, 42, 45, 46, 47, 49]
    assert len(aligned.frames) == len(aligned.quads) == 7


@pytest.mark.parametrize("policy", ["error", "interpolate", "keep_original"])
def test_no_face_at_all_is_an_error_under_each_policy(seen, store, policy: str) -> None:
    seen(np.full((10, 5, 2), np.nan))
    with pytest.raises(InputError, match="no face in any frame"):
        run(make_clip(), AlignConfig("seen", on_missing=policy), EMBEDDED, 16, store)


def test_a_face_in_a_single_frame_is_not_enough(seen, store) -> None:
    points = np.full((10, 5, 2), np.nan)
    points[4] = FACE
    seen(points)
    with pytest.raises(InputError, match="only 1 of 10 frames shows the face"):
        run(make_clip(), AlignConfig("seen", on_missing="keep_original"), EMBEDDED, 16, store)


def test_mtcnn_sees_no_face_in_noise() -> None:
    assert landmarks.MtcnnDetector().detect(make_clip(1, (48, 48)).frames.array[0]) == []


def test_mtcnn_leaves_the_number_of_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    with landmarks.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_mirrored_face_gives_mirrored_points(store) -> None:
    frame = read_clip(ClipConfig("demo", start=40, num_frames=2), store).frames.array[0]
    detector = landmarks.MtcnnDetector()
    (plain,), (mirror,) = detector.detect(frame), detector.detect(np.ascontiguousarray(frame[:, ::-1]))
    want = plain.points[landmarks.MIRRORED] * [-1, 1] + [frame.shape[1] - 1, 0]
    np.testing.assert_allclose(mirror.points, want, atol=0.3)


def test_a_small_face_and_one_that_leaves_are_told(tmp_path, store, caplog) -> None:
    leaving = FACE - [45, 0] + np.zeros((4, 1, 1))
    run(make_clip(4), AlignConfig(landmarks_path=saved(tmp_path, leaving)), EMBEDDED, 64, store)
    assert "the face is small: its crop is 56 px wide" in caplog.text
    assert "leaves the picture in frames 0-3" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"detector": "mtcn"}, "did you mean mtcnn"),
        ({"on_missing": "skip"}, "on_missing=skip"),
        ({"smoothing_s": -1.0}, "smoothing_s=-1"),
    ],
)
def test_wrong_settings(store, wrong, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(make_clip(), AlignConfig(**wrong), EMBEDDED, 16, store)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.zeros((10, 7, 2)), r"\(10, 7, 2\)"),
        (moving(5), "5 rows"),
        (np.full((10, 5, 2), np.nan), "no face"),
    ],
)
def test_points_that_do_not_fit(tmp_path, store, points, says: str) -> None:
    with pytest.raises(InputError, match=says):
        run(make_clip(), AlignConfig(landmarks_path=saved(tmp_path, points)), EMBEDDED, 16, store)


def test_a_points_file_that_is_not_there_or_not_numbers(tmp_path, store) -> None:
    with pytest.raises(InputError, match="no such file"):
        run(make_clip(), AlignConfig(landmarks_path=str(tmp_path / "no.npy")), EMBEDDED, 16, store)
    (tmp_path / "bad.npy").write_text("text")
    with pytest.raises(InputError, match=r"not a \.npy file"):
        run(make_clip(), AlignConfig(landmarks_path=str(tmp_path / "bad.npy")), EMBEDDED, 16, store)


def test_id_ranges() -> None:
    assert id_ranges([41, 42, 43, 44, 50]) == "41-44, 50"
    assert id_ranges([]) == ""


def two_scenes(first: int = 5, second: int = 6, ids_from: int = 0) -> Clip:
    """A dark and a bright scene."""
    clip = make_clip(first + second, first=ids_from)
    frames = np.where(np.arange(first + second)[:, None, None, None] < first, clip.frames.array // 4, 200)
    return replace(clip, frames=FrameStore(frames.astype(np.uint8)), key=f"two{first}{second}")


def jumping(first: int = 5, second: int = 6) -> np.ndarray:
    """A still face that is elsewhere after the cut."""
    points = np.repeat(FACE[None], first + second, axis=0)
    points[first:] += [20, 10]
    return points


def test_smoothing_does_not_reach_across_a_cut(tmp_path, store) -> None:
    clip = two_scenes(ids_from=40)
    path = saved(tmp_path, jumping())
    aligned = run(clip, AlignConfig(landmarks_path=path, smoothing_s=0.12), EMBEDDED, 16, store)
    np.testing.assert_allclose(aligned.quads, quad_from_landmarks(jumping(), EMBEDDED))
    assert aligned.cuts == (45,)
    assert aligned.scenes == [range(0, 5), range(5, 11)]
    told = store.info(store.root / "align" / aligned.key)
    assert told["jitter_px"] == {"before": 0, "after": 0}  # the jump at the cut is none
    whole = AlignConfig(landmarks_path=path, smoothing_s=0.12, scene_cuts=False)
    blurred = run(clip, whole, EMBEDDED, 16, store)
    assert blurred.cuts == () and np.abs(blurred.quads - aligned.quads).max() > 5


def test_gaps_are_filled_within_their_scene(tmp_path, store) -> None:
    points = jumping()
    points[[4, 5]] = np.nan
    config = AlignConfig(landmarks_path=saved(tmp_path, points), on_missing="interpolate", smoothing_s=0)
    aligned = run(two_scenes(), config, EMBEDDED, 16, store)
    np.testing.assert_allclose(aligned.landmarks, jumping())


def test_a_scene_without_the_face(tmp_path, store) -> None:
    points = jumping()
    points[5:] = np.nan
    path = saved(tmp_path, points)
    with pytest.raises(InputError, match=r"whole scene of frames 45-50.*keep_original"):
        config = AlignConfig(landmarks_path=path, on_missing="interpolate")
        run(two_scenes(ids_from=40), config, EMBEDDED, 16, store)
    kept = run(
        two_scenes(), AlignConfig(landmarks_path=path, on_missing="keep_original"), EMBEDDED, 16, store
    )
    assert kept.frame_ids.tolist() == [0, 1, 2, 3, 4]
    assert kept.scenes == [range(0, 5)]


def test_frame_ids_and_scenes_survive_drops(tmp_path, store) -> None:
    points = jumping()
    points[[0, 3, 5, 9]] = np.nan
    config = AlignConfig(landmarks_path=saved(tmp_path, points), on_missing="keep_original")
    aligned = run(two_scenes(ids_from=7), config, EMBEDDED, 16, store)
    assert aligned.frame_ids.tolist() == [8, 9, 11, 13, 14, 15, 17]
    assert aligned.cuts == (12,) and aligned.scenes == [range(0, 3), range(3, 7)]


@settings(deadline=None, max_examples=15)
@given(st.sets(st.integers(0, 10), max_size=9), st.integers(0, 50))
def test_what_is_kept_is_what_was_found(missing: set[int], first: int) -> None:
    points = jumping()
    points[list(missing)] = np.nan
    with tempfile.TemporaryDirectory() as place:
        config = AlignConfig(landmarks_path=saved(Path(place), points), on_missing="keep_original")
        aligned = run(two_scenes(ids_from=first), config, EMBEDDED, 16, Store(Path(place) / "cache"))
    found = [first + t for t in range(11) if t not in missing]
    assert aligned.frame_ids.tolist() == found
    assert [i for scene in aligned.scenes for i in scene] == list(range(len(found)))
    np.testing.assert_allclose(
        aligned.raw_quads, quad_from_landmarks(points[np.array(found) - first], EMBEDDED)
    )


class Faces:
    """A detector that sees several faces; ``boxes`` has one list of (x, y) offsets for each frame."""

    def __init__(self, boxes: list[list[tuple[float, float]]]) -> None:
        self.boxes = iter(boxes)

    def detect(self, frame: np.ndarray) -> list[Detection]:
        faces = [0.5 * FACE + offset for offset in next(self.boxes)]
        return [Detection(np.concatenate([p.min(0) - 5, p.max(0) + 5]), 1.0, p) for p in faces]


def test_a_face_is_chosen_in_every_scene(monkeypatch, store) -> None:
    left, right = (2.0, 10.0), (60.0, 10.0)
    boxes = [[left, right]] * 5 + [[right]] * 6
    monkeypatch.setitem(landmarks.DETECTORS, "faces", lambda device: Faces(boxes))
    with pytest.raises(ConfigError, match="two faces are equally prominent"):
        run(two_scenes(), AlignConfig("faces"), EMBEDDED, 16, store)
    box = [0.0, 10.0, 50.0, 60.0]
    config = AlignConfig("faces", face_box=box, on_missing="keep_original", smoothing_s=0)
    aligned = run(two_scenes(), config, EMBEDDED, 16, store)
    assert aligned.frame_ids.tolist() == [0, 1, 2, 3, 4]  # the second scene doesn't show that one
    nowhere = replace(config, face_box=[0.0, 90.0, 5.0, 99.0])
    with pytest.raises(ConfigError, match=r"no face at align\.face_box.*there are faces at \["):
        run(two_scenes(), nowhere, EMBEDDED, 16, store)


def test_a_clip_of_one_scene_per_frame_is_refused(tmp_path, store) -> None:
    flashes = np.full((6, 40, 40, 3), 20, np.uint8)
    flashes[::2] = 230
    clip = replace(make_clip(6), frames=FrameStore(flashes), key="flashes")
    with pytest.raises(InputError, match="scenes last a single frame"):
        run(clip, AlignConfig(landmarks_path=saved(tmp_path, moving(6))), EMBEDDED, 16, store)
