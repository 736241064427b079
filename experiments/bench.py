"""Time and memory on this machine: training steps beside a naive composition, start-up, frames in and out.

    python -m experiments.bench                          everything, as `make bench`
    python -m experiments.bench --only steps --setting ffhq-256
    python -m experiments.bench --only long_clip -- --seconds 10

Steps are timed with the paper's recipe, on networks with random weights (1024 px on a GPU, 256 px on a CPU)
and on the embedded family. "naive" is the same losses of the same parts, composed as the paper's released
loop composes them (benchmarks/naive.py). The ways take turns, and the figure is the ratio of medians: of
seconds on the clock on a GPU; on a CPU, which may have other work, of the process's own CPU seconds. Results
are kept in experiments/results/bench, those of a part of the rows under a name that says which.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import tempcons
from experiments.benchmarks import surroundings
from experiments.benchmarks.parts import SETTINGS, SIZES
from experiments.benchmarks.steps import PHASES, Place, time_steps, with_memory
from tempcons.runtime import prepare_process
from tempcons.store.artefact import write_json

RESULTS = Path(__file__).parent / "results" / "bench"
MAIN = {"gpu": "ffhq-1024", "cpu": "ffhq-256"}
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "lpips", "numpy")
START_RUNS = 3
MEDIA_FRAMES = 32
# What a column shows of a row.
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "what": lambda row: " ".join(
        str(row[name]) for name in ("kind", "setting", "phase", "way", "what") if name in row
    ),
    "seconds": lambda row: f"{row['seconds']:.3f}" if "seconds" in row else "",
    "of naive": lambda row: f"{row['ratio']:.2f}" if "ratio" in row else "",
    "peak MB": lambda row: str(row.get("peak_memory_mb", "")),
    "frames": lambda row: str(row["frames"]) if isinstance(row.get("frames"), int) else "",
    "frames/s": lambda row: f"{row['fps']:.1f}" if "fps" in row else "",
    "also": lambda row: also(row),
}

Row = dict[str, Any]


def also(row: Row) -> str:
    """What a row has beside the columns that all kinds share."""
    if row["kind"] == "growth":
        aligned, trained = row["read_and_align_s_per_frame"], row["phase1_s_per_frame"]
        return (
            f"{aligned:.3f} s aligned and {trained:.3f} s trained a frame, {row['memory_growth']:+.0%} memory"
        )
    return str(row.get("why", row.get("size", row.get("flow", ""))))


def step_rows(given: argparse.Namespace) -> Iterator[Row]:
    """Training steps of the settings asked for, with the memory of each."""
    place = Place(given.accelerator, given.seed, given.threads, given.steps, tuple(given.set))
    for setting in given.setting or (MAIN[given.accelerator], "embedded", "embedded-default"):
        for row in time_steps(setting, place, given.rounds, not given.no_fast):
            yield with_memory(row, place) if given.memory else row


KINDS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "steps": step_rows,
    "start": lambda given: surroundings.start_up(START_RUNS),
    "media": lambda given: surroundings.media(given.accelerator, given.seed, MEDIA_FRAMES),
    "growth": lambda given: surroundings.growth(given.accelerator, given.seed, given.threads),
    "long_clip": lambda given: surroundings.long_clip(given.place, given.rest),
}


def ratios(rows: list[Row], setting: str) -> dict[str, float | None]:
    """Seconds of a step as a share of the naive composition's, and the whole job's in fast mode.

    A job has twice as many epochs of phase 1 as of phase 2 (Xu 2022, Section 4.3).
    """
    seconds = {(r["phase"], r["way"]): r["seconds"] for r in rows if r.get("setting") == setting}
    found: dict[str, float | None] = {}
    for phase in PHASES:
        both = [seconds.get((phase, way)) for way in ("exact", "naive")]
        found[phase] = both[0] / both[1] if both[0] and both[1] else None
    job = {way: [seconds.get((phase, way)) for phase in PHASES] for way in ("fast", "naive")}
    totals = [2 * a + b for a, b in job.values() if a and b]
    found["fast"] = totals[0] / totals[1] if len(totals) == 2 else None
    return found


def processor() -> str:
    """The CPU's own name."""
    listed = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", listed.read_text()) if listed.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def machine(accelerator: str, threads: int) -> Row:
    """What the figures were taken on."""
    found: Row = {"cpu": processor(), "cores": torch.multiprocessing.cpu_count(), "threads": threads}
    found["capability"] = torch.backends.cpu.get_cpu_capability()
    if accelerator == "gpu":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found | {"system": platform.system(), "python": platform.python_version()}


def path_of(about: Row, folder: Path, date: datetime, only: list[str]) -> Path:
    """``<machine>-<date>.json``; a part of the rows under a name of its own."""
    name = re.sub(r"[^a-z0-9]+", "-", str(about.get("gpu", about["cpu"])).lower()).strip("-")
    part = f"-{'-'.join(only)}" if only else ""
    return folder / f"{name}-{about['cores']}-{date:%Y-%m-%d}{part}.json"


def table(rows: list[Row]) -> Table:
    """All rows, one under the other."""
    shown = Table(*COLUMNS)
    for row in rows:
        shown.add_row(*[cell(row) for cell in COLUMNS.values()])
    return shown


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(KINDS), default=[], help="some of the rows")
    parser.add_argument("--setting", action="append", choices=list(SETTINGS), default=[], help="of steps")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], help="a GPU where there is one")
    parser.add_argument("--rounds", type=int, default=3, help="how often the ways take turns")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each turn")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="of train.py, such as hardware=24gb")
    parser.add_argument("--no-fast", action="store_true", help="leave speed=fast out")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave peak memory out")
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()), help="disk for long_clip")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("rest", nargs="*", help="after --: arguments of bench_long_clip.py")
    found = parser.parse_args(given)
    found.accelerator = found.accelerator or ("gpu" if torch.cuda.is_available() else "cpu")
    return found


def run(given: argparse.Namespace, console: Console) -> Path:
    """Measure, show and write; the file, which is written anew after every row."""
    prepare_process(given.threads, given.seed)
    about, date = machine(given.accelerator, given.threads), datetime.now(UTC)
    setting = next((s for s in given.setting if s in SIZES), MAIN[given.accelerator])
    found: dict[str, Any] = {
        "setting": setting,
        "date": f"{date:%Y-%m-%d %H:%M} UTC",
        "seed": given.seed,
        "settings": given.set,
        "machine": about,
        "versions": {"tempcons": tempcons.__version__} | {name: version(name) for name in PACKAGES},
    }
    given.out.mkdir(parents=True, exist_ok=True)
    path, rows = path_of(about, given.out, date, given.only), list[Row]()
    for row in (row for kind in given.only or KINDS for row in KINDS[kind](given)):
        rows.append(row)
        console.print(" ".join(filter(None, (cell(row) for cell in COLUMNS.values()))), highlight=False)
        write_json(path, {"ratio": ratios(rows, setting), **found, "rows": rows})
    console.print(table(rows))
    console.print({name: value and round(value, 3) for name, value in ratios(rows, setting).items()})
    console.print(str(path))
    return path


if __name__ == "__main__":
    run(arguments(), Console(width=160))
