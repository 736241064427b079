"""Fit a measure of identity on persons with several pictures: does an edit leave the person?

    python -m experiments.zoo.train_identity --faces FOLDER --labels faces.csv --out runs/identity.safetensors

Features of the perceptual network, of luminance, are brought to few numbers in which pictures of one person
lie close together and persons apart: principal directions, then linear discriminant analysis (Fisher 1936).
There is nothing to go on from after a kill: all of it is two passes over the pictures. What it is worth is
told on persons that it never saw: how often two pictures of one person are more alike than two of different
ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.zoo import faces
from experiments.zoo.augment import gray
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import LICENCE
from tempcons.check import InputError
from tempcons.models.perceptual import FeatureDistance, Lite0Distance
from tempcons.weights.assets import read_asset, save_asset

TAPS, GRID = (10, 15), 4
PRINCIPAL, KEPT, RIDGE = 300, 64, 0.1
EACH = 6  # pictures of a person, at most


class IdentityNetwork(nn.Module):
    """(B, 3, S, S) pictures in [-1, 1] to (B, D) embeddings, whose cosine says how alike persons are.

    Args:
        mean: (N,) of the features.
        projection: (N, D).
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, features: FeatureDistance, mean: Tensor, projection: Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    def forward(self, pictures: Tensor) -> Tensor:
        return (pooled(self.features, pictures) - self.mean) @ self.projection


def pooled(network: FeatureDistance, pictures: Tensor) -> Tensor:
    """(B, N) features of the luminance of pictures, every tap averaged over 4 x 4 fields."""
    taps = network._taps(gray(pictures))
    return torch.cat([F.adaptive_avg_pool2d(tap, GRID).flatten(1) for tap in taps], 1)


def several(found: Faces, flags: np.ndarray) -> np.ndarray:
    """Indices of at most :data:`EACH` pictures of every person of ``flags`` who has two or more.

    Raises:
        InputError: there is no such person.
    """
    at = np.flatnonzero(flags)
    order = at[np.argsort(found.identity[at], kind="stable")]
    _, start, count = np.unique(found.identity[order], return_index=True, return_counts=True)
    kept = [order[s : s + min(n, EACH)] for s, n in zip(start, count, strict=True) if n > 1]
    if not kept:
        raise InputError("zoo", "no person has two pictures", "the CSV's column identity")
    return np.concatenate(kept)


@torch.no_grad()
def features_of(network: FeatureDistance, found: Faces, at: np.ndarray, batch: int = 64) -> Tensor:
    """(n, N) features of the pictures ``at``."""
    parts = torch.from_numpy(at).split(batch)
    return torch.cat([pooled(network, to_range(found.pictures[part])) for part in parts])


def within_persons(points: Tensor, persons: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, K) less their persons' means, these means (P, K), and how many points persons have (P,)."""
    which = torch.from_numpy(np.unique(persons, return_inverse=True)[1])
    count = torch.bincount(which).float()
    centres = torch.zeros(len(count), points.shape[1]).index_add_(0, which, points) / count[:, None]
    return points - centres[which], centres, count


def discriminant(features: Tensor, persons: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean (N,) and projection (N, D): whitened within persons, then where persons differ most."""
    mean = features.mean(0)
    few = min(PRINCIPAL, *features.shape)
    basis = torch.pca_lowrank(features - mean, q=few, center=False, niter=2)[2]
    points = (features - mean) @ basis
    inside, centres, count = within_persons(points, persons)
    spread = inside.T @ inside / max(1, len(points) - len(count))
    values, vectors = torch.linalg.eigh(spread + RIDGE * spread.diag().mean() * torch.eye(few))
    white = vectors / values.sqrt()
    apart = (centres @ white) * count.sqrt()[:, None]
    leading = torch.linalg.eigh(apart.T @ apart)[1][:, -KEPT:]
    return mean, basis @ white @ leading


def verification(embedded: Tensor, persons: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve over all pairs, and the mean cosine of pairs of one and of two persons."""
    unit = F.normalize(embedded, dim=1)
    one, other = np.triu_indices(len(persons), 1)
    cosine = (unit @ unit.T)[one, other].double().numpy()
    same = persons[one] == persons[other]
    rank = cosine.argsort().argsort()
    pairs, others = int(same.sum()), int((~same).sum())
    area = (rank[same].sum() - pairs * (pairs - 1) / 2) / max(1, pairs * others)
    return {
        "auc": round(float(area), 4),
        "same_person": round(float(cosine[same].mean()), 4),
        "two_persons": round(float(cosine[~same].mean()), 4),
        "pairs": pairs,
    }


def read_identity(path: Path, features: FeatureDistance | None = None) -> IdentityNetwork:
    """What a fit left."""
    tensors = read_asset(path, "identity").tensors
    return IdentityNetwork(features or Lite0Distance(TAPS), tensors["mean"], tensors["projection"]).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    found, network = faces.from_arguments(args), Lite0Distance(TAPS)
    training, testing = several(found, ~found.held), several(found, found.held)
    mean, projection = discriminant(features_of(network, found, training), found.identity[training])
    embedded = (features_of(network, found, testing) - mean) @ projection
    figures = verification(embedded, found.identity[testing])
    save_asset(args.out, {"mean": mean, "projection": projection}, "identity", {"held_out": figures}, LICENCE)
    print(json.dumps({"pictures": len(training), "held_out": figures}))


if __name__ == "__main__":
    main()
