"""How long the parts of a stage take on this machine: each is run a few times, now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tempcons.family import Family
from tempcons.geometry.warp import warp
from tempcons.models.landmarks import make_detector
from tempcons.models.stylegan2 import Generator

TIMES = 3
PAIR = 2


@dataclass(frozen=True)
class Rates:
    """Seconds for one picture, and memory.

    Attributes:
        encode: picture to code.
        render: code to picture.
        codes: the same, forward and backward to the code; ``weights`` to the generator's weights.
        features: perceptual features; ``features_back`` with the way back to the picture.
        flow: flow of a pair both ways; ``flow_back`` with the way back to the pictures; ``second_flow`` by
            the tables' second network.
        warp: a picture warped, forward and backward.
        detect: landmarks of a source frame.
        saved_mb: kept for the way back through generator and perceptual network, for one picture.
        weights_mb: the generator's weights.
    """

    encode: float
    render: float
    codes: float
    weights: float
    features: float
    features_back: float
    flow: float
    flow_back: float
    second_flow: float
    warp: float
    detect: float
    saved_mb: float
    weights_mb: float


@dataclass
class Saved:
    """Storages that autograd keeps, each counted once."""

    sizes: dict[int, int] = field(default_factory=dict)

    @property
    def mb(self) -> float:
        return sum(self.sizes.values()) / 1e6

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is kept inside."""

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            self.sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Median of a few runs after one that warms up."""
    found = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def calibrate(family: Family, frame_size: tuple[int, int]) -> Rates:
    """Time the family's networks on a pair of pictures of its own, and the detector on one frame (H, W)."""
    device = family.device
    family.place()
    generator = family.generator.to(device)
    random = torch.Generator().manual_seed(0)
    codes = family.sample_codes(PAIR, random).to(device)
    with torch.no_grad():
        pictures = generator.synthesis(codes).clamp(-1, 1)
    saved = Saved()
    with saved.counting():
        kept = family.perceptual.features(pictures_with_grad(generator, codes))
    del kept
    weights_mb = sum(p.numel() * p.element_size() for p in generator.parameters()) / 1e6
    found = Rates(
        **generator_rates(generator, codes),
        **picture_rates(family, pictures),
        detect=detection(frame_size, device),
        # The weights are kept as well, and counted apart.
        saved_mb=max(0.0, saved.mb - weights_mb) / PAIR,
        weights_mb=weights_mb,
    )
    family.generator.to("cpu")
    return found


def pictures_with_grad(generator: Generator, codes: Tensor) -> Tensor:
    """Pictures in [-1, 1] that a gradient reaches."""
    return generator.synthesis(codes.clone().requires_grad_(True)).clamp(-1, 1)


def generator_rates(generator: Generator, codes: Tensor) -> dict[str, float]:
    """Of the generator, for one picture."""
    device = codes.device

    @torch.no_grad()
    def render() -> None:
        generator.synthesis(codes)

    def to_codes() -> None:
        moved = codes.clone().requires_grad_(True)
        torch.autograd.grad(generator.synthesis(moved).sum(), [moved])

    def to_weights() -> None:
        trained = [p for name, p in generator.named_parameters() if not name.startswith("style.")]
        torch.autograd.grad(generator.synthesis(codes).sum(), trained)

    rates = {"render": seconds(render, device), "codes": seconds(to_codes, device)}
    generator.requires_grad_(True)
    rates["weights"] = seconds(to_weights, device)
    generator.requires_grad_(False)
    return {name: value / PAIR for name, value in rates.items()}


def picture_rates(family: Family, pictures: Tensor) -> dict[str, float]:
    """Of encoder, perceptual network, flow and warp, for one picture (flow: for a pair)."""
    device, network = family.device, family.perceptual
    small = torch.nn.functional.interpolate(pictures, size=(family.flow_size, family.flow_size), mode="area")
    still = small.new_zeros(PAIR, 2, *small.shape[-2:])

    @torch.no_grad()
    def encode() -> None:
        if family.encoder is not None:
            family.encoder.to(device)(pictures)

    @torch.no_grad()
    def features() -> None:
        network.features(pictures)

    def features_back() -> None:
        moved = pictures.clone().requires_grad_(True)
        total = torch.stack([tap.sum() for tap in network.features(moved)]).sum()
        torch.autograd.grad(total, [moved])

    @torch.no_grad()
    def flow() -> None:
        family.flow.pair(small[:1], small[1:])

    @torch.no_grad()
    def second_flow() -> None:
        family.second_flow.pair(small[:1], small[1:])

    def flow_back() -> None:
        moved = small.clone().requires_grad_(True)
        ahead, back = family.flow.pair(moved[:1], moved[1:])
        if ahead.requires_grad:
            torch.autograd.grad(ahead.sum() + back.sum(), [moved])

    def warped() -> None:
        moved = pictures.clone().requires_grad_(True)
        torch.autograd.grad(warp(moved, still_at(pictures))[0].sum(), [moved])

    def still_at(like: Tensor) -> Tensor:
        return still if like.shape == small.shape else like.new_zeros(PAIR, 2, *like.shape[-2:])

    def of_one(work: Callable[[], None]) -> float:
        return seconds(work, device) / PAIR

    return {
        "encode": of_one(encode),
        "features": of_one(features),
        "features_back": of_one(features_back),
        "flow": seconds(flow, device),
        "flow_back": seconds(flow_back, device),
        "second_flow": seconds(second_flow, device),
        "warp": of_one(warped),
    }


def detection(size: tuple[int, int], device: torch.device) -> float:
    """Of the landmark detector, for a frame of noise, which gives it no less to do than a real one."""
    detector = make_detector("mtcnn", str(device))
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return seconds(lambda: detector.detect(frame), torch.device("cpu"))
