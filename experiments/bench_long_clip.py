"""Memory and time of a long clip on its way from the frame and back, without networks.

A clip of known motion is made, read, aligned (its landmarks are known), put back and written as a video, once
at the length asked for and once twice as long. Memory must not grow with length: the peaks are printed beside
each other. Each length runs in a process of its own, so that its peak is its own. The disk holds two copies
of the longer clip as plain RGB: 40 GB for two minutes of 1920x1080.

    python experiments/bench_long_clip.py --seconds 60 --size 1920x1080
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from tempcons.geometry.quad import FFHQ
from tempcons.media.write import VideoSettings, write_video
from tempcons.runtime import prepare_process
from tempcons.stages import align, clip, render, stitch
from tempcons.stages.report import environment
from tempcons.store.artefact import Store, peak_memory_mb, write_json

RATE = 25
CROP = 512
MOST_MEMORY_MB = 4096
MOST_GROWTH = 0.10
# Eyes, nose and mouth corners of an upright face, in eye distances from between the eyes.
FACE = np.array([[-0.5, 0], [0.5, 0], [0, 0.6], [-0.35, 1.2], [0.35, 1.2]])


def landmarks(total: int, size: tuple[int, int]) -> np.ndarray:
    """(T, 5, 2): a face that wanders, turns and comes nearer."""
    height, width = size
    t = np.arange(total)[:, None] / RATE
    scale = height / 10 * (1 + 0.2 * np.sin(0.7 * t))
    turn = 0.2 * np.sin(0.9 * t)
    x = FACE[:, 0] * np.cos(turn) - FACE[:, 1] * np.sin(turn)
    y = FACE[:, 0] * np.sin(turn) + FACE[:, 1] * np.cos(turn)
    middle = width * (0.5 + 0.15 * np.sin(0.5 * t)), height * (0.45 + 0.05 * np.sin(0.8 * t))
    return np.stack([middle[0] + scale * x, middle[1] + scale * y], axis=-1)


def frames(points: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A smooth background that moves, and a disc where the face is."""
    height, width = size
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((height // 4, width // 2, 3)), [6, 6, 0])
    wide = np.clip(120 + 900 * noise, 0, 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)[:height]
    for t, face in enumerate(points):
        frame = wide[:, (shift := 3 * t % (wide.shape[1] - width)) : shift + width].copy()
        radius = 1.2 * float(np.linalg.norm(face[1] - face[0]))
        cv2.circle(frame, face.mean(0).round().astype(int).tolist(), round(radius), (205, 160, 140), -1)
        yield frame


def timed(rows: list[dict[str, Any]], name: str, work: Callable[[], Any]) -> Any:
    """Do the work; note how long it took and the peak so far."""
    began = time.perf_counter()
    result = work()
    seconds = round(time.perf_counter() - began, 1)
    rows.append({"stage": name, "seconds": seconds, "peak_memory_mb": round(peak_memory_mb())})
    print(f"  {name}: {seconds} s, peak {rows[-1]['peak_memory_mb']} MB", flush=True)
    return result


def measure(source: Path, points: Path, place: Path) -> list[dict[str, Any]]:
    """Read, align, put back and write one clip."""
    rows: list[dict[str, Any]] = []
    store = Store(place / "cache")
    taken = timed(rows, "read", lambda: clip.run(clip.ClipConfig(str(source)), store))
    config = align.AlignConfig(landmarks_path=str(points))
    aligned = timed(rows, "align", lambda: align.run(taken, config, FFHQ, CROP, store))
    paste = stitch.StitchConfig("feather", "face", 0.05)
    result = timed(rows, "put back", lambda: stitch.run(taken, aligned, aligned, paste, store))
    settings = render.RenderConfig()
    timed(rows, "write", lambda: render.write_full(place, result, taken, settings, "unedited"))
    return rows


def child(source: Path, points: Path) -> list[dict[str, Any]]:
    """:func:`measure` in a process of its own."""
    report = source.with_suffix(".json")
    subprocess.run([sys.executable, __file__, "--measure", str(source), str(points), str(report)], check=True)
    return json.loads(report.read_text())


def run(seconds: float, size: tuple[int, int], place: Path) -> dict[str, Any]:
    """Both lengths, and whether memory stayed where it should."""
    lengths = {}
    for total in (round(RATE * seconds), 2 * round(RATE * seconds)):
        print(f"{total} frames of {size[1]}x{size[0]}", flush=True)
        with tempfile.TemporaryDirectory(dir=place) as own:
            points = landmarks(total, size)
            np.save(Path(own) / "points.npy", points)
            source = write_video(Path(own) / "clip.mp4", frames(points, size), VideoSettings(RATE, crf=23))
            lengths[total] = child(source, Path(own) / "points.npy")
    short, long = (rows[-1]["peak_memory_mb"] for rows in lengths.values())
    return {
        "size": f"{size[1]}x{size[0]}",
        "frames": lengths,
        "peak_memory_mb": short,
        "growth": long / short - 1,
        "most_memory_mb": MOST_MEMORY_MB,
        "most_growth": MOST_GROWTH,
    }


def within(figures: dict[str, Any]) -> bool:
    """Whether memory stayed below the limits."""
    return figures["peak_memory_mb"] < MOST_MEMORY_MB and figures["growth"] < MOST_GROWTH


def verdict(figures: dict[str, Any]) -> str:
    """Peaks and limits in one sentence."""
    short, long = (rows[-1]["peak_memory_mb"] for rows in figures["frames"].values())
    kept = "within the limits of" if within(figures) else "NOT within the limits of"
    return (
        f"peak {short} MB, twice as long {long} MB ({figures['growth']:+.1%}): "
        f"{kept} {MOST_MEMORY_MB} MB and {MOST_GROWTH:.0%} growth"
    )


def as_markdown(figures: dict[str, Any], about: dict[str, Any], command: str) -> str:
    """The figures as a table, with the machine and the command."""
    lines = [
        f"Long clip of {figures['size']}, {about['processor']} CPU, {about['cores']} cores, "
        f"torch {about['packages']['torch']}, {about['date']}",
        "",
        f"    {command}",
        "",
        "| frames | stage | seconds | peak memory so far, MB |",
        "| --- | --- | --- | --- |",
    ]
    for total, rows in figures["frames"].items():
        lines += [f"| {total} | {r['stage']} | {r['seconds']} | {r['peak_memory_mb']} |" for r in rows]
    return "\n".join([*lines, "", f"{verdict(figures)}.", ""])


def save(out: Path, figures: dict[str, Any], arguments: Sequence[str]) -> None:
    """The figures as JSON and, beside it, as a table."""
    command = shlex.join(["python", "experiments/bench_long_clip.py", *arguments])
    about = environment()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {**figures, "command": command, "environment": about})
    out.with_suffix(".md").write_text(as_markdown(figures, about, command))


def main() -> int:
    """0 if memory stayed below the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help=f"length at {RATE} frames per second")
    parser.add_argument("--size", default="1920x1080", help="width x height")
    parser.add_argument(
        "--place", type=Path, default=Path(tempfile.gettempdir()), help="folder with free space"
    )
    parser.add_argument("--out", type=Path, help="JSON with the figures; a table of them goes beside it")
    parser.add_argument("--measure", nargs=3, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process(None, 0)
    if given.measure:
        source, points, report = given.measure
        write_json(report, measure(source, points, source.parent))
        return 0
    width, height = map(int, given.size.split("x"))
    figures = run(given.seconds, (height, width), given.place)
    print(verdict(figures))
    if given.out:
        save(given.out, figures, sys.argv[1:])
    return 0 if within(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
