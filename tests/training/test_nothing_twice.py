"""What a step computes: each feature map once, none that no loss looks at, and kept ones within bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import SIZE, TinyDistance, ZeroFlow, sample_codes, tiny_edited, tiny_hyper
from torch import Tensor

from tempcons.models.perceptual import Features
from tempcons.training.feature_cache import FeatureCache
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.latent_phase import LatentMLPPhase
from tempcons.training.pairs import AnchorPairDataModule, Batch
from tempcons.training.phase import ConsistencyPhase, RenderedPair

OFF = {"lambda_r": 0.0, "lambda_m": 0.0, "lambda_target": 0.0, "lambda_sharp": 0.0}


class CountedDistance(TinyDistance):
    """Notes the size and number of the pictures it is given, and whether a graph is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, bool]] = []

    def _taps(self, pictures: Tensor) -> Features:
        taps = super()._taps(pictures)
        self.seen.append((len(pictures), pictures.shape[-1], taps[0].requires_grad))
        return taps


class CountedFlow(ZeroFlow):
    """Notes how often it is called."""

    calls = 0

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return super().pair(a, b)


def one_batch() -> Batch:
    edited = tiny_edited()
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor")
    return next(iter(data.train_dataloader()))


def step(kind: str, size: int = SIZE, **changes: Any) -> tuple[RenderedPair, CountedDistance, CountedFlow]:
    """What a phase makes of a pair, with its flow at a size; the consistency terms are computed too."""
    edited, distance, flow = tiny_edited(), CountedDistance(), CountedFlow()
    hyper = tiny_hyper(**OFF | changes)
    phase: ConsistencyPhase
    if kind == "latent":
        phase = LatentMLPPhase(edited.generator, torch.nn.Identity(), distance, hyper, True)
    else:
        phase = GeneratorTunePhase(edited.generator, sample_codes, distance, hyper, True, 1.0)
    phase.flow_masks = FlowMaskCallback(flow, size, True)
    batch = one_batch()
    codes = batch["codes"].transpose(0, 1).flatten(0, 1).requires_grad_(True)
    pair = phase.pair_of(phase.generator.synthesis(codes), batch)  # type: ignore[operator, union-attr]
    phase.consistency_terms(pair)
    return pair, distance, flow


def test_both_pictures_of_a_pair_are_one_batch():
    """Kept inputs come one by one; the pair and what is warped, two by two, at the size of the flow."""
    _, distance, flow = step("latent", lambda_photo=1.0)
    assert distance.seen == [(2, SIZE, True), (1, SIZE, False), (1, SIZE, False), (2, SIZE, True)]
    assert flow.calls == 1


def test_features_that_only_masks_look_at_keep_no_graph():
    """Phase 1 with a flow of its own size: M^PD at full size is detached."""
    pair, distance, _ = step("latent", size=SIZE // 2, lambda_photo=1.0)
    assert (2, SIZE, False) in distance.seen and (2, SIZE, True) not in distance.seen
    assert pair.difference is not None and not pair.difference.requires_grad


@pytest.mark.parametrize(("kind", "learns"), [("latent", False), ("generator", True)])
def test_the_distance_to_the_input_is_learnt_from_in_phase_2_alone(kind, learns):
    pair, _, _ = step(kind, size=SIZE // 2, lambda_photo=1.0, lambda_m=1.0)
    assert pair.to_input is not None and pair.to_input.requires_grad is learns


def test_without_a_loss_that_looks_at_the_pair_nothing_is_computed():
    """The regulariser alone has pictures of its own."""
    pair, distance, flow = step("generator", lambda_photo=0.0, lambda_eps=0.0, lambda_r=1.0)
    assert not distance.seen and not flow.calls
    assert pair.features is None and pair.to_input is None and pair.geometry is None


def test_consistency_alone_needs_flow_and_no_features():
    pair, distance, flow = step("generator", lambda_photo=0.0, lambda_eps=1.0)
    assert not distance.seen and flow.calls == 1
    assert pair.geometry is not None


def test_a_target_alone_needs_no_masks():
    pair, distance, flow = step("generator", lambda_photo=0.0, lambda_eps=0.0, lambda_target=1.0)
    assert distance.seen == [(2, SIZE, True)] and not flow.calls
    assert pair.difference is None


def test_features_of_fixed_pictures_are_kept_within_the_limit():
    distance, pictures = CountedDistance(), tiny_edited().frames.pictures()
    one = sum(tap.numel() * tap.element_size() for tap in distance.features(pictures[:1]))
    kept = FeatureCache(distance, limit_mb=2.5 * one / 1e6)
    wanted = kept("input", range(4), pictures[:4])
    distance.seen.clear()
    again = kept("input", range(4), pictures[:4])
    assert len(distance.seen) == 2 and len(kept.kept) == 2
    assert all(torch.equal(x, y) for x, y in zip(wanted, again, strict=True))
