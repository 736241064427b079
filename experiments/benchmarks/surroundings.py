"""What stands around the training steps: start-up, frames in and out, growth with the length of the clip."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.bench_long_clip import RATE, frames, landmarks
from experiments.benchmarks.parts import make_parts
from experiments.benchmarks.steps import WARM_UP, Ours, alone
from experiments.composed import ROOT, composed
from tempcons.geometry.quad import FFHQ, CropRule
from tempcons.media.write import VideoSettings, write_video
from tempcons.runtime import prepare_process
from tempcons.stages import align, clip
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store, peak_memory_mb

STARTS = {"import train": ["-c", "import train"], "train.py --help": ["train.py", "--help"]}
FIRST_BAR = b"reading frames"
LENGTHS = (30, 60, 120)
LONG_CLIP_GB = 40
GROWTH_SIZE = (360, 640)
GROWTH_CROP = 128

Row = dict[str, Any]


def start_up(runs: int) -> list[Row]:
    """Seconds from the start of a process to its end, of so many runs."""
    rows = []
    for what, arguments in STARTS.items():
        seconds = []
        for _ in range(runs):
            command = [sys.executable, *arguments]
            start = partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
            seconds.append(timed(start)[0])
        rows.append(start_row(what, seconds))
    return [*rows, start_row("train.py to the first progress bar", [first_bar() for _ in range(runs)])]


def start_row(what: str, seconds: list[float]) -> Row:
    return {"kind": "start", "what": what, "seconds": median(seconds), "fastest": min(seconds)}


def first_bar() -> float:
    """Seconds from the start of the demo, nothing cached, to its first progress bar, on a terminal."""
    ours, its = pty.openpty()
    with tempfile.TemporaryDirectory() as place:
        output = [f"output.root={place}/outputs", f"output.cache={place}/cache"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "train.py", *output], cwd=ROOT, stdin=its, stdout=its, stderr=its
        )
        os.close(its)
        try:
            wait_for(FIRST_BAR, ours)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def wait_for(text: bytes, terminal: int) -> None:
    """Read from a terminal until it shows ``text``.

    Raises:
        RuntimeError: the program ended before.
    """
    shown = b""
    while text not in shown:
        try:
            shown += os.read(terminal, 4096)
        # Linux's answer where nobody writes to it any more.
        except OSError:
            raise RuntimeError(f"never showed {text.decode()!r}: {shown.decode(errors='replace')}") from None


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that the work takes, and what it returns."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def media(accelerator: str, seed: int, count: int) -> list[Row]:
    """Frames per second of the demo clip decoded and aligned, and of the embedded generator's frames."""
    config = composed("edit=surprised")
    family = config.family
    crop = CropRule(family.crop_scale, family.crop_centre, family.crop_fade)
    parts = make_parts("embedded", accelerator, seed, frames=count)
    edited = parts.edited
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "cache")
        decoding, taken = timed(lambda: clip.run(replace(config.clip, num_frames=count), store))
        aligning, _ = timed(lambda: align.run(taken, config.align, crop, edited.generator.size, store))
        path = Path(folder) / "frames.npy"
        rendering, _ = timed(lambda: render_frames(edited.generator, edited.codes, path, parts.device))
    found = {"decode": decoding, "align": aligning, "render": rendering}
    size = {"decode": taken.frames.size, "align": taken.frames.size, "render": edited.frames.size}
    return [
        {"kind": "media", "what": name, "seconds": seconds, "frames": count, "fps": count / seconds}
        | {"size": f"{size[name][1]}x{size[name][0]}"}
        for name, seconds in found.items()
    ]


def growth(accelerator: str, seed: int, threads: int, lengths: tuple[int, ...] = LENGTHS) -> Iterator[Row]:
    """Time and peak memory of clips of different length, each in a process of its own."""
    first = None
    for length in lengths:
        row = alone(one_length, length, accelerator, seed, threads)
        first = first or row["peak_memory_mb"]
        for name in ("read_and_align_s", "phase1_s"):
            row[f"{name}_per_frame"] = row[name] / length
        yield row | {"memory_growth": row["peak_memory_mb"] / first - 1}


def one_length(length: int, accelerator: str, seed: int, threads: int) -> Row:
    """A made clip read and aligned, and one epoch of phase 1 on as many frames of the embedded family."""
    prepare_process(threads, seed)
    with tempfile.TemporaryDirectory() as folder:
        points = landmarks(length, GROWTH_SIZE)
        np.save(Path(folder) / "points.npy", points)
        settings = VideoSettings(RATE, crf=23)
        source = write_video(Path(folder) / "clip.mp4", frames(points, GROWTH_SIZE), settings)
        config = align.AlignConfig(landmarks_path=str(Path(folder) / "points.npy"))
        store = Store(Path(folder) / "cache")

        def read_and_align() -> None:
            taken = clip.run(clip.ClipConfig(str(source)), store)
            align.run(taken, config, FFHQ, GROWTH_CROP, store)

        reading, _ = timed(read_and_align)
    ours = Ours(make_parts("embedded", accelerator, seed, frames=length), "phase1", seed)
    training, _ = timed(lambda: ours.run(length - 1 - WARM_UP))
    return {
        "kind": "growth",
        "frames": length,
        "read_and_align_s": reading,
        "phase1_s": training,
        "peak_memory_mb": round(peak_memory_mb()),
    }


def long_clip(place: Path, arguments: list[str]) -> list[Row]:
    """Memory and time of a long clip from frame to frame (bench_long_clip.py), where the disk has room."""
    free = shutil.disk_usage(place).free / 1e9
    if free < LONG_CLIP_GB:
        found = f"{free:.0f} GB free at {place}, {LONG_CLIP_GB} GB needed: set --place"
        return [{"kind": "long_clip", "what": "skipped", "why": found}]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "experiments.bench_long_clip",
            "--place",
            folder,
            "--out",
            str(report),
        ]
        ended = subprocess.run([*command, *arguments], cwd=ROOT)
        if not report.exists():
            return [{"kind": "long_clip", "what": "failed", "why": f"exit status {ended.returncode}"}]
        return [{"kind": "long_clip", "what": "measured", **json.loads(report.read_text())}]
