"""What each switch of the fast mode gains: seconds of a step of both phases.

    python -m experiments.speed_switches [--switches exact fast speed.precision=bf16-mixed] [SETTING=VALUE]

Processor time, as the machine may be shared; pictures of the family's own, some steps, medians over rounds
in which the switches take turns. What a switch costs in E_warp and distance, whole runs of train.py tell.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from experiments.composed import composed
from tempcons.family import Family, load_family
from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.runtime import pick_device, prepare_process
from tempcons.schema import Config
from tempcons.stages import phase1, phase2, target
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext
from tempcons.training.hyper import Hyper
from tempcons.types import Edited

EXACT = "exact"
SWITCHES = (
    EXACT,
    "speed.regularise_every=2",
    "speed.precision=bf16-mixed",
    "speed.perceptual_size=64",
    "fast",
)
# A multiple of the steps between two evaluations of the regularisation.
STEPS = 8


def configured(switch: str, settings: Sequence[str]) -> Config:
    """The configuration with one switch, or a whole mode."""
    chosen = f"speed={switch}" if "=" not in switch else switch
    return composed(chosen, *settings, "compare=false")


def drawn(family: Family, count: int) -> Edited:
    """Frames as the family's generator draws them; a step takes as long for any others."""
    random = torch.Generator().manual_seed(0)
    codes = torch.lerp(family.mean_code, family.sample_codes(count, random), 0.5)
    with torch.no_grad():
        frames = FrameStore(to_frames(family.generator.synthesis(codes)))
    ids = np.arange(count)
    return Edited(codes, ids, family.generator, frames, frames, "in", int(ids[(count - 1) // 2]), "drawn")


def step_seconds(config: Config, edited: Edited, family: Family) -> tuple[float, float]:
    """Processor seconds of a step of phase 1 and of phase 2."""

    def one_epoch(hyper: Hyper) -> Hyper:
        return replace(hyper, phase1=replace(hyper.phase1, epochs=1), phase2=replace(hyper.phase2, epochs=1))

    trainer = config.speed.trainer(config.trainer)
    context = PhaseContext("timing", one_epoch(config.hyper), trainer, config.seed, metrics_every=0)
    fitting = config.speed.family(family)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        goal = target.run(edited, family, config.hyper, Store(folder)).frames
        for part, work in (
            ("phase1", lambda place: phase1.refine(edited, goal, fitting, context, place)),
            ("phase2", lambda place: phase2.tune(edited, edited.codes, goal, fitting, context, place)),
        ):
            ended: list[float] = []
            handle = register_optimizer_step_post_hook(lambda *_, to=ended: to.append(time.process_time()))
            (folder / part).mkdir(exist_ok=True)
            work(folder / part)
            handle.remove()
            spans = [b - a for a, b in pairwise(ended)]
            found.append(statistics.fmean(spans[-STEPS:]))
    return found[0], found[1]


def main() -> None:
    """Print a line a switch, as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--switches", nargs="+", default=list(SWITCHES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("settings", nargs="*")
    told = parser.parse_args()
    configs = {switch: configured(switch, told.settings) for switch in told.switches}
    base = configured(EXACT, told.settings)
    prepare_process(base.trainer.num_threads, base.seed)
    family = load_family(base.family, pick_device(base.trainer.accelerator), base.inversion.encoder)
    edited = drawn(family, told.frames)
    rounds = [
        {switch: step_seconds(config, edited, family) for switch, config in configs.items()}
        for _ in range(told.rounds)
    ]
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {told.rounds} rounds")
    print("| switch | phase 1, s | phase 2, s |\n|---|---|---|")
    for switch in configs:
        one, two = (statistics.median(done[switch][phase] for done in rounds) for phase in (0, 1))
        print(f"| {switch} | {one:.3f} | {two:.3f} |")


if __name__ == "__main__":
    main()
