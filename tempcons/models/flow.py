"""Optical flow networks behind one interface.

Flow is F_{a->b}: (B, 2, H, W) in pixels of the pictures given, x first, on a's grid (geometry/warp.py).
Every number that depends on flow is reported with the ``name`` of its network: the preset alone moves the
warping error by a factor of two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from tempcons.check import ConfigError, check_pictures, near_names
from tempcons.media.range import to_frames
from tempcons.models.lucas_kanade import refine
from tempcons.models.raft_updates import both_ways, correlations, recurrent_flow
from tempcons.models.raft_view import PaperView, RaftView

if TYPE_CHECKING:  # torchvision takes seconds to load
    from torchvision.models.optical_flow import RAFT

DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@runtime_checkable
class FlowNetwork(Protocol):
    """Estimates flow between two picture batches (B, 3, H, W) in [-1, 1]."""

    name: str
    differentiable: bool

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """F_{a->b}: (B, 2, H, W) in pixels."""
        ...

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(F_{a->b}, F_{b->a})."""
        ...


class _ClassicFlow:
    """What OpenCV's estimators share: pictures to gray uint8, enlarged, one pair at a time, no gradient."""

    name: str
    differentiable = False
    upscale: int

    def _estimate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Flow (H, W, 2) of two gray uint8 pictures."""
        raise NotImplementedError

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.pair_of_gray(_gray(a), _gray(b), a)

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        gray_a, gray_b = _gray(a), _gray(b)
        return self.pair_of_gray(gray_a, gray_b, a), self.pair_of_gray(gray_b, gray_a, a)

    def pair_of_gray(self, a: list[np.ndarray], b: list[np.ndarray], like: Tensor) -> Tensor:
        """Flow of gray pictures as a tensor on the device and in the dtype of ``like``."""
        with _one_thread():
            flows = [self._enlarged(one, other) for one, other in zip(a, b, strict=True)]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(like)

    def _enlarged(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        height, width = a.shape
        if self.upscale == 1:
            return self._estimate(a, b)
        size = (width * self.upscale, height * self.upscale)
        flow = self._estimate(cv2.resize(a, size), cv2.resize(b, size))
        return cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / self.upscale


class DISFlow(_ClassicFlow):
    """Dense inverse search (Kroeger et al. 2016, OpenCV); no weights needed, not differentiable.

    Args:
        preset: "ultrafast", "fast", "medium", or "fine" (medium down to full resolution, slower).
        upscale: how often pictures are enlarged first; 2 helps at 128 px.
    """

    def __init__(self, preset: str = "medium", upscale: int = 2) -> None:
        if preset not in (*DIS_PRESETS, "fine"):
            hint = near_names(preset, [*DIS_PRESETS, "fine"])
            raise ConfigError("flow", f"no DIS preset {preset!r}", hint)
        self.upscale = _checked_upscale(upscale)
        self.name = f"dis-{preset}-x{upscale}"
        self._dis: Any = cv2.DISOpticalFlow.create(DIS_PRESETS.get(preset, DIS_PRESETS["medium"]))
        if preset == "fine":
            self._dis.setFinestScale(0)
        self._settings = preset, upscale

    def __reduce__(self) -> tuple:
        """OpenCV's object can't be sent to another process; its settings can."""
        return DISFlow, self._settings

    def _estimate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self._dis.calc(a, b, None)


class FarnebackFlow(_ClassicFlow):
    """Polynomial expansion (Farneback 2003, OpenCV): an estimator unlike DIS, for a second opinion."""

    def __init__(self, window: int = 15, upscale: int = 1) -> None:
        self.window, self.upscale = window, _checked_upscale(upscale)
        self.name = f"farneback-w{window}-x{upscale}"

    def _estimate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        flow = np.empty((*a.shape, 2), np.float32)
        settings: dict[str, Any] = {"levels": 4, "iterations": 3, "poly_n": 5, "poly_sigma": 1.1, "flags": 0}
        return cv2.calcOpticalFlowFarneback(a, b, flow, pyr_scale=0.5, winsize=self.window, **settings)


class RaftFlow(nn.Module):
    """RAFT (Teed and Deng 2020) in torchvision's implementation, frozen; gradients reach the pictures.

    Both directions of :meth:`pair` run as one batch, every picture is encoded once, and both share one
    correlation volume (models/raft_updates.py).

    Args:
        model: ``raft_small`` or ``raft_large`` with its weights loaded (torchvision's key names).
        updates: recurrent updates; the paper's range is 12 to 20.
        name: name for reports, e.g. "raft-large".
        view: how the network was trained to see pictures (models/raft_view.py); None: the paper's.
        refined: its flow is sharpened at the pictures' own size (models/lucas_kanade.py).
    """

    differentiable = True

    def __init__(
        self,
        model: RAFT,
        updates: int = 12,
        name: str = "raft",
        view: RaftView | None = None,
        refined: bool = False,
    ) -> None:
        super().__init__()
        if updates < 1:
            raise ConfigError("flow", f"updates must be at least 1, got {updates}", "the paper has 12 to 20")
        self.model = model.eval().requires_grad_(False)
        self.updates = updates
        self.view = PaperView() if view is None else view
        self.refined = refined
        self.name = f"{name}-{updates}" + ("-lk" if refined else "")

    def train(self, mode: bool = True) -> RaftFlow:
        """Stay in evaluation mode: the batch statistics belong to the weights."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """F_{a->b}."""
        seen = self.view.enter(torch.cat(_checked(a, b)))
        volume = correlations(*self.model.feature_encoder(seen).chunk(2))
        context = self.model.context_encoder(seen[: len(a)])
        flow = self._flow(volume, context, self.updates, None, a.shape[-2], a.shape[-1])
        return refine(flow, a, b) if self.refined else flow

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(F_{a->b}, F_{b->a})."""
        return self.pair_from(a, b, None, self.updates)

    def pair_from(
        self, a: Tensor, b: Tensor, first: tuple[Tensor, Tensor] | None, updates: int
    ) -> tuple[Tensor, Tensor]:
        """(F_{a->b}, F_{b->a}) by so many updates, from flow (both ways, as returned) or no motion."""
        seen = self.view.enter(torch.cat(_checked(a, b)))
        volume = both_ways(correlations(*self.model.feature_encoder(seen).chunk(2)))
        start = None if first is None else self.view.start(torch.cat(first))
        context = self.model.context_encoder(seen)
        flow = self._flow(volume, context, updates, start, a.shape[-2], a.shape[-1])
        if self.refined:
            flow = refine(flow, torch.cat([a, b]), torch.cat([b, a]))
        forward, backward = flow.chunk(2)
        return forward, backward

    def _flow(
        self, volume: Tensor, context: Tensor, updates: int, start: Tensor | None, height: int, width: int
    ) -> Tensor:
        """Flow at the pictures' size from correlations and context; enlarged after the last update alone."""
        volume, context = _positions_exact(volume), _positions_exact(context)
        flow, hidden = recurrent_flow(self.model, volume, context, updates, start)
        predictor = self.model.mask_predictor
        mask = None if predictor is None else predictor(hidden)
        return self.view.leave(flow, mask, height, width)


FLOW_KINDS = {"dis": DISFlow, "farneback": FarnebackFlow, "raft": RaftFlow}


def make_flow(kind: str, **settings: object) -> FlowNetwork:
    """Build a flow network by kind: "dis", "farneback" or "raft" (which needs ``model``).

    Raises:
        ConfigError: unknown kind, or settings that the kind does not have.
    """
    if kind not in FLOW_KINDS:
        raise ConfigError("flow", f"no flow network {kind!r}", near_names(kind, FLOW_KINDS))
    try:
        return FLOW_KINDS[kind](**settings)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError("flow", f"{kind}: {error}", f"given: {', '.join(settings) or 'nothing'}") from error


def flow_by_name(name: str) -> FlowNetwork:
    """A flow network without weights by the name it reports: "dis-medium-x2", "farneback-w15-x1".

    Raises:
        ConfigError: no such network, or one that needs weights.
    """
    if name.startswith("raft"):
        raise ConfigError(
            "flow", f"{name} needs weights", "measure with it through train.py and a family that has it"
        )
    if match := re.fullmatch(r"dis-([a-z]+)-x(\d+)", name):
        return DISFlow(match[1], int(match[2]))
    if match := re.fullmatch(r"farneback-w(\d+)-x(\d+)", name):
        return FarnebackFlow(int(match[1]), int(match[2]))
    raise ConfigError("flow", f"no flow network named {name!r}", "known: dis-PRESET-xN, farneback-wN-xN")


def _positions_exact(values: Tensor) -> Tensor:
    """Half precision, as autocast leaves it, to float32: positions in px have its dtype."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _checked_upscale(upscale: int) -> int:
    if upscale < 1:
        raise ConfigError("flow", f"upscale must be 1 or more, got {upscale}")
    return upscale


def _gray(pictures: Tensor) -> list[np.ndarray]:
    check_pictures(pictures, "pictures")
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in to_frames(pictures)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """DIS cuts the picture into one stripe per thread, so its result depends on their number."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    check_pictures(a, "a")
    if a.shape != b.shape:
        raise ValueError(f"pictures must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a, b
