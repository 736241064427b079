from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import pytest
from videos import encode, moving_square

from tempcons.check import InputError
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.probe import Colour, probe
from tempcons.media.read import read_pyav
from tempcons.media.sound import Sound, suffix_for
from tempcons.media.write import (
    VideoSettings,
    rate_of,
    settings_like,
    side_by_side,
    with_label,
    write_video,
)

FRAMES = moving_square(20)


def read_all(path) -> np.ndarray:
    video = probe(path)
    return np.stack(list(read_pyav(video, range(len(video)))))


def sound_packets(path) -> list[tuple[float, bytes]]:
    """(seconds after the first picture, bytes) of each packet."""
    with av.open(str(path)) as container:
        start = next(container.decode(video=0)).time
        assert start is not None
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        found = []
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and stream.time_base is not None:
                found.append((float(packet.pts * stream.time_base) - start, bytes(packet)))
        return found


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes of a file fail, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_round_trip(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", FrameStore(FRAMES), VideoSettings(fps=29.97002997))
    video = probe(path)
    assert (len(video), video.size, str(video.fps)) == (20, (48, 64), "30000/1001")
    assert np.abs(read_all(path).astype(int) - FRAMES).mean() < 3
    assert abs((read_all(path).astype(int) - FRAMES).mean()) < 0.3  # neither darker nor brighter


def test_lossless_is_exact(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", iter(FRAMES), VideoSettings(fps=25, lossless=True))
    np.testing.assert_array_equal(read_all(path), FRAMES)


@pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63), (47, 63)])
def test_odd_sizes_are_kept(tmp_path, height: int, width: int) -> None:
    frames = FRAMES[:, :height, :width]
    path = write_video(tmp_path / "a.mp4", frames, VideoSettings(fps=25))
    assert probe(path).size == (height, width)
    assert np.abs(read_all(path).astype(int) - frames).mean() < 3


@pytest.mark.parametrize(
    "colour",
    [Colour(1, 1, 1, False, "bt709"), Colour(6, 6, 6, True, "bt601"), Colour(2, 2, 2, False, "bt601")],
)
def test_colour_matrix_and_range_are_kept(tmp_path, colour: Colour) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES, VideoSettings(fps=25, colour=colour))
    assert probe(path).colour == colour
    assert np.abs(read_all(path).astype(int) - FRAMES).mean() < 3


def test_variable_frame_rate_is_kept(tmp_path) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.08, 20))
    path = write_video(tmp_path / "a.mp4", FRAMES, VideoSettings(fps=25, timestamps_s=times))
    np.testing.assert_allclose(probe(path).timestamps_s, times - times[0], atol=2e-5)


def test_metadata_says_that_it_is_edited(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES, VideoSettings(fps=25, metadata={"title": "talk"}))
    with av.open(str(path)) as container:
        assert "Edited video" in container.metadata["comment"]
        assert "tempcons" in container.metadata["comment"]
        assert container.metadata["title"] == "talk"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_bit_for_bit(tmp_path, suffix: str) -> None:
    source = encode(tmp_path / "s.mp4", FRAMES, sound_s=1.5)
    settings = VideoSettings(fps=25, sound=Sound(source))
    path = write_video(tmp_path / f"a{suffix}", FRAMES, settings)
    want, got = sound_packets(source), sound_packets(path)
    assert len(want) > 10
    assert [data for _, data in got] == [data for _, data in want]
    np.testing.assert_allclose([t for t, _ in got], [t for t, _ in want], atol=2e-3)


def test_sound_of_a_part_starts_with_the_part(tmp_path) -> None:
    source = encode(tmp_path / "s.mp4", FRAMES, sound_s=0.8)
    settings = VideoSettings(fps=25, sound=Sound(source, start_s=0.2, end_s=0.6))
    got = sound_packets(write_video(tmp_path / "a.mp4", FRAMES[5:15], settings))
    inside = [(t - 0.2, data) for t, data in sound_packets(source) if 0.2 <= t < 0.6]
    assert [data for _, data in got] == [data for _, data in inside]
    np.testing.assert_allclose([t for t, _ in got], [t for t, _ in inside], atol=2e-3)


def test_full_disk_leaves_nothing_under_the_final_name(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), dtype=np.uint8)
    with small_disk(50_000), pytest.raises(InputError, match="can't write"):
        write_video(tmp_path / "a.mp4", noise, VideoSettings(fps=25))
    assert list(tmp_path.iterdir()) == []


def test_an_older_video_survives_a_failed_write(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES, VideoSettings(fps=25))
    before = path.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield FRAMES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, broken(), VideoSettings(fps=25))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write"):
        write_video(tmp_path / "file" / "a.mp4", FRAMES, VideoSettings(fps=25))


def test_no_frames_and_mixed_sizes_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", iter(()), VideoSettings(fps=25))
    with pytest.raises(ValueError, match="frames must be"):
        write_video(tmp_path / "a.mp4", iter([FRAMES[0], FRAMES[0][:40]]), VideoSettings(fps=25))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fps", "exact"), [(29.97, "30000/1001"), (25.0, "25"), (23.976, "24000/1001"), (12.5, "25/2")]
)
def test_exact_rates(fps: float, exact: str) -> None:
    assert str(rate_of(fps)) == exact


def test_side_by_side_has_both_and_a_strip_of_labels() -> None:
    plain = list(side_by_side([FRAMES, FrameStore(FRAMES)]))
    np.testing.assert_array_equal(plain[3], np.hstack([FRAMES[3], FRAMES[3]]))
    labelled = next(side_by_side([FRAMES, FRAMES], ["source", "edited"]))
    strip = len(labelled) - 48
    assert strip > 0 and labelled[:strip].max() > 200
    np.testing.assert_array_equal(labelled[strip:], plain[0])


def test_side_by_side_refuses_unequal_numbers() -> None:
    with pytest.raises(ValueError):
        list(side_by_side([FRAMES, FRAMES[:-1]]))
    with pytest.raises(ValueError, match="labels"):
        list(side_by_side([FRAMES, FRAMES], ["one"]))


def test_a_visible_label_changes_only_the_corner() -> None:
    (got,) = with_label(FRAMES[:1])
    changed = (got != FRAMES[0]).any(-1)
    assert changed.any() and not changed[:24].any()


def test_frames_on_a_full_disk(tmp_path) -> None:
    with small_disk(10_000), pytest.raises(InputError, match="can't write"):
        write_frames(tmp_path / "f.npy", (20, 48, 64), iter([FRAMES]))


def test_frames_written_in_pieces_are_one_array(tmp_path) -> None:
    write_frames(tmp_path / "f.npy", (20, 48, 64), (FRAMES[i : i + 3] for i in range(0, 20, 3)))
    np.testing.assert_array_equal(FrameStore.open(tmp_path / "f.npy").array, FRAMES)
    with pytest.raises(ValueError, match="20 frames expected, 19"):
        write_frames(tmp_path / "g.npy", (20, 48, 64), iter([FRAMES[1:]]))


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("pcm_u8", ".mkv")])
def test_the_container_is_one_that_holds_the_sound_as_it_is(tmp_path, codec: str, suffix: str) -> None:
    source = tmp_path / "s.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width = FRAMES.shape[1:3]
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=16000)
        assert isinstance(sound, av.AudioStream)
        for picture in FRAMES:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        kind = "fltp" if codec == "aac" else "u8"
        silence = np.zeros((1, 2048), np.float32 if codec == "aac" else np.uint8)
        frame = av.AudioFrame.from_ndarray(silence, format=kind, layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert suffix_for(source) == suffix
    path = write_video(tmp_path / f"out{suffix}", FRAMES, settings_like(source, 25, np.arange(20) / 25))
    assert probe(path).has_audio
