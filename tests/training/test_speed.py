"""The fast mode's switches: each does what it says, and the default does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from composed import parsed
from small_family import small_family
from test_computing import video_error
from tiny import CPU, SIZE, TinyDistance, ZeroFlow, tiny_edited, tiny_hyper, tiny_phase
from torchvision.models.optical_flow import raft_small

from tempcons.check import ConfigError
from tempcons.models.flow import RaftFlow
from tempcons.models.perceptual import SmallerDistance
from tempcons.models.warm_flow import WarmRaft
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.settings import TrainerConfig
from tempcons.training.speed import SpeedConfig

FAST = SpeedConfig("fast", flow_updates=2, warm_start=True, regularise_every=2, perceptual_size=16)


@pytest.fixture(scope="module")
def raft() -> RaftFlow:
    torch.manual_seed(0)
    return RaftFlow(raft_small(weights=None), updates=4, name="raft-small")


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    one = torch.nn.functional.interpolate(torch.rand(2, 3, 16, 16) * 2 - 1, 128, mode="bicubic").clamp(-1, 1)
    return one, one.roll(2, dims=-1)


def test_exact_is_the_default_and_changes_nothing():
    config, family = parsed(), small_family()
    assert config.speed == SpeedConfig()
    assert config.speed.hyper(config.hyper, config.trainer) == config.hyper
    assert config.speed.trainer(config.trainer) is config.trainer
    assert config.speed.family(family) is family


def test_fast_is_all_switches():
    config = parsed("speed=fast")
    assert config.hyper.regularise_every == 2 * parsed().hyper.regularise_every
    assert config.speed.trainer(config.trainer).precision == config.trainer.precision
    half = parsed("speed=fast", "speed.precision=bf16-mixed")
    assert half.speed.trainer(half.trainer).precision == "bf16-mixed"
    assert half.trainer.precision == "32-true"  # of the inversion, which stays as it is
    assert config.comparison == parsed().comparison
    large = parsed("speed=fast", "family=ffhq", "edit=eyeglasses", "inversion=pti")
    assert (large.speed.perceptual_size, large.speed.flow_updates) == (large.family.flow.size, 4)


def test_a_switch_by_itself():
    config = parsed("speed.regularise_every=3")
    assert config.hyper == replace(parsed().hyper, regularise_every=3 * parsed().hyper.regularise_every)
    with pytest.raises(ConfigError, match=r"speed\.flow_updates"):
        parsed("speed.flow_updates=0")
    with pytest.raises(ConfigError, match=r"speed\.epochs"):
        parsed("speed.epochs=0")


def test_fewer_epochs_but_one_at_least():
    def epochs(share: float, given: int) -> int:
        hyper = tiny_hyper()
        told = replace(hyper, phase2=replace(hyper.phase2, epochs=given))
        return SpeedConfig(epochs=share).hyper(told, CPU).phase2.epochs

    assert [epochs(0.5, 8), epochs(0.1, 2), epochs(0.5, 0)] == [4, 1, 0]


def test_networks_of_the_fast_mode_are_in_the_keys(raft):
    family = replace(small_family(), flow=raft)
    fast = FAST.family(family)
    assert isinstance(fast.flow, WarmRaft) and isinstance(fast.perceptual, SmallerDistance)
    assert fast.depends["flow"] != family.depends["flow"]
    assert fast.depends["perceptual"] != family.depends["perceptual"]
    assert fast.depends["networks"] == family.depends["networks"]
    # A flow that isn't RAFT has no updates to leave out.
    assert FAST.family(small_family()).depends["flow"] == small_family().depends["flow"]


def test_a_pair_seen_again_starts_from_its_flow(raft, pair):
    ids, (a, b) = [(4, 6), (4, 8)], pair
    with torch.no_grad():
        warm = WarmRaft(raft, 1, warm=True)
        first = warm.pair_of(ids, a, b)
        assert all(torch.equal(x, y) for x, y in zip(first, raft.pair(a, b), strict=True))
        again = warm.pair_of(ids, a, b)
        wanted = raft.pair_from(a, b, first, 1)
        cold = raft.pair_from(a, b, None, 1)
    torch.testing.assert_close(again[0], wanted[0])
    torch.testing.assert_close(again[1], wanted[1])
    assert (again[0] - cold[0]).abs().mean() > 1e-4


def test_rows_of_a_step_keep_their_own_flow(raft, pair):
    a, b = pair
    with torch.no_grad():
        both = WarmRaft(raft, 1, warm=True)
        both.pair_of([(0, 1), (0, 2)], a, b)
        swapped = both.pair_of([(0, 2), (0, 1)], a.flip(0), b.flip(0))
        straight = WarmRaft(raft, 1, warm=True)
        straight.pair_of([(0, 1), (0, 2)], a, b)
        wanted = straight.pair_of([(0, 1), (0, 2)], a, b)
    torch.testing.assert_close(swapped[0].flip(0), wanted[0], atol=1e-4, rtol=1e-4)


def test_without_a_warm_start_only_updates_are_left_out(raft, pair):
    a, b = pair
    with torch.no_grad():
        cold = WarmRaft(raft, 2, warm=False)
        cold.pair_of([(0, 1), (0, 2)], a, b)
        again = cold.pair_of([(0, 1), (0, 2)], a, b)
        torch.testing.assert_close(again[0], raft.pair_from(a, b, None, 2)[0])
        assert torch.equal(cold.pair(a, b)[0], raft.pair(a, b)[0])  # figures are measured with all of them


def test_the_masks_tell_the_network_which_pairs_a_step_has(tmp_path):
    class Seen(WarmRaft):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.asked: list[tuple[int, int]] = []

        def pair_of(self, ids, a, b):
            self.asked += ids
            still = a.new_zeros(len(a), 2, *a.shape[-2:])
            return still, still

    flow, edited, phase = Seen(), tiny_edited(), tiny_phase("latent")
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", 2, seed=3)
    fit(phase, data, tmp_path, CPU, "x", epochs=1, callbacks=[FlowMaskCallback(flow, SIZE, True)])
    assert sorted(flow.asked) == [(44, i) for i in (40, 42, 46, 48)]


def test_distances_of_smaller_pictures():
    network = TinyDistance()
    smaller = SmallerDistance(network, 16)
    x, y = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    area = [torch.nn.functional.adaptive_avg_pool2d(p, 16) for p in (x, y)]
    torch.testing.assert_close(smaller(x, y), network(*area))
    assert smaller.map(x, y).shape == (2, 1, 32, 32)
    assert torch.equal(smaller(*area), network(*area))
    assert "16 px" in smaller.name


@pytest.mark.parametrize("kind", ["latent", "generator"])
def test_on_a_tiny_family_the_fast_mode_ends_near_the_exact_one(tmp_path, kind):
    """Its cost on the demo clip is in docs/speed.md; this only keeps it from going astray."""

    def ended(speed: SpeedConfig) -> float:
        edited, phase = tiny_edited(), tiny_phase(kind)
        phase.hyper = speed.hyper(phase.hyper, CPU)
        if speed.perceptual_size:
            phase.perceptual_distance = SmallerDistance(phase.perceptual_distance, speed.perceptual_size)
            phase.fixed_features.perceptual = phase.perceptual_distance
        data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", seed=4)
        trainer: TrainerConfig = speed.trainer(CPU)
        masks = FlowMaskCallback(ZeroFlow(), SIZE, True)
        fit(phase, data, tmp_path / speed.name, trainer, kind, epochs=2, callbacks=[masks])
        return video_error(phase.render(edited.codes))  # type: ignore[operator]

    fast = replace(FAST, precision="bf16-mixed")
    assert ended(fast) == pytest.approx(ended(SpeedConfig()), rel=0.1)
