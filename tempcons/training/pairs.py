"""Frame pairs from the edit cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tempcons.media.frames import FrameStore
from tempcons.types import Edited

Batch = dict[str, Tensor]


def anchor_pairs(count: int, anchor: int) -> list[tuple[int, int]]:
    """(anchor, i) for every other frame i, as indices."""
    return [(anchor, i) for i in range(count) if i != anchor]


def neighbour_pairs(count: int) -> list[tuple[int, int]]:
    """(i, i + 1) for all neighbouring frames, as indices."""
    return [(i, i + 1) for i in range(count - 1)]


class PairDataset(Dataset):
    """Pairs (a, i): codes, direct, input and target pictures of both frames.

    Args:
        edited: the edit cache.
        codes: (T, L, D) codes to train on (the edit's in phase 1, phase 1's in phase 2).
        target: frames the result is pulled to.
        pairs: "anchor", "neighbour" or "both".
    """

    def __init__(self, edited: Edited, codes: Tensor, target: FrameStore, pairs: str) -> None:
        count = len(edited.frame_ids)
        self.anchor = edited.frame_ids.tolist().index(edited.anchor_id)
        self.pairs: list[tuple[int, int]] = []
        if pairs in ("anchor", "both"):
            self.pairs += anchor_pairs(count, self.anchor)
        if pairs in ("neighbour", "both"):
            self.pairs += neighbour_pairs(count)
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


class EpochShuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees the same pairs."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())


class AnchorPairDataModule(pl.LightningDataModule):
    """Samples (anchor, i) pairs, and neighbouring ones if asked for, from a cached edited video.

    Batches hold ``frame_ids`` (B, 2), ``codes`` (B, 2, L, D) and ``direct``, ``input``, ``target``
    (B, 2, 3, H, W) in [-1, 1]; position 0 of dimension 1 is the anchor (or the earlier neighbour).
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

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            self.dataset,
            batch_size=self.pairs_per_step,
            sampler=EpochShuffle(len(self.dataset), self.seed),
        )
