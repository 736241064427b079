from __future__ import annotations

import numpy as np
import pytest
from composed import parsed
from PIL import Image
from videos import encode, moving_square

from tempcons.check import ConfigError, InputError
from tempcons.stages.clip import ClipConfig, run
from tempcons.store.artefact import Store

FRAMES = moving_square(12)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def video(tmp_path):
    return encode(tmp_path / "a.mp4", FRAMES, sound_s=0.4)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    for t, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(path / f"frame{t}.png")
    return path


def test_a_video(video, store) -> None:
    clip = run(ClipConfig(str(video)), store)
    assert clip.frames.array.shape == FRAMES.shape
    assert clip.frame_ids.tolist() == list(range(12))
    np.testing.assert_allclose(clip.timestamps_s, np.arange(12) / 25)
    assert (clip.fps, clip.has_audio, clip.source) == (25.0, True, video)


def test_start_stride_and_number_keep_the_ids_of_the_source(video, store) -> None:
    whole = run(ClipConfig(str(video), reader="pyav"), store)
    part = run(ClipConfig(str(video), start=3, num_frames=3, stride=2, reader="pyav"), store)
    assert part.frame_ids.tolist() == [3, 5, 7]
    assert part.fps == 12.5
    np.testing.assert_allclose(part.timestamps_s, np.array([3, 5, 7]) / 25)
    np.testing.assert_array_equal(part.frames.array, whole.frames.array[[3, 5, 7]])


def test_more_frames_than_there_are_takes_what_there_is(video, store) -> None:
    assert len(run(ClipConfig(str(video), start=2, num_frames=500), store).frames) == 10


def test_readers_agree(video, store) -> None:
    decord, pyav = (run(ClipConfig(str(video), reader=reader), store) for reader in ("decord", "pyav"))
    assert (decord.reader, pyav.reader) == ("decord", "pyav")
    assert np.abs(decord.frames.array.astype(int) - pyav.frames.array).mean() < 3


def test_auto_says_why(video, tmp_path, store) -> None:
    assert run(ClipConfig(str(video)), store).reader == "decord"
    turned = encode(tmp_path / "r.mp4", FRAMES, rotation=90)
    clip = run(ClipConfig(str(turned)), store)
    assert clip.reader == "pyav"
    assert clip.frames.size == (64, 48)
    assert "rotated" in store.info(store.root / "clip" / clip.key)["reason"]
    with pytest.raises(InputError, match=r"rotated.*clip\.reader=pyav"):
        run(ClipConfig(str(turned), reader="decord"), store)


def test_a_folder_in_natural_order(folder, store) -> None:
    clip = run(ClipConfig(str(folder)), store)
    np.testing.assert_array_equal(clip.frames.array, FRAMES)
    assert (clip.fps, clip.reader, clip.has_audio) == (25.0, "pictures", False)
    assert run(ClipConfig(str(folder), fps=10, stride=2), store).fps == 5


def test_the_artefact_follows_the_content_not_the_name(video, tmp_path, store) -> None:
    first = run(ClipConfig(str(video)), store)
    again = run(ClipConfig(str(video.rename(tmp_path / "b.mp4"))), store)
    assert first.key == again.key and len(store.records) == 1
    assert again.source.name == "b.mp4"
    other = run(ClipConfig(str(encode(tmp_path / "c.mp4", FRAMES[::-1]))), store)
    assert other.key != first.key


def test_a_changed_picture_is_read_again(folder, store) -> None:
    first = run(ClipConfig(str(folder)), store)
    Image.fromarray(FRAMES[0]).save(folder / "frame3.png")
    assert run(ClipConfig(str(folder)), store).key != first.key


def test_the_demo_clip_as_shipped(store) -> None:
    config = parsed().clip
    clip = run(config, store)
    assert clip.frames.array.shape == (32, 144, 176, 3)
    assert clip.frame_ids.tolist() == list(range(40, 72))
    assert clip.fps == pytest.approx(29.97, abs=0.01)


def test_where_a_clip_starts_when_nothing_is_said(video, store) -> None:
    assert run(ClipConfig("demo", start=None, num_frames=2), store).frame_ids[0] == 40
    assert len(run(ClipConfig("demo", start=None), store).frames) == 120
    assert run(ClipConfig(str(video), start=None, num_frames=3), store).frame_ids.tolist() == [0, 1, 2]


def test_a_missing_file(tmp_path, store) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        run(ClipConfig(str(tmp_path / "no.mp4")), store)


def test_a_folder_without_pictures(tmp_path, store) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no pictures.*notes\.txt"):
        run(ClipConfig(str(tmp_path / "empty")), store)


def test_a_text_file_called_mp4(tmp_path, store) -> None:
    (tmp_path / "t.mp4").write_text("not a video")
    with pytest.raises(InputError, match="not a video"):
        run(ClipConfig(str(tmp_path / "t.mp4")), store)


def test_a_truncated_file(tmp_path, store) -> None:
    data = encode(tmp_path / "w.mp4", FRAMES, faststart=True).read_bytes()
    (tmp_path / "short.mp4").write_bytes(data[: int(0.7 * len(data))])
    with pytest.raises(InputError, match="cut short"):
        run(ClipConfig(str(tmp_path / "short.mp4")), store)


def test_one_frame_is_not_enough(tmp_path, folder, store) -> None:
    one = encode(tmp_path / "one.mp4", FRAMES[:1])
    with pytest.raises(InputError, match=r"has 1 frame.*2 frames or more"):
        run(ClipConfig(str(one)), store)
    with pytest.raises(InputError, match="leaves 1 of 12"):
        run(ClipConfig(str(folder), start=11), store)


def test_a_start_beyond_the_end(video, store) -> None:
    with pytest.raises(InputError, match="beyond the end"):
        run(ClipConfig(str(video), start=12), store)


@pytest.mark.parametrize(
    "wrong",
    [{"start": -1}, {"stride": 0}, {"num_frames": 1}, {"num_frames": -3}, {"reader": "pyaw"}, {"fps": -1.0}],
)
def test_settings_out_of_bounds(video, store, wrong) -> None:
    with pytest.raises(ConfigError, match=f"clip.{next(iter(wrong))}"):
        run(ClipConfig(str(video), **wrong), store)


def test_fps_is_for_folders(video, store) -> None:
    with pytest.raises(ConfigError, match="folders of pictures"):
        run(ClipConfig(str(video), fps=30), store)
