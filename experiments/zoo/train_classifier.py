"""Train a small emotion classifier on faces, validated on held-out persons: the judge of in-domain edits.

    python -m experiments.zoo.train_classifier --faces FOLDER --labels faces.csv --out runs/classifier

It sees luminance alone, so that colour does not tell the sources of the pictures apart. Every emotion is
drawn as often as the others: labels are uneven and noisy, and the figure is balanced accuracy. Rare emotions
leave few held-out faces, so more persons than elsewhere are kept for tests (``--held-share``), those of the
other scripts among them. What is trained against one of these networks is judged by another one: of
``--size``, ``--depth``, ``--width`` and ``--seed`` of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.zoo import faces, running
from experiments.zoo.augment import gray, input_changes
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.networks import LICENCE
from tempcons.check import InputError
from tempcons.weights.assets import read_asset, save_asset

EMOTIONS = ("neutral", "happiness", "surprise", "anger")
ASSET = "classifier.safetensors"
WIDTH, DEPTH, SIZE = 24, 1, 64
HELD_OUT_SHARE = 0.2


class EmotionNetwork(nn.Sequential):
    """(B, 3, H, W) pictures in [-1, 1] to (B, 4) logits of :data:`EMOTIONS`.

    Args:
        width: channels after the first convolution.
        depth: convolutions at each of five sizes, the first of which halves the side.
        size: side that pictures are brought to first.
    """

    def __init__(self, width: int = WIDTH, depth: int = DEPTH, size: int = SIZE) -> None:
        layers: list[nn.Module] = []
        before = 1
        for at in range(5):
            here = width * min(2**at, 8)
            for stride in (2, *[1] * (depth - 1)):
                layers += [nn.Conv2d(before, here, 3, stride, 1), nn.GroupNorm(4, here), nn.SiLU()]
                before = here
        layers += [
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * before, len(EMOTIONS)),
        ]
        super().__init__(*layers)
        self.config = {"width": width, "depth": depth, "size": size}

    def forward(self, pictures: Tensor) -> Tensor:
        size = self.config["size"]
        return super().forward(F.interpolate(gray(pictures)[:, :1], (size, size), mode="area"))


def softened(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Pictures (B, C, S, S) between themselves and blurred ones: what a generator draws is softer."""
    share = torch.rand(len(pictures), 1, 1, 1, generator=random, device=pictures.device)
    return torch.lerp(pictures, F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1), share)


def labels_of(found: Faces) -> np.ndarray:
    """(N,) index of the emotion, -1 for others and unknown ones."""
    return np.array([EMOTIONS.index(e) if e in EMOTIONS else -1 for e in found.emotion])


class ClassifierTraining(running.ZooModule):
    """The classifier and the labelled faces.

    Args:
        held_share: of the persons, kept for tests; those that other scripts keep are among them.

    Raises:
        InputError: an emotion without any training face.
    """

    def __init__(
        self,
        found: Faces,
        batch: int,
        rate: float,
        network: EmotionNetwork,
        held_share: float = HELD_OUT_SHARE,
    ) -> None:
        super().__init__()
        self.batch, self.rate = batch, rate
        self.network = network
        labels = torch.from_numpy(labels_of(found))
        known, held = labels >= 0, torch.from_numpy(faces.held_out(found.identity, held_share))
        counts = torch.bincount(labels[known & ~held], minlength=len(EMOTIONS))
        if (counts == 0).any():
            missing = [name for name, count in zip(EMOTIONS, counts.tolist(), strict=True) if not count]
            raise InputError("zoo", f"no training face is labelled {', '.join(missing)}", "more pictures")
        for name, flags in (("training", known & ~held), ("testing", known & held)):
            self.register_buffer(f"{name}_pictures", found.pictures[flags], persistent=False)
            self.register_buffer(f"{name}_labels", labels[flags], persistent=False)
        self.register_buffer("chance", 1.0 / counts[labels[known & ~held]], persistent=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self.rate, weight_decay=0.05)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.rate * running.rate_at(self.share)
        random = self.random()
        at = torch.multinomial(self.chance, self.batch, replacement=True, generator=random)  # type: ignore[arg-type]
        untinted = torch.zeros(self.batch, dtype=torch.bool, device=self.device)
        pictures = input_changes(to_range(self.training_pictures[at]), untinted, random, 1.5)  # type: ignore[index]
        pictures = softened(pictures, random)
        wanted = self.training_labels[at]  # type: ignore[index]
        loss = F.cross_entropy(self.network(pictures), wanted, label_smoothing=0.1)
        self.log("loss", loss)
        return loss

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Share found of every emotion, how many faces that is of, and their mean, on held-out persons."""
        self.network.eval()
        assert isinstance(self.testing_pictures, Tensor) and isinstance(self.testing_labels, Tensor)
        found: dict[str, float] = {}
        counts: dict[str, float] = {}
        if len(self.testing_labels):
            parts = self.testing_pictures.split(128)
            guess = torch.cat([self.network(to_range(part)).argmax(1) for part in parts])
            for at, name in enumerate(EMOTIONS):
                own = self.testing_labels == at
                if own.any():
                    found[name] = round((guess[own] == at).float().mean().item(), 4)
                    counts[f"{name}_faces"] = int(own.sum())
            found["balanced_accuracy"] = round(float(np.mean(list(found.values()))), 4)
        self.network.train()
        return found | counts

    def keep(self, folder: Path) -> None:
        config = {"classifier": self.network.config}
        save_asset(folder / ASSET, self.network.state_dict(), "classifier", config, LICENCE)


def read_classifier(path: Path) -> EmotionNetwork:
    """What a training left."""
    asset = read_asset(path, "classifier")
    network = EmotionNetwork(**asset.config["classifier"])
    network.load_state_dict(asset.tensors)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def flip_rate(network: EmotionNetwork, before: Tensor, after: Tensor, emotion: str) -> dict[str, float]:
    """Of pictures (B, 3, S, S) not taken for ``emotion`` before an edit, the share that is after it."""
    at = EMOTIONS.index(emotion)
    others = network(before).argmax(1) != at
    flipped = network(after).argmax(1)[others] == at
    judged = int(others.sum())
    return {"flip_rate": flipped.float().mean().item() if judged else float("nan"), "judged": judged}


def main() -> None:
    parser: Any = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--depth", type=int, default=DEPTH)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--held-share", type=float, default=HELD_OUT_SHARE)
    args = parser.parse_args()
    pl.seed_everything(args.seed, verbose=False)
    network = EmotionNetwork(args.width, args.depth, args.size)
    found = faces.from_arguments(args, args.size)
    module = ClassifierTraining(found, args.batch, args.rate, network, args.held_share)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
