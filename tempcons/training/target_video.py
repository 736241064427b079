"""The target of ``recipe=tempcons``: the direct edit, made consistent along its own flow.

Pixels are solved for once per clip, with flow that stays fixed; phase 2 then teaches the generator to
render them, which keeps the result on the pictures a generator can make.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tempcons.geometry.warp import FixedWarp, round_trip_error
from tempcons.losses.masks import visibility_mask
from tempcons.media.frames import FrameStore
from tempcons.models.flow import FlowNetwork
from tempcons.progress import track
from tempcons.training.pairs import anchor_pairs, neighbour_pairs

STEPS = 60
LEARNING_RATE = 0.02
# Softer than the losses' k = 10: a round-trip error of a pixel halves a pair's say instead of ending it.
VISIBILITY = 1.0
SQUARED_WEIGHT = 10.0
FLOW_BATCH = 8


@dataclass(frozen=True)
class PairFlows:
    """Pairs of frames (as positions) with flow and visibility both ways, (N, 2 or 1, H, W)."""

    first: list[int]
    second: list[int]
    forward: Tensor
    backward: Tensor
    seen_first: Tensor
    seen_second: Tensor


@torch.no_grad()
def pair_flows(pictures: Tensor, pairs: Sequence[tuple[int, int]], flow: FlowNetwork) -> PairFlows:
    """Flow between frames (T, 3, H, W) of every pair."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    forward, backward = [], []
    for at in range(0, len(pairs), FLOW_BATCH):
        part = slice(at, at + FLOW_BATCH)
        ahead, back = flow.pair(pictures[first[part]], pictures[second[part]])
        forward.append(ahead)
        backward.append(back)
    ahead, back = torch.cat(forward), torch.cat(backward)
    seen_first = visibility_mask(round_trip_error(ahead, back), VISIBILITY)
    seen_second = visibility_mask(round_trip_error(back, ahead), VISIBILITY)
    return PairFlows(first, second, ahead, back, seen_first, seen_second)


@dataclass(frozen=True)
class AlongFlow:
    """What the solving looks at in each step, computed once: frames of pairs brought onto each other.

    Attributes:
        first: (N,) positions of the one frame, ``second`` of the other.
        second_here: warps onto the first's grid, ``first_there`` onto the second's.
        weight_first: (N, 1, H, W) root of how sure it is that the second shows what the first does,
            ``weight_second`` the other way round.
    """

    first: Tensor
    second: Tensor
    second_here: FixedWarp
    first_there: FixedWarp
    weight_first: Tensor
    weight_second: Tensor

    @classmethod
    def of(cls, pairs: PairFlows) -> AlongFlow:
        """Of pairs with their flow."""
        here, there = FixedWarp.along(pairs.forward), FixedWarp.along(pairs.backward)
        weights = (pairs.seen_first * here.valid).sqrt(), (pairs.seen_second * there.valid).sqrt()
        device = pairs.forward.device
        first, second = torch.tensor(pairs.first, device=device), torch.tensor(pairs.second, device=device)
        return cls(first, second, here, there, *weights)

    def error(self, video: Tensor) -> Tensor:
        """Mean squared difference along the flow of a video (T, 3, H, W), both ways, where visible."""
        # Not by brackets: their gradient adds up a frame of many pairs in no fixed order.
        first, second = video.index_select(0, self.first), video.index_select(0, self.second)
        on_first = (first - self.second_here(second)) * self.weight_first
        on_second = (second - self.first_there(first)) * self.weight_second
        return on_first.square().mean() + on_second.square().mean()


def consistent_video(
    frames: FrameStore,
    anchor: int,
    flow: FlowNetwork,
    weight_anchor: float,
    weight_data: float,
    device: torch.device,
) -> Tensor:
    """(T, 3, H, W) in [-1, 1]: near the direct edit, and the same along its flow.

    Minimises the squared differences of neighbouring frames along the flow, plus ``weight_anchor``
    times those of every frame and the anchor, plus ``weight_data`` times the mean absolute
    difference to the direct edit. Needs about 20 times the memory of the clip's pictures.

    Args:
        frames: the direct edit.
        anchor: position of the anchor.
        flow: flow network; its flow between the direct frames is used throughout.
        weight_anchor: strength of long-range consistency.
        weight_data: strength of the pull to the direct edit.
        device: where to compute.
    """
    direct = frames.pictures().to(device)
    neighbours = AlongFlow.of(pair_flows(direct, neighbour_pairs(range(len(direct))), flow))
    anchors = AlongFlow.of(pair_flows(direct, anchor_pairs(len(direct), anchor), flow))
    video = direct.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([video], lr=LEARNING_RATE)
    for step in track(range(STEPS), "consistent target", STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        along_flow = neighbours.error(video) + weight_anchor * anchors.error(video)
        loss = SQUARED_WEIGHT * along_flow + weight_data * (video - direct).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return video.detach().clamp(-1, 1)


def joined(parts: Iterable[tuple[range, Tensor]]) -> Iterator[Tensor]:
    """Videos of windows as one, piece by piece: where two overlap, the first fades into the second.

    Args:
        parts: positions and frames (T, 3, H, W) of each window, in the order of time; together they cover
            the clip.
    """
    kept, end = None, 0
    for frames, video in parts:
        shared = max(0, end - frames.start)
        if kept is not None:
            if shared:
                share = torch.arange(1, shared + 1, device=video.device) / (shared + 1)
                video[:shared] = torch.lerp(kept[-shared:], video[:shared], share.view(-1, 1, 1, 1))
            yield from kept[: len(kept) - shared].split(FLOW_BATCH)
        kept, end = video, frames.stop
    if kept is not None:
        yield from kept.split(FLOW_BATCH)
