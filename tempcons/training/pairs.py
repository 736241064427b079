"""Frame pairs from the edit cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tempcons.media.frames import FrameStore
from tempcons.training.anchors import window_pairs
from tempcons.types import Edited

Batch = dict[str, Tensor]


def anchor_pairs(count: int, anchor: int) -> list[tuple[int, int]]:
    """(anchor, i) for every other frame i, as indices."""
    return [(anchor, i) for i in range(count) if i != anchor]


def neighbour_pairs(frames: range) -> list[tuple[int, int]]:
    """(i, i + 1) for all neighbouring frames, as indices."""
    return [(i, i + 1) for i in frames[:-1]]


class PairDataset(Dataset):
    """Pairs (a, i): codes, direct, input and target pictures of both frames.

    Args:
        edited: the edit cache.
        codes: (T, L, D) codes to train on (the edit's in phase 1, phase 1's in phase 2).
        target: frames the result is pulled to.
        pairs: "anchor", "neighbour" or "both".
    """

    def __init__(self, edited: Edited, codes: Tensor, target: FrameStore, pairs: str) -> None:
        self.pairs: list[tuple[int, int]] = []
        if pairs in ("anchor", "both"):
            self.pairs += window_pairs(edited.anchor_windows)
        if pairs in ("neighbour", "both"):
            self.pairs += [pair for scene in edited.scenes for pair in neighbour_pairs(scene)]
        self.codes, self.edited, self.target = codes, edited, target

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Batch:
        a, i = self.pairs[index]
        both = [a, i]
        return {
            "frame_ids": torch.from_numpy(self.edited.frame_ids[both]),
            "codes": self.codes[both],
            "direct": self.edited.frames.pictures(both),
            "input": self.edited.aligned.pictures(both),
            "target": self.target.pictures(both),
        }


@dataclass(frozen=True)
class Part:
    """One of several processes that share the pairs of every step."""

    rank: int = 0
    world: int = 1

    def own(self, order: Sequence[int], batch: int) -> list[int]:
        """The pairs of this process: every ``world``-th from ``rank`` on.

        All processes take part in each step. One that has no pair left for the last step gets the first
        pair of the epoch, which then weighs nothing.
        """
        own = list(order[self.rank :: self.world])
        steps = math.ceil(len(order) / (self.world * batch))
        return own + list(order[:1]) if math.ceil(len(own) / batch) < steps else own


@dataclass(frozen=True)
class StepPart(Part):
    """A process's part of one step, in which all processes together have ``pairs`` pairs."""

    pairs: int = 1

    @property
    def weight(self) -> float:
        """Of the loss, so that the mean over processes is the mean over pairs."""
        return self.world * len(range(self.rank, self.pairs, self.world)) / self.pairs

    def take(self, rows: Tensor) -> Tensor:
        """This process's rows, given one row for each pair of the step."""
        own = rows[self.rank :: self.world]
        return own if len(own) else rows[:1]


class EpochShuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees the same pairs.

    Args:
        count: number of pairs.
        seed: of the permutation.
        part: the process's, if several share the pairs, with
        batch: the pairs that each takes in a step.
        rounds: so many parts of ``count``, one after the other, are permuted each by itself; where they
            repeat the same pairs, none comes a second time before all have come once.

    Raises:
        ValueError: ``count`` isn't a whole number of rounds.
    """

    def __init__(
        self, count: int, seed: int, part: Part | None = None, batch: int = 1, rounds: int = 1
    ) -> None:
        if count % rounds:
            raise ValueError(f"{count} pairs can't be {rounds} rounds of as many each")
        self.count, self.seed, self.epoch, self.rounds = count, seed, 0, rounds
        self.part, self.batch = part or Part(), batch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.part.own(range(self.count), self.batch))

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        size = self.count // self.rounds
        order = [
            size * done + at
            for done in range(self.rounds)
            for at in torch.randperm(size, generator=generator).tolist()
        ]
        return iter(self.part.own(order, self.batch))


class AnchorPairDataModule(pl.LightningDataModule):
    """Samples (anchor, i) pairs of every window, and neighbours if asked for, from a cached edited video.

    Batches hold ``frame_ids`` (B, 2), ``codes`` (B, 2, L, D) and ``direct``, ``input``, ``target``
    (B, 2, 3, H, W) in [-1, 1]; position 0 of dimension 1 is the anchor (or the earlier neighbour).

    Several processes share the pairs: N of them with B pairs each take the steps of one with N B pairs.
    """

    def __init__(
        self,
        edited: Edited,
        codes: Tensor,
        target: FrameStore,
        pairs: str = "anchor",
        pairs_per_step: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dataset = PairDataset(edited, codes, target, pairs)
        self.pairs_per_step, self.seed = pairs_per_step, seed
        # How they are read, which changes no result: set before a fit.
        self.workers, self.pin_memory = 0, False

    @property
    def part(self) -> Part:
        """This process's part of every epoch."""
        trainer = self.trainer
        return Part() if trainer is None else Part(trainer.global_rank, trainer.world_size)

    def step_part(self, step: int) -> StepPart:
        """This process's part of a step of an epoch."""
        together = self.part.world * self.pairs_per_step
        left = len(self.dataset) - step * together
        return StepPart(self.part.rank, self.part.world, min(left, together))

    def train_dataloader(self) -> DataLoader:
        count, batch = len(self.dataset), self.pairs_per_step
        return DataLoader(
            self.dataset,
            batch_size=batch,
            sampler=EpochShuffle(count, self.seed, self.part, batch),
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.workers > 0,
        )
