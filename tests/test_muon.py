"""Muon: what a step of a kernel is, what stays Adam's, and that it goes on from a checkpoint."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny import tiny_edited
from torch import nn

from tempcons.muon import MOMENTUM, RMS, WIDEST, Muon, is_kernel, orthogonalised, with_kernels


@pytest.mark.parametrize("shape", [(16, 90), (90, 16), (20, 20)])
def test_all_directions_come_out_about_as_strong_and_point_where_they_did(shape):
    random = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=random), full_matrices=False)
    strengths = torch.logspace(0, -1, min(shape))
    found = orthogonalised(u @ torch.diag(strengths) @ v)
    assert found.shape == shape
    assert torch.linalg.svdvals(found).min() > 0.6 and torch.linalg.svdvals(found).max() < 1.3
    along = u.T @ found @ v.T
    assert (along - torch.diag(along.diagonal())).abs().max() < 1e-4 and along.diagonal().min() > 0.6


def test_its_strength_is_no_matter_and_nothing_stays_nothing():
    matrix = torch.randn(8, 18, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(orthogonalised(1e3 * matrix), orthogonalised(matrix), atol=1e-4)
    assert not orthogonalised(torch.zeros(8, 18)).any()


def learner(kernel_rate: float | None) -> tuple[nn.ParameterList, Muon]:
    """A kernel, a weight of styles and a bias, and their optimiser."""
    random = torch.Generator().manual_seed(3)
    shapes = (1, 6, 4, 3, 3), (6, 5), (6,)
    parts = nn.ParameterList(nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes)
    return parts, Muon(with_kernels(parts, 1e-2, kernel_rate), lr=1e-2)


def learn(parts: nn.ParameterList, optimiser: torch.optim.Optimizer, steps: int) -> None:
    """Steps that pull every weight to 1, with gradients cleared the way Lightning does it."""
    for _ in range(steps):

        def closure() -> float:
            loss = torch.stack([(part - 1).square().sum() for part in parts]).sum()
            optimiser.zero_grad()
            loss.backward()
            return loss.item()

        optimiser.step(closure)


def test_everything_but_kernels_is_adams():
    ours, optimiser = learner(kernel_rate=1e-2)
    theirs, _ = learner(None)
    learn(ours, optimiser, 3)
    learn(theirs, torch.optim.Adam(theirs, lr=1e-2), 3)
    assert not torch.equal(ours[0], theirs[0])
    assert all(torch.equal(a, b) for a, b in zip(list(ours)[1:], list(theirs)[1:], strict=True))


def test_without_a_rate_for_kernels_all_is_adams():
    ours, optimiser = learner(None)
    theirs, _ = learner(None)
    learn(ours, optimiser, 3)
    learn(theirs, torch.optim.Adam(theirs, lr=1e-2), 3)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_kernels_step_is_as_long_as_its_rate_says():
    parts, optimiser = learner(kernel_rate=0.5)
    before = parts[0].detach().clone()
    learn(parts, optimiser, 1)
    step = (parts[0] - before).square().mean().sqrt().item()
    assert step == pytest.approx(0.5 * RMS, rel=0.3)


def test_the_momentum_of_a_kernel_is_the_mean_of_its_gradients():
    """Gradients are cleared between steps, for kernels too, though Adam's own step never sees them."""
    parts, optimiser = learner(kernel_rate=1e-3)
    gradients = []
    for _ in range(2):
        learn(parts, optimiser, 1)
        gradient = parts[0].grad
        assert gradient is not None
        gradients.append(gradient.clone())
    mean = (1 - MOMENTUM) * (MOMENTUM * gradients[0] + gradients[1])
    assert torch.allclose(optimiser.state[parts[0]]["momentum"], mean, atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=0.02)


def test_it_goes_on_from_what_was_saved():
    straight, optimiser = learner(kernel_rate=1e-2)
    learn(straight, optimiser, 4)
    first, stopped = learner(kernel_rate=1e-2)
    learn(first, stopped, 2)
    second, fresh = learner(kernel_rate=1e-2)
    with torch.no_grad():
        for part, value in zip(second, first, strict=True):
            part.copy_(value)
    fresh.load_state_dict(copy.deepcopy(stopped.state_dict()))
    learn(second, fresh, 2)
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_kernels_are_a_generators_convolutions_of_more_than_a_pixel():
    kernels = {name for name, p in tiny_edited().generator.named_parameters() if is_kernel(p)}
    assert {"conv1.conv.weight", "convs.0.conv.weight"} <= kernels
    assert all(name.endswith(".conv.weight") and "rgb" not in name for name in kernels)
    assert is_kernel(torch.zeros(1, WIDEST, 8, 3, 3)) and not is_kernel(torch.zeros(1, WIDEST + 1, 8, 3, 3))


def test_where_directions_differ_in_strength_it_comes_nearer_than_adam_in_as_many_steps():
    """What it is there for: the weak directions of a kernel are learnt at once with the strong ones."""
    random = torch.Generator().manual_seed(5)
    wanted = torch.randn(1, 8, 4, 3, 3, generator=random)
    mixing = torch.linalg.qr(torch.randn(36, 36, generator=random))[0] * torch.logspace(0, -1.5, 36)

    def left(kernel_rate: float | None) -> float:
        kernel = nn.Parameter(torch.zeros_like(wanted))
        optimiser = Muon(with_kernels([kernel], 0.05, kernel_rate), lr=0.05)
        for step in range(100):
            for group in optimiser.param_groups:
                top = 0.05 if group.get("momentum") is None else kernel_rate
                assert top is not None
                group["lr"] = top * 0.5 * (1 + math.cos(math.pi * step / 100))
            loss = ((kernel - wanted).view(8, 36) @ mixing.T).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return loss.item()

    assert left(0.25) < left(None)
