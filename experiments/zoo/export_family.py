"""Turn a trained autoencoder into the embedded family: generator, encoder, code sampler, directions.

    python experiments/zoo/export_family.py --state runs/autoencoder/state.pt \\
        --faces FOLDER --labels faces.csv --out tempcons/assets

or with ``--generator`` and ``--encoder``, the assets that train_gan.py and train_encoder.py leave. The
sampler is a Gaussian in the leading principal directions of the training faces' codes. A direction is the
mean difference between faces labelled with an emotion and neutral faces of the same person (training
persons only).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from train_autoencoder import CHANNELS, SIZE, STYLE_DIM, held_out_psnr, read_faces

from tempcons.family import encoder_from_asset, generator_from_asset
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights.assets import read_asset, save_asset

EMOTIONS = {"surprised": "surprise", "happy": "happiness", "angry": "anger"}
COMPONENTS = 80
LICENCE = "Apache-2.0 (weights trained by this project; see the model card for the data)"


@torch.no_grad()
def encode_all(encoder: FaceEncoder, pictures: np.ndarray) -> Tensor:
    """(N, L, D) codes of uint8 pictures."""
    parts = [
        encoder(torch.from_numpy(pictures[at : at + 64]).float() / 127.5 - 1)
        for at in range(0, len(pictures), 64)
    ]
    return torch.cat(parts)


def fit_sampler(codes: Tensor) -> tuple[dict[str, Tensor], float]:
    """Mean, scaled principal directions, and the median distance of a code to a sampled one."""
    mean = codes.mean(0)
    centred = (codes - mean).flatten(1)
    _, spread, directions = torch.pca_lowrank(centred, q=COMPONENTS, center=False, niter=4)
    scale = spread / (len(codes) - 1) ** 0.5
    basis = (directions * scale).T.reshape(COMPONENTS, *mean.shape)
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(2000, COMPONENTS, generator=random)
    sampled = torch.einsum("nk,kld->nld", weights, basis) + mean
    distance = (codes[torch.randperm(len(codes), generator=random)[:2000]] - sampled).flatten(1).norm(dim=1)
    return {"mean": mean, "basis": basis}, distance.median().item()


def fit_direction(
    codes: Tensor, positive: np.ndarray, neutral: np.ndarray, identities: np.ndarray, held: np.ndarray
) -> dict:
    """Mean difference (L, D) within persons, and its balanced accuracy on held-out persons.

    Comparing a face with the neutral faces of the same person keeps who is often labelled with the
    emotion out of the direction. The accuracy is that of the threshold half-way between the means
    of differences to the person's own mean code.
    """
    differences, scores, truths = [], [], []
    for person in np.unique(identities[positive]):
        own = identities == person
        if not (own & neutral).any():
            continue
        base = codes[torch.from_numpy(own & neutral)].mean(0)
        if not held[own].any():
            differences.append(codes[torch.from_numpy(own & positive)].mean(0) - base)
    direction = torch.stack(differences).mean(0)
    for person in np.unique(identities[held]):
        own = held & (identities == person)
        if not ((own & positive).any() and (own & neutral).any()):
            continue
        centre = (codes[own & positive].mean(0) + codes[own & neutral].mean(0)) / 2
        for flags, truth in ((positive, True), (neutral, False)):
            score = ((codes[own & flags] - centre) * direction).flatten(1).sum(1)
            scores += score.tolist()
            truths += [truth] * len(score)
    found, wanted = np.array(scores), np.array(truths, bool)
    accuracy = (
        0.5 * ((found[wanted] > 0).mean() + (found[~wanted] <= 0).mean()) if wanted.any() else float("nan")
    )
    return {
        "direction": direction,
        "accuracy": float(accuracy),
        "persons": len(differences),
        "judged": len(truths),
    }


def networks_of(args: argparse.Namespace) -> tuple[Generator, FaceEncoder]:
    """The averaged networks of an autoencoder's state, or those of two assets, as half precision has them."""
    if args.state is None:
        generator = generator_from_asset(read_asset(args.generator, "generator"))
        return generator, encoder_from_asset(read_asset(args.encoder, "encoder"))
    state = torch.load(args.state, weights_only=True)["average"]
    generator = Generator(SIZE, STYLE_DIM, 0, CHANNELS)
    encoder = FaceEncoder(num_layers(SIZE), STYLE_DIM)
    for prefix, model in (("generator.", generator), ("encoder.", encoder)):
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        # Trained without noise: stored noise pictures are zero, so that the two modes agree.
        own = {k: torch.zeros_like(v) if k.startswith("noises.") else v for k, v in own.items()}
        model.load_state_dict({k: v.half().float() for k, v in own.items()})
    return generator, encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, help="of train_autoencoder.py")
    parser.add_argument("--generator", type=Path, help="asset, instead of the state")
    parser.add_argument("--encoder", type=Path, help="asset, with --generator")
    for name in ("faces", "labels", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    if (args.state is None) == (args.generator is None or args.encoder is None):
        parser.error("either --state, or --generator and --encoder")
    generator, encoder = networks_of(args)
    pictures, held, _ = read_faces(args.faces, args.labels)
    test = torch.from_numpy(pictures[held]).float() / 127.5 - 1
    figures: dict[str, object] = {
        "held_out_pictures": len(test),
        "held_out_psnr_db": round(held_out_psnr(encoder, generator, test), 2),
    }
    save_asset(
        args.out / "generator.safetensors",
        generator.state_dict(),
        "generator",
        {"generator": generator.config},
        LICENCE,
    )
    save_asset(
        args.out / "encoder.safetensors",
        encoder.state_dict(),
        "encoder",
        {"encoder": encoder.config},
        LICENCE,
    )
    codes = encode_all(encoder, pictures)
    tensors, distance = fit_sampler(codes[torch.from_numpy(~held)])
    save_asset(args.out / "sampler.safetensors", tensors, "sampler", {"typical_distance": distance}, LICENCE)
    figures["typical_distance"] = round(distance, 3)
    with args.labels.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    emotions = np.array([row["emotion"] for row in rows])
    identities = np.array([int(row["identity"]) for row in rows])
    for name, label in EMOTIONS.items():
        fitted = fit_direction(codes, emotions == label, emotions == "neutral", identities, held)
        save_asset(
            args.out / f"direction_{name}.safetensors",
            {"direction": fitted["direction"]},
            "direction",
            {"label": label},
            LICENCE,
            half=False,
        )
        figures[f"direction_{name}"] = {
            "training_persons": fitted["persons"],
            "held_out_balanced_accuracy": round(fitted["accuracy"], 3),
            "held_out_faces_judged": fitted["judged"],
            "norm": round(fitted["direction"].norm().item(), 3),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
