"""Measure one video against its direct edit: everything that a row of a table holds.

The warping error is never given alone, since freezing, averaging and blurring all win it: beside it stand the
long-range error, the distance to the direct edit, sharpness and motion as shares of the direct edit's, and
everything that depends on flow by every estimator given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from tempcons.check import InputError
from tempcons.geometry import occlusion
from tempcons.media.frames import FrameStore
from tempcons.metrics.conditions import conditions
from tempcons.metrics.ewarp import (
    E_LONG_GAPS,
    e_warp,
    e_warp_lai2018,
    gap_pairs,
    long_range_pairs,
    mean_of_pairs,
)
from tempcons.metrics.flicker import brightness_over_time, flicker
from tempcons.metrics.identity import Embedding, identity_similarity
from tempcons.metrics.motion import mean_motion
from tempcons.metrics.sharpness import sharpness

BATCH = 8
MOST_KEPT_BYTES = 10**9

Value = float | None
Pair = tuple[int, int]


class Flow(Protocol):
    """What is asked of a flow network (models/flow.py)."""

    name: str

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(F_{a->b}, F_{b->a})."""
        ...


class Perceptual(Protocol):
    """What is asked of a perceptual distance (models/perceptual.py)."""

    name: str

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) distances."""
        ...


@dataclass(frozen=True)
class VideoMetrics:
    """What was measured on one video.

    Attributes:
        summary: metric -> value; None where it can't be measured (clip too short, no input video).
            ``motion``, ``sharpness`` and ``flicker`` are shares of the direct edit's (1 = kept).
            ``second_flow`` holds the flow-dependent values by every further estimator, by its name.
        per_frame: one row per frame; pair values stand in the row of the earlier frame.
        conditions: metric -> what its value depends on.
    """

    summary: dict
    per_frame: list[dict]
    conditions: dict = field(default_factory=dict)

    def rows(self) -> list[dict]:
        """One row per value, each with its conditions: what a CSV of results holds."""
        rows = [
            {"metric": name, "value": value} | self.conditions.get(name, {})
            for name, value in self.summary.items()
            if name != "second_flow"
        ]
        for network, values in self.summary["second_flow"].items():
            for name, value in values.items():
                named = self.conditions.get(name, {}) | {"flow_network": network}
                rows.append({"metric": name, "value": value} | named)
        return rows


@dataclass(frozen=True)
class _PairFlow:
    """Flow of one pair in both directions, and the visibility on the first frame's grid."""

    forward: Tensor
    backward: Tensor
    mask: Tensor

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.forward.nbytes + self.backward.nbytes + self.mask.nbytes


class Evaluator:
    """Measures results against one direct edit; what belongs to the direct edit and the input is kept.

    Kept are the input's neighbour flows (20 bytes a pixel and pair), so a table of several results computes
    every flow once; those of a long clip only as far as ``MOST_KEPT_BYTES`` allow.

    Args:
        direct: frames of the direct edit.
        anchor_index: position of the anchor in the frames.
        flows: flow estimators, the main one first.
        perceptual: distance between pictures.
        input_frames: the aligned input video, for the errors under its flow.
        device: where to compute; the networks must be there already.
        identity: aligned pictures to face embeddings (B, D), for the similarity to the input's person.
        cuts: positions of frames that begin a new scene; no pair across one is measured.

    Raises:
        InputError: fewer than two frames, another number or size of input frames, anchor out of range.
    """

    def __init__(
        self,
        direct: FrameStore,
        anchor_index: int,
        flows: Sequence[Flow],
        perceptual: Perceptual,
        input_frames: FrameStore | None = None,
        device: torch.device | str = "cpu",
        identity: Embedding | None = None,
        cuts: Collection[int] = (),
    ) -> None:
        if len(direct) < 2:
            found = f"{len(direct)} frame can't be measured over time"
            raise InputError("evaluate", found, "give two or more")
        if not 0 <= anchor_index < len(direct):
            raise InputError("evaluate", f"anchor {anchor_index} is not among {len(direct)} frames")
        if not flows:
            raise InputError("evaluate", "no flow network given", "the warping error needs one")
        if input_frames is not None:
            check_same_clip(input_frames, direct, "input", "direct edit")
        self.direct, self.input_frames, self.anchor = direct, input_frames, anchor_index
        self.flows, self.perceptual, self.device = list(flows), perceptual, device
        self.identity, self.cuts = identity, frozenset(cuts)
        self.steps = [t for t in range(len(direct) - 1) if self._one_scene((t, t + 1))]
        self.kept: dict[tuple[str, int], _PairFlow] = {}
        self.room = MOST_KEPT_BYTES

    def _one_scene(self, pair: Pair) -> bool:
        """Whether no cut lies between two frames."""
        first, last = sorted(pair)
        return not any(first < cut <= last for cut in self.cuts)

    @torch.no_grad()
    def measure(self, frames: FrameStore) -> VideoMetrics:
        """Measure ``frames``, position by position the frames of the direct edit.

        Raises:
            InputError: another number of frames, or another size.
        """
        check_same_clip(frames, self.direct, "video", "direct edit")
        rows: list[dict] = [{"frame": t} for t in range(len(frames))]
        by_flow = {flow.name: self._flow_values(frames, flow, rows) for flow in self.flows}
        main, *others = by_flow
        summary: dict = by_flow[main] | self._plain_values(frames, rows)
        summary["second_flow"] = {name: by_flow[name] for name in others}
        about = conditions(self.direct, self.anchor, main, self.perceptual.name)
        return VideoMetrics(summary, rows, about)

    def _flow_values(self, frames: FrameStore, flow: Flow, rows: list[dict]) -> dict[str, Value]:
        """Everything that depends on one flow estimator; fills the rows."""
        suffix = "" if flow is self.flows[0] else f"[{flow.name}]"
        neighbours = self._neighbours(frames, flow, rows, suffix)
        values: dict[str, Value] = {
            "e_warp": _mean(row[0] for row in neighbours),
            "e_long": self._long_range(frames, flow, rows, suffix),
        }
        for gap in E_LONG_GAPS:
            pairs = filter(self._one_scene, gap_pairs(len(frames), gap))
            values[f"e_long_gap{gap}"] = _mean(self._pair_error(frames, flow, pair) for pair in pairs)
        values |= self._under_input_flow(frames, flow, rows, suffix)
        motion = _mean(row[1] for row in neighbours)
        values["motion_px"] = motion
        values["motion"] = _share(motion, self._direct_motion(frames, flow, motion))
        return values

    def _neighbours(
        self, frames: FrameStore, flow: Flow, rows: list[dict], suffix: str
    ) -> list[tuple[float, float]]:
        """(error, motion) of every pair (t, t+1)."""
        found = []
        for t, (a, b) in zip(self.steps, self._neighbour_pictures(frames), strict=True):
            pair = _pair_flow(flow, a, b)
            error, motion = e_warp(a, b, pair.forward, pair.mask), mean_motion(pair.forward, pair.mask)
            found.append((error.item(), motion.item()))
            rows[t] |= {
                f"e_warp{suffix}": _value(found[-1][0]),
                f"motion_px{suffix}": _value(found[-1][1]),
                f"visible{suffix}": pair.mask.mean().item(),
            }
        return found

    def _long_range(self, frames: FrameStore, flow: Flow, rows: list[dict], suffix: str) -> Value:
        errors = []
        for pair in filter(self._one_scene, long_range_pairs(len(frames), self.anchor)):
            errors.append(self._pair_error(frames, flow, pair))
            rows[pair[1]][f"e_long{suffix}"] = _value(errors[-1])
        return _mean(errors)

    def _pair_error(self, frames: FrameStore, flow: Flow, pair: Pair) -> float:
        a, b = self._pictures(frames, pair)
        flows = _pair_flow(flow, a, b)
        return e_warp(a, b, flows.forward, flows.mask).item()

    def _under_input_flow(
        self, frames: FrameStore, flow: Flow, rows: list[dict], suffix: str
    ) -> dict[str, Value]:
        """Neighbour errors with the flow of the input video, by both protocols."""
        ours, lai = [], []
        for t in self.steps if self.input_frames is not None else []:
            pair = self._input_flow(flow, t)
            a, b = self._pictures(frames, (t, t + 1))
            ours.append(e_warp(a, b, pair.forward, pair.mask).item())
            lai.append(e_warp_lai2018(a, b, pair.forward, pair.backward).item())
            rows[t][f"e_warp_input_flow{suffix}"] = _value(ours[-1])
        return {"e_warp_input_flow": _mean(ours), "e_warp_lai2018": _mean(lai)}

    def _plain_values(self, frames: FrameStore, rows: list[dict]) -> dict[str, Value]:
        """Everything that needs no flow; fills the rows."""
        sharp, bright = self._sharpness_and_brightness(frames)
        distances = self._distances(frames)
        for row, sharp_t, distance in zip(rows, sharp.tolist(), distances, strict=True):
            row |= {"distance": distance, "sharpness_abs": sharp_t}
        values: dict[str, Value] = {"distance": sum(distances) / len(distances)}
        values["sharpness_abs"] = sharp.mean().item()
        direct_sharp, direct_bright = self._direct_sharpness_and_brightness
        values["sharpness"] = _share(values["sharpness_abs"], direct_sharp.mean().item())
        values["flicker"] = _share(_flicker(bright), _flicker(direct_bright))
        values["identity"] = self._identity(frames, rows)
        return values

    def _identity(self, frames: FrameStore, rows: list[dict]) -> Value:
        """Mean similarity of the faces to the input's; None without a network or an input video."""
        if self.identity is None or self.input_frames is None:
            return None
        found: list[float] = []
        for part in _batches(len(frames)):
            x, y = (store.pictures(part).to(self.device) for store in (frames, self.input_frames))
            found += identity_similarity(x, y, self.identity).tolist()
        for row, value in zip(rows, found, strict=True):
            row["identity"] = value
        return sum(found) / len(found)

    def _distances(self, frames: FrameStore) -> list[float]:
        if frames is self.direct:
            return [0.0] * len(frames)
        found: list[float] = []
        for part in _batches(len(frames)):
            x, y = (store.pictures(part).to(self.device) for store in (frames, self.direct))
            found += self.perceptual(x, y).tolist()
        return found

    def _sharpness_and_brightness(self, frames: FrameStore) -> tuple[Tensor, Tensor]:
        """(T,) variance of the Laplacian, and (T, h, w) brightness."""
        both = []
        for part in _batches(len(frames)):
            pictures = frames.pictures(part)
            both.append((sharpness(pictures), brightness_over_time(pictures)))
        sharp, bright = zip(*both, strict=True)
        return torch.cat(sharp), torch.cat(bright)

    def _direct_motion(self, frames: FrameStore, flow: Flow, own: Value) -> Value:
        return own if frames is self.direct else self._direct_motions[flow.name]

    @cached_property
    def _direct_sharpness_and_brightness(self) -> tuple[Tensor, Tensor]:
        return self._sharpness_and_brightness(self.direct)

    @cached_property
    def _direct_motions(self) -> dict[str, Value]:
        return {flow.name: self._motion(self.direct, flow) for flow in self.flows}

    def _motion(self, frames: FrameStore, flow: Flow) -> Value:
        pairs = (_pair_flow(flow, *pair) for pair in self._neighbour_pictures(frames))
        return _mean(mean_motion(pair.forward, pair.mask).item() for pair in pairs)

    def _input_flow(self, flow: Flow, t: int) -> _PairFlow:
        """Of the input's frames t and t + 1; kept while there is room."""
        assert self.input_frames is not None
        if (flow.name, t) in self.kept:
            return self.kept[flow.name, t]
        found = _pair_flow(flow, *self._pictures(self.input_frames, (t, t + 1)))
        if found.bytes <= self.room:
            self.kept[flow.name, t] = found
            self.room -= found.bytes
        return found

    def _neighbour_pictures(self, frames: FrameStore) -> Iterator[tuple[Tensor, Tensor]]:
        return (self._pictures(frames, (t, t + 1)) for t in self.steps)

    def _pictures(self, frames: FrameStore, pair: Pair) -> tuple[Tensor, Tensor]:
        """Two frames, (1, 3, H, W) each."""
        first, second = (frames.pictures(slice(i, i + 1)).to(self.device) for i in pair)
        return first, second


def measure(
    frames: FrameStore,
    direct: FrameStore,
    anchor_index: int,
    flows: Sequence[Flow],
    perceptual: Perceptual,
    input_frames: FrameStore | None = None,
    device: torch.device | str = "cpu",
) -> VideoMetrics:
    """Measure one video; see :class:`Evaluator`, which measures several without computing flows twice."""
    return Evaluator(direct, anchor_index, flows, perceptual, input_frames, device).measure(frames)


def check_same_clip(frames: FrameStore, other: FrameStore, name: str, other_name: str) -> None:
    """Raise InputError unless two videos have the same number of frames and the same size."""
    if len(frames) != len(other):
        found = f"{name} has {len(frames)} frames, {other_name} has {len(other)}"
        raise InputError("evaluate", found, "give the same part of both")
    if frames.size != other.size:
        sizes = [f"{width}x{height}" for height, width in (frames.size, other.size)]
        found = f"{name} is {sizes[0]} pixels, {other_name} is {sizes[1]}"
        raise InputError("evaluate", found, "bring both to one size first")


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))


def _pair_flow(flow: Flow, a: Tensor, b: Tensor) -> _PairFlow:
    forward, backward = flow.pair(a, b)
    return _PairFlow(forward, backward, occlusion.visible_xu(forward, backward))


def _flicker(brightness: Tensor) -> Value:
    return flicker(brightness) if len(brightness) >= 4 else None


def _mean(values: Iterable[float]) -> Value:
    return _value(mean_of_pairs(list(values)))


def _value(number: float) -> Value:
    """None for NaN, which JSON has no word for."""
    return None if math.isnan(number) else number


def _share(value: Value, whole: Value) -> Value:
    """value / whole; 1 where both are 0 (a still video keeps the motion of a still one)."""
    if value is None or whole is None:
        return None
    if whole == 0:
        return 1.0 if value == 0 else None
    return value / whole
