"""Compare trained flow with DIS and zero flow where the truth is known.

    python -m experiments.zoo.evaluate_flow --faces FOLDER --labels faces.csv --clip clip.mp4 \\
        --flow runs/flow/flow.safetensors --out runs/flow/errors.json

Held-out synthetic pairs (persons that no training saw, fixed seed), and frames of real clips moved by a known
flow. End-point error in px over visible points; also over all points, and by how far the points move. And
what a pair costs, both ways, in seconds of a core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.zoo import faces
from experiments.zoo.flow_truth import (
    Estimator,
    clip_frames,
    end_point_errors,
    real_pairs,
    synthetic_pairs,
    zero_flow,
)
from experiments.zoo.synthetic_motion import Motion
from tempcons.family import own_raft
from tempcons.models.flow import DISFlow, FlowNetwork, RaftFlow
from tempcons.weights.assets import read_asset

SIZE = 128
# A flow may replace DIS if it is better on synthetic pairs, and at most so much worse on real frames.
REAL_SLACK = 1.10


def read_flow(path: Path, updates: int | None = None) -> RaftFlow:
    """RAFT-small from its asset."""
    asset = read_asset(path, "flow")
    return own_raft(asset, updates or asset.config["flow"]["updates"])


def estimators(path: Path | None, updates: list[int]) -> dict[str, Estimator]:
    """Zero flow, DIS at two presets, RAFT with these numbers of updates, and as it is used."""
    found: dict[str, Estimator] = {"zero": zero_flow}
    for preset in ("medium", "fine"):
        dis = DISFlow(preset)
        found[dis.name] = dis
    for count in updates if path is not None else []:
        assert path is not None
        shipped = read_flow(path, count)
        plain = RaftFlow(shipped.model, count, "raft-small-own", shipped.view)
        found |= {each.name: each for each in (plain, shipped)}
    return found


def verdict(synthetic: dict[str, dict[str, float]], real: dict[str, Any]) -> dict[str, bool]:
    """Whether a RAFT is good enough to replace DIS, by name."""
    dis = DISFlow().name
    return {
        name: figures["epe"] < synthetic[dis]["epe"]
        and all(part[name]["epe"] <= REAL_SLACK * part[dis]["epe"] for part in real.values())
        for name, figures in synthetic.items()
        if name.startswith("raft")
    }


def seconds_of_a_pair(network: FlowNetwork, a: Tensor, b: Tensor, gradient: bool, repeats: int) -> float:
    """Median processor seconds of both ways of one pair, with ``gradient`` as far as into both pictures."""
    taken = []
    with torch.set_grad_enabled(gradient):
        for _ in range(repeats + 1):
            pictures = [picture.clone().requires_grad_(gradient) for picture in (a, b)]
            began = time.process_time()
            there, back = network.pair(*pictures)
            if gradient:
                torch.autograd.grad(there.sum() + back.sum(), pictures)
            taken.append(time.process_time() - began)
    # The first one also loads what the others need.
    return statistics.median(taken[1:])


def pair_seconds(judged: dict[str, Estimator], a: Tensor, b: Tensor, repeats: int) -> dict[str, Any]:
    """:func:`seconds_of_a_pair` of every network, and with the gradient where it has one."""
    return {
        name: {
            f"{'with' if gradient else 'without'}_gradient": seconds_of_a_pair(each, a, b, gradient, repeats)
            for gradient in ((False, True) if each.differentiable else (False,))
        }
        for name, each in judged.items()
        if isinstance(each, FlowNetwork)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    parser.add_argument("--flow", type=Path, help="asset; without it only DIS and zero flow are measured")
    parser.add_argument(
        "--clip", type=Path, action="append", default=[], help="video, folder of frames, or frames.npy"
    )
    parser.add_argument("--clip-share", type=float, default=1.0, help="centre square, of the shorter side")
    parser.add_argument("--updates", type=int, nargs="+", default=[8, 12])
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="of a pair, for its seconds")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    testing = faces.from_arguments(args).testing
    judged = estimators(args.flow, args.updates)
    synthetic = {
        name: end_point_errors(each, synthetic_pairs(testing, args.pairs, Motion()))
        for name, each in judged.items()
    }
    clips = {clip.name: clip_frames(clip, args.frames, SIZE, args.clip_share) for clip in args.clip}
    real = {
        clip: {name: end_point_errors(each, real_pairs(frames, 4)) for name, each in judged.items()}
        for clip, frames in clips.items()
    }
    pair = next(synthetic_pairs(testing, 1, Motion()))
    seconds = pair_seconds(judged, pair.a, pair.b, args.repeats)
    found = {
        "pairs": args.pairs,
        "synthetic": synthetic,
        "real": real,
        "pair_seconds": seconds,
        "threads": torch.get_num_threads(),
        "good_enough": verdict(synthetic, real),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=2))
    shown = {"synthetic pairs": synthetic, **real, "seconds of a core a pair, both ways": seconds}
    for part, figures in shown.items():
        print(part)
        for name, values in figures.items():
            print(f"  {name:20s}", "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
    print("good enough:", found["good_enough"])


if __name__ == "__main__":
    main()
