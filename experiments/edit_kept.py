"""How much of an edit a clip's tuned generator keeps: the price of pivotal tuning.

    python -m experiments.edit_kept .cache/tempcons/invert/KEY [.cache/tempcons/invert/OTHER ...]

Each folder is a finished inversion in the cache (every run's manifest.json names its own). Printed is, by
edit, how far the tuned generator's change of the pictures goes along the base generator's: 1 is kept. Edits
are taken as they were learned, not fitted to the clip (edit.refine, edit.refine_generator).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.composed import change_of, composed
from experiments.edits_picture import EDITS, LOOKS
from tempcons.edits.change import Change, apply_all
from tempcons.family import load_family
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import load_generator
from tempcons.weights.assets import load_state


@torch.no_grad()
def effect(change: Change, codes: Tensor, generator: Generator) -> Tensor:
    """What an edit does to the pictures (T, 3, H, W) of codes (T, L, D)."""
    moved, adapted = apply_all([change], codes, generator)
    before, after = generator.synthesis(codes), adapted.synthesis(moved)
    return after.clamp(-1, 1) - before.clamp(-1, 1)


def kept(
    change: Change, codes: Tensor, base: Generator, tuned: Generator, reference: Tensor | None = None
) -> float:
    """The tuned generator's effect projected onto the base's, as a share of it: 1 is kept, 0 is gone.

    Args:
        change: the edit.
        codes: (T, L, D), those that the generator was tuned around.
        base: the generator before.
        tuned: and after tuning.
        reference: (T, L, D) codes at which the base's effect is taken instead.
    """
    wanted = effect(change, codes if reference is None else reference, base)
    found = effect(change, codes, tuned)
    return ((wanted * found).sum() / wanted.square().sum()).item()


def codes_of(inversion: Path, every: int) -> Tensor:
    """(t, L, D) codes of one frame of so many."""
    return load_state(inversion / "codes.safetensors")[0]["codes"][::every]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inversions", type=Path, nargs="+", help="with codes and generator.safetensors")
    parser.add_argument("--edits", nargs="+", default=[*EDITS, *LOOKS])
    parser.add_argument("--every", type=int, default=4, help="of so many frames one")
    parser.add_argument(
        "--reference", type=Path, help="inversion at whose codes the base's change is taken, for all alike"
    )
    args = parser.parse_args()
    base = load_family(composed().family, torch.device("cpu"))
    changes = {name: replace(change_of(name, base), fit=None) for name in args.edits}
    reference = None if args.reference is None else codes_of(args.reference, args.every)
    print("\t".join(["inversion", *changes]))
    for folder in args.inversions:
        tuned = load_generator(folder / "generator.safetensors", base.generator)
        codes = codes_of(folder, args.every)
        shares = [kept(change, codes, base.generator, tuned, reference) for change in changes.values()]
        print("\t".join([folder.name, *(f"{share:.3f}" for share in shares)]))


if __name__ == "__main__":
    main()
