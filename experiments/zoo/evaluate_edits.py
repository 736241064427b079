"""What the embedded in-domain edits do, at the strength of their configuration: one table.

    python -m experiments.zoo.evaluate_edits --faces FOLDER --labels faces.csv --out runs/edits \\
        --classifier runs/judge/classifier.safetensors --identity runs/identity.safetensors --clip INVERT

On held-out persons' neutral faces, as encoder and generator draw them: how many of those that the classifier
does not take for the emotion it does after the edit, the cosine of identity embeddings before and after, and
the perceptual distance. Of things that are drawn on a face (``--edits eyeglasses beard``, which need no
classifier) the latter two; fitted to a clip as users have them, with ``--override edit.refine=0`` as they
were learned. ``--clip``, a folder of the stage "invert" in the cache, adds the same for the frames
of a clip and its tuned generator, and a picture. A classifier that an edit was trained against is no judge.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.composed import change_of, composed
from experiments.zoo import faces
from experiments.zoo.evaluate_family import EMOTION_OF
from experiments.zoo.faces import to_range
from experiments.zoo.props import PROPS
from experiments.zoo.train_classifier import EMOTIONS, EmotionNetwork, flip_rate, read_classifier
from experiments.zoo.train_gan import write_grid
from experiments.zoo.train_identity import IdentityNetwork, read_identity
from tempcons.check import InputError
from tempcons.edits.change import apply_all
from tempcons.family import Family, load_family
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.stages.invert import load_generator
from tempcons.weights.assets import load_state

SHOWN, BATCH = 10, 32
JUDGED = sorted({*EMOTION_OF, *PROPS})


def drawn(generator: Generator, codes: Tensor) -> Tensor:
    """(N, 3, S, S) pictures of codes, without noise."""
    return torch.cat([generator.synthesis(part, "none").clamp(-1, 1) for part in codes.split(BATCH)])


def in_parts(network: Any, *pictures: Tensor) -> Tensor:
    """What a network says of pictures, or of pairs, in batches."""
    return torch.cat([network(*some) for some in zip(*(p.split(BATCH) for p in pictures), strict=True)])


def figures(
    before: Tensor, after: Tensor, identity: IdentityNetwork, distance: FeatureDistance
) -> dict[str, float]:
    """Of pictures before and after an edit: identity kept, and perceptual distance."""
    far = in_parts(distance, after, before).mean()
    kept = F.cosine_similarity(in_parts(identity, before), in_parts(identity, after)).mean()
    return {"identity_kept": round(kept.item(), 4), "distance": round(far.item(), 4)}


def emotion_figures(before: Tensor, after: Tensor, emotion: str, judge: EmotionNetwork) -> dict[str, float]:
    """Of pictures before and after an edit: flips, and how probable the emotion is after."""
    probable = in_parts(judge, after).softmax(1)[:, EMOTIONS.index(emotion)]
    found = flip_rate(judge, before, after, emotion) | {"probability": probable.mean().item()}
    return {name: round(value, 4) for name, value in found.items()}


def sources(args: argparse.Namespace, family: Family) -> dict[str, tuple[Generator, Tensor]]:
    """Generators and the codes (N, L, D) that edits are tried on.

    Raises:
        InputError: no held-out neutral face.
    """
    chosen = {}
    if args.clip is not None:
        tuned = load_generator(args.clip / "generator.safetensors", family.generator)
        chosen["clip"] = (tuned, load_state(args.clip / "codes.safetensors")[0]["codes"])
    if args.clip_only:
        return chosen
    found = faces.from_arguments(args, family.generator.size)
    neutral = found.chosen(found.held & (np.array(found.emotion) == "neutral"))[: args.pictures]
    if not len(neutral):
        raise InputError("zoo", "no held-out face is labelled neutral", "more pictures")
    assert family.encoder is not None
    codes = torch.cat([family.encoder(to_range(part)) for part in neutral.split(BATCH)])
    return {"held_out": (family.generator, codes), **chosen}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    parser.add_argument("--classifier", type=Path, help="for edits of an emotion")
    parser.add_argument("--identity", type=Path, required=True)
    parser.add_argument("--edits", nargs="+", default=sorted(EMOTION_OF), choices=JUDGED)
    parser.add_argument("--override", nargs="*", default=[], help="of the configuration: edit.strength=1.5")
    parser.add_argument("--clip", type=Path, help="folder with a clip's codes.safetensors and generator")
    parser.add_argument("--clip-only", action="store_true", help="leave the held-out faces out")
    parser.add_argument("--pictures", type=int, help="only so many of the held-out faces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.classifier is None and not EMOTION_OF.keys().isdisjoint(args.edits):
        parser.error("--classifier is needed to judge edits of an emotion")
    torch.set_num_threads(args.threads)
    family = load_family(composed().family, torch.device("cpu"))
    judge = None if args.classifier is None else read_classifier(args.classifier)
    identity = read_identity(args.identity)
    args.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {}
    for place, (generator, codes) in sources(args, family).items():
        before = drawn(generator, codes)
        shown = torch.linspace(0, len(codes) - 1, min(SHOWN, len(codes))).round().long()
        rows = [before[shown]]
        table[place] = {"pictures": len(codes)}
        for name in args.edits:
            moved, edited = apply_all([change_of(name, family, *args.override)], codes, generator)
            after = drawn(edited, moved)
            rows.append(after[shown])
            found = figures(before, after, identity, family.perceptual)
            if judge is not None and name in EMOTION_OF:
                found = emotion_figures(before, after, EMOTION_OF[name], judge) | found
            table[place][name] = found
        write_grid(torch.cat(rows), len(rows), args.out / f"{place}.png")
    (args.out / "edits.json").write_text(json.dumps(table, indent=2))
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
