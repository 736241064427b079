"""Draw the direct edits of one clip as one picture: a row per edit, a column per frame.

    python -m experiments.edits_picture .cache/tempcons/invert/KEY --out docs/edits.png

The folder is a finished inversion in the cache (every run's manifest.json names its own).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from experiments.composed import change_of, composed
from experiments.demo_picture import sheet
from tempcons.edits.change import apply_all
from tempcons.family import load_family
from tempcons.media.range import to_frames
from tempcons.stages.invert import load_generator
from tempcons.weights.assets import load_state

EDITS = ("surprised", "happy", "angry", "eyeglasses", "beard")
LOOKS = ("nada_sketch", "nada_pixar", "nada_disney_princess", "nada_elf", "nada_zombie")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inversion", type=Path, help="with codes.safetensors and generator.safetensors")
    parser.add_argument("--edits", nargs="+", default=[*EDITS, *LOOKS])
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    family = load_family(composed().family, torch.device("cpu"))
    tuned = load_generator(args.inversion / "generator.safetensors", family.generator)
    codes = load_state(args.inversion / "codes.safetensors")[0]["codes"]
    shown = np.linspace(0, len(codes) - 1, args.columns).round().astype(int)
    rows = {"inversion": to_frames(tuned.synthesis(codes[shown]))}
    for name in args.edits:
        moved, generator = apply_all([change_of(name, family)], codes, tuned)
        rows[name] = to_frames(generator.synthesis(moved[shown]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, args.columns).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
