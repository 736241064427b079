"""Flow networks: convention, known shifts, RAFT's padding and gradients."""

import cv2
import numpy as np
import pytest
import torch
from tiny import gradient
from torchvision.models.optical_flow import raft_large, raft_small

from tempcons.check import ConfigError
from tempcons.geometry.warp import warp
from tempcons.models.flow import DISFlow, FarnebackFlow, FlowNetwork, RaftFlow, make_flow


def texture(size: int = 64, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((size + 16, size + 16, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return torch.from_numpy(smooth / np.abs(smooth).max()).permute(2, 0, 1)[None]


def shifted_pair(x: int, y: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """a, b with b(p + (x, y)) = a(p)."""
    whole = texture(size)
    return whole[..., 8 : 8 + size, 8 : 8 + size], whole[..., 8 - y : 8 - y + size, 8 - x : 8 - x + size]


CLASSIC = [
    DISFlow("medium", 2),
    DISFlow("fast", 1),
    DISFlow("fine", 1),
    FarnebackFlow(),
    FarnebackFlow(upscale=2),
]


@pytest.mark.parametrize("network", CLASSIC, ids=lambda network: network.name)
def test_known_shift_is_found(network):
    a, b = shifted_pair(2, -3)
    forward, backward = network.pair(a, b)
    inner = (..., slice(12, -12), slice(12, -12))
    wanted = torch.tensor([2.0, -3.0]).view(1, 2, 1, 1)
    assert (forward[inner] - wanted).abs().median() < 0.15
    assert (backward[inner] + wanted).abs().median() < 0.15
    assert torch.equal(network(a, b), forward)
    assert (warp(b, forward)[0] - a)[inner].abs().mean() < 0.2 * (b - a)[inner].abs().mean()


@pytest.mark.parametrize("network", CLASSIC, ids=lambda network: network.name)
def test_batch_order_dtype_and_interface(network):
    a, b = shifted_pair(1, 2)
    still = network(torch.cat([a, a]).double(), torch.cat([b, a]).double())
    assert still.dtype == torch.float64 and still.shape == (2, 2, 64, 64)
    assert still[1].abs().mean() < 0.05 and still[0].abs().mean() > 0.5
    assert isinstance(network, FlowNetwork) and not network.differentiable


def test_dis_does_not_depend_on_the_number_of_threads():
    a, b = shifted_pair(3, 1)
    threads = cv2.getNumThreads()
    try:
        flows = []
        for count in (1, 4):
            cv2.setNumThreads(count)
            flows.append(DISFlow()(a, b))
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(threads)
    assert torch.equal(*flows)


def random_raft(build) -> RaftFlow:
    torch.manual_seed(0)
    return RaftFlow(build(weights=None), updates=2, name=build.__name__)


@pytest.mark.parametrize("build", [raft_small, raft_large])
def test_raft_equals_torchvision(build):
    network = random_raft(build)
    a, b = torch.rand(2, 1, 3, 128, 136) * 2 - 1
    with torch.no_grad():
        forward, backward = network.pair(a, b)
        wanted = network.model(a, b, num_flow_updates=2)[-1]
        torch.testing.assert_close(forward, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            backward, network.model(b, a, num_flow_updates=2)[-1], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(network(a, b), wanted, rtol=1e-4, atol=1e-4)
    assert isinstance(network, FlowNetwork)


@pytest.mark.parametrize("build", [raft_small, raft_large])
def test_raft_in_one_call_has_the_gradients_of_one_by_one(build):
    """Torchvision's, each direction by itself: the flow to 1e-4 px, gradients to 1e-3."""
    torch.manual_seed(0)
    network = RaftFlow(build(weights=None), updates=3)
    a = torch.rand(1, 3, 128, 128) * 2 - 1
    b = (a.roll((2, 3), (2, 3)) + 0.1 * torch.randn_like(a)).clamp(-1, 1)
    pictures = [x.requires_grad_(True) for x in (a, b)]
    upstream = torch.randn(1, 2, 128, 128)
    found = []
    for flows in (
        network.pair(a, b),
        [network.model(*pair, num_flow_updates=3)[-1] for pair in ((a, b), (b, a))],
    ):
        gradients = torch.autograd.grad((flows[0] * upstream - flows[1] * upstream.flip(1)).sum(), pictures)
        found.append((torch.cat(list(flows)).detach(), *gradients))
    (flow, *ours), (wanted, *theirs) = found
    assert (flow - wanted).abs().max() < 1e-4 < wanted.abs().mean()
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


def test_raft_encodes_each_picture_once():
    network = random_raft(raft_small)
    seen = []
    for part in (network.model.feature_encoder, network.model.context_encoder):
        part.register_forward_hook(lambda module, given, made: seen.append(len(given[0])))
    network.pair(*torch.rand(2, 1, 3, 128, 128))
    assert seen == [2, 2]


@pytest.mark.parametrize("size", [(64, 60), (131, 129)])
def test_raft_takes_any_size(size):
    network = random_raft(raft_small)
    with torch.no_grad():
        flow = network(*torch.rand(2, 2, 3, *size))
    assert flow.shape == (2, 2, *size)
    assert torch.isfinite(flow).all()


def test_raft_gradients_reach_the_pictures_and_not_the_weights():
    network = random_raft(raft_small)
    a, b = (torch.rand(1, 3, 128, 128, requires_grad=True) for _ in range(2))
    forward, backward = network.pair(a, b)
    (forward.square().mean() + backward.square().mean()).backward()
    assert all(gradient(x).abs().sum() > 0 for x in (a, b))
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert not network.train().model.training


def test_names_carry_the_settings():
    assert make_flow("dis").name == "dis-medium-x2"
    assert make_flow("farneback", window=9).name == "farneback-w9-x1"
    assert (
        make_flow("raft", model=raft_small(weights=None), updates=20, name="raft-small").name
        == "raft-small-20"
    )


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="did you mean dis"):
        make_flow("diss")
    with pytest.raises(ConfigError, match="model"):
        make_flow("raft")
    with pytest.raises(ConfigError, match="did you mean medium"):
        DISFlow("mediun")
    with pytest.raises(ConfigError, match="upscale"):
        DISFlow(upscale=0)
    with pytest.raises(ValueError, match="one shape"):
        random_raft(raft_small)(torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 128, 136))
    with pytest.raises(ValueError, match="pictures must be"):
        DISFlow()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
