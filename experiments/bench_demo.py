"""The demo's time at an earlier state of the repository and now, taking turns on this machine.

    python -m experiments.bench_demo --before COMMIT
    python -m experiments.bench_demo --before COMMIT --rounds 2 -- clip.num_frames=16

Each turn is a whole ``python train.py`` with a cache of its own, in a clone of the repository: the commit,
and what is committed now. Both run in this Python environment. The figure is the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from experiments.bench import RESULTS, machine, path_of
from tempcons.check import InputError
from tempcons.cli import report_errors
from tempcons.store.artefact import write_json

ROOT = Path(__file__).parent.parent
WAYS = ("before", "now")


def git(*told: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *told], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(
            "bench", f"git {' '.join(told)}: {done.stderr.strip()}", "give a commit of this clone"
        )
    return done.stdout.strip()


def clone(commit: str, folder: Path) -> Path:
    """The repository as it was."""
    git("clone", "--quiet", "--shared", str(ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", commit)
    return folder


def turn(code: Path, place: Path, settings: list[str]) -> dict[str, Any]:
    """One whole run: seconds, seconds by stage, and the figures of its last phase."""
    told = [*settings, f"output.root={place / 'outputs'}", f"output.cache={place / 'cache'}"]
    environment = {**os.environ, "PYTHONPATH": str(code), "WANDB_MODE": "offline"}
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "train.py", *told], cwd=code, env=environment).returncode
    seconds = time.perf_counter() - began
    if ended:
        raise InputError("bench", f"train.py in {code} ended with code {ended}", "see what it said above")
    run = place / "outputs" / "latest"
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    figures = json.loads((run / "metrics.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "stages": [[stage["stage"], stage.get("seconds", 0.0)] for stage in stages],
        "metrics": {name: figures[name] for name in ("direct", "phase2") if name in figures},
    }


def rows(before: str, rounds: int, settings: list[str], place: Path) -> list[dict[str, Any]]:
    """All turns, in the order in which they ran."""
    commits = {"before": git("rev-parse", before), "now": git("rev-parse", "HEAD")}
    code = {way: clone(commit, place / way) for way, commit in commits.items()}
    found = []
    for number in range(rounds):
        for way in WAYS:
            print(f"round {number + 1}, {way} ({commits[way][:9]})", flush=True)
            row = turn(code[way], place / f"{way}-{number}", settings)
            print(f"  {row['seconds']} s", flush=True)
            found.append({"kind": "demo", "way": way, "commit": commits[way], **row})
    return found


def ratio(found: list[dict[str, Any]]) -> float:
    """How many times as long the demo took before."""
    before, now = (median(row["seconds"] for row in found if row["way"] == way) for way in WAYS)
    return before / now


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", required=True, help="a commit")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("settings", nargs="*", help="after --: settings of train.py, for both")
    return parser.parse_args(given)


def main() -> None:
    given, date = arguments(), datetime.now(UTC)
    with tempfile.TemporaryDirectory() as place:
        found = rows(given.before, given.rounds, given.settings, Path(place))
    about = machine("cpu", torch.get_num_threads())
    document = {
        "ratio": {"demo": ratio(found)},
        "date": f"{date:%Y-%m-%d %H:%M} UTC",
        "settings": given.settings,
        "machine": about,
        "rows": found,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    path = path_of(about, given.out, date, ["demo"])
    write_json(path, document)
    print(f"before takes {ratio(found):.2f} times as long as now\n{path}")


if __name__ == "__main__":
    with report_errors():
        main()
