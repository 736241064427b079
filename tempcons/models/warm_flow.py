"""RAFT for pairs that are seen again and again, as in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tempcons.models.flow import RaftFlow

Pair = tuple[int, int]
Flows = tuple[Tensor, Tensor]


class WarmRaft(nn.Module):
    """All updates the first time that a pair is seen, fewer later, from its flow of the time before.

    From one epoch to the next pictures change little, and so does their flow. What is kept takes 16 bytes a
    pixel and pair; a run that goes on from a checkpoint begins with all updates again.

    Args:
        network: RAFT, whose own number of updates is the first time's.
        later: updates from then on.
        warm: later updates start from the flow kept, else from no motion.
    """

    differentiable = True

    def __init__(self, network: RaftFlow, later: int, warm: bool) -> None:
        super().__init__()
        self.network, self.later, self.warm = network, later, warm
        self.name = f"{network.name}-then-{later}{'-warm' if warm else ''}"
        self.kept: dict[Pair, Flows | None] = {}

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """F_{a->b}, all updates."""
        return self.network(a, b)

    def pair(self, a: Tensor, b: Tensor) -> Flows:
        """(F_{a->b}, F_{b->a}), all updates: nothing is known of the pictures."""
        return self.network.pair(a, b)

    def pair_of(self, ids: Sequence[Pair], a: Tensor, b: Tensor) -> Flows:
        """(F_{a->b}, F_{b->a}) of pairs of frames, by their ids; pairs of a step are new or not together."""
        known = all(pair in self.kept for pair in ids)
        first = self._kept(ids, a) if known and self.warm else None
        found = self.network.pair_from(a, b, first, self.later if known else self.network.updates)
        for at, pair in enumerate(ids):
            ahead, back = (flow[at : at + 1].detach() for flow in found)
            self.kept[pair] = (ahead.cpu(), back.cpu()) if self.warm else None
        return found

    def _kept(self, ids: Sequence[Pair], like: Tensor) -> Flows:
        flows = [self.kept[pair] for pair in ids]
        ahead, back = (torch.cat([both[way] for both in flows if both is not None]) for way in (0, 1))
        return ahead.to(like), back.to(like)
