"""Draw the direct edits of one clip as one picture: a row per edit, a column per frame.

python experiments/edits_picture.py .cache/tempcons/invert/KEY --out docs/edits.png

The folder is a finished inversion in the cache (every run's manifest.json names its own).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hydra
import numpy as np
import torch
from demo_picture import sheet

from tempcons import resolvers  # noqa: F401  (of the configuration)
from tempcons.edits.change import apply_all, load_change
from tempcons.edits.config import EditConfig
from tempcons.family import load_family
from tempcons.media.range import to_frames
from tempcons.schema import Config, parse
from tempcons.stages.invert import load_generator
from tempcons.weights.assets import load_state

CONF = Path(__file__).parent.parent / "conf"
EDITS = ("surprised", "happy", "angry")
LOOKS = ("nada_sketch", "nada_pixar", "nada_disney_princess", "nada_elf", "nada_zombie")


def composed(edit: str) -> Config:
    """The settings of ``python train.py edit=EDIT``."""
    with hydra.initialize_config_dir(str(CONF), version_base=None):
        return parse(hydra.compose("config", overrides=[f"edit={edit}"]))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inversion", type=Path, help="with codes.safetensors and generator.safetensors")
    parser.add_argument("--edits", nargs="+", default=[*EDITS, *LOOKS])
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    family = load_family(composed(args.edits[0]).family, torch.device("cpu"))
    tuned = load_generator(args.inversion / "generator.safetensors", family.generator)
    codes = load_state(args.inversion / "codes.safetensors")[0]["codes"]
    codes = codes[np.linspace(0, len(codes) - 1, args.columns).round().astype(int)]
    rows = {"inversion": to_frames(tuned.synthesis(codes))}
    for name in args.edits:
        edit: EditConfig = composed(name).edit
        change = load_change(edit, edit.source_in(family.name), family.name, family.generator, edit.strength)
        moved, generator = apply_all([change], codes, tuned)
        rows[name] = to_frames(generator.synthesis(moved))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, args.columns).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
