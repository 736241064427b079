"""A direction that outlives pivotal tuning: fitted to the clip's tuned generator.

Tuning teaches a generator the clip, and lets it forget what pictures away from the clip look like: a
direction that draws a smile with the family's generator may only push the lips out with the tuned one. So the
family's generator says what the edit looks like, and the clip's learns to draw that of its own person. With G
the family's generator, G_t the clip's and d the direction times its strength, what is wanted goes by the kind
of edit.

An expression moves a face more than it changes it: the person's own sharp picture follows the motion
between G's soft ones, and what motion can't say (the inside of a mouth that opens) is added,

    wanted = W_F(G_t(w)) + G(w + d) - W_F(G(w)),    F = F_{G(w + d) -> G(w)}

where W_F is the backward warp by flow F. A thing that is put on a face covers it:

    wanted = m G(w + d) + (1 - m) G_t(w)

with m in [0, 1] where G's picture changes.

First the offset, the same for all frames, may come nearer, o from d on, by the error of G_t(w + o). One
offset can't draw a new thing and leave the rest as it is: it takes the clip's own detail with it. So a copy
of the clip's generator learns, after it, to draw what is wanted at the moved codes, in the way of pivotal
tuning. The edit is that copy then, and the offset.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tempcons.geometry.warp import warp
from tempcons.models.flow import DISFlow
from tempcons.models.stylegan2 import Generator
from tempcons.muon import Muon, with_kernels

BATCH = 4  # frames a step
NEAR = 1e-3  # of a range of 2; a step of an 8-bit picture is 8e-3
# Of the generator: the layers that learn (16 px and above), and the rates of Adam and, for kernels, of Muon.
FIRST_LAYER, RATE, KERNEL_RATE, BETAS = 3, 1e-3, 0.0135, (0.9, 0.9)
# Of an expression: small steps of the direction in which motion is followed, and the deviation of the blur
# of each step's flow, as a share of the side.
MOTION_STEPS, MOTION_SOFTNESS = 4, 0.012
# Of a thing: changes of a pixel, blurred, that count not at all and in full, of a range of 2; the deviation
# of that blur, as a share of the side; and the weight of what changes, beside 1 for what doesn't.
LEFT, CHANGED, SOFTNESS, WEIGHT = 0.2, 0.5, 1 / 64, 4.0


class Goal(NamedTuple):
    """What is wanted at codes (T, L, D): pictures (T, 3, H, W), and weights (T, 1, H, W) of their errors."""

    codes: Tensor
    wanted: Tensor
    weight: Tensor


def carried_over(direction: Tensor, codes: Tensor, tuned: Generator, base: Generator) -> Goal:
    """An expression: the clip's pictures, moved as the family's move, and the family's other changes.

    Args:
        direction: (L, D), the strength included.
        codes: (B, L, D).
        tuned, base: the clip's generator and the family's.
    """
    drawn = [draw(base, codes + step / MOTION_STEPS * direction) for step in range(MOTION_STEPS + 1)]
    flow = motion(drawn)
    moved, moved_plain = (warp(picture, flow, "border")[0] for picture in (draw(tuned, codes), drawn[0]))
    wanted = (moved + drawn[-1] - moved_plain).clamp(-1, 1)
    return Goal(codes, wanted, torch.ones_like(wanted[:, :1]))


def motion(drawn: list[Tensor]) -> Tensor:
    """Flow (B, 2, H, W) in pixels from the last of pictures to the first, followed from one to the next.

    Args:
        drawn: two or more of (B, 3, H, W) in [-1, 1], each a little further than the one before.
    """
    estimate = DISFlow()
    flow = torch.zeros_like(drawn[0][:, :2])
    for before, after in pairwise(drawn):
        of_step = blurred(estimate(after, before), MOTION_SOFTNESS)
        flow = of_step + warp(flow, of_step, "border")[0]
    return flow


def put_on(direction: Tensor, codes: Tensor, tuned: Generator, base: Generator) -> Goal:
    """A thing: the family's pictures where the edit changes them, else the clip's.

    Args:
        direction: (L, D), the strength included.
        codes: (B, L, D).
        tuned, base: the clip's generator and the family's.
    """
    edited = draw(base, codes + direction)
    share = changed_share(edited, draw(base, codes))
    return Goal(codes, torch.lerp(draw(tuned, codes), edited, share), 1 + (WEIGHT - 1) * share)


def changed_share(edited: Tensor, plain: Tensor) -> Tensor:
    """(B, 1, H, W) from 0 where an edit leaves the picture to 1 where it changes it, softly.

    Args:
        edited, plain: (B, 3, H, W) with and without the edit, in [-1, 1].
    """
    change = blurred((edited - plain).abs().amax(1, keepdim=True), SOFTNESS)
    share = ((change - LEFT) / (CHANGED - LEFT)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def blurred(picture: Tensor, softness: float) -> Tensor:
    """(B, C, H, W) blurred by a Gaussian whose deviation is that share of the side."""
    from torchvision.transforms.functional import gaussian_blur  # takes seconds to load

    sigma = softness * picture.shape[-1]
    side = 2 * int(3 * sigma) + 1
    return gaussian_blur(picture, [side, side], [sigma, sigma])


@dataclass(frozen=True)
class Fit:
    """How a kind of edit is fitted.

    Attributes:
        goal: direction, codes, the clip's generator and the family's, to what is wanted.
        finer_rows: the rows of the finer layers are fitted as well; else they stay at the direction's.
        rate: of Adam, for the offset; falls along a cosine.
    """

    goal: Callable[[Tensor, Tensor, Generator, Generator], Goal]
    finer_rows: bool
    rate: float


FITS = {
    "expression": Fit(carried_over, finer_rows=False, rate=0.03),
    "thing": Fit(put_on, finer_rows=True, rate=0.06),
}


def offset_error(drawn: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the absolute and twice the squared error of pictures (B, 3, H, W)."""
    error = drawn - wanted
    return (weight * (error.abs() + 2 * error.square())).mean()


def squared_error(drawn: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error of the same, for generators: by it detail comes back sooner."""
    return (weight * (drawn - wanted).square()).mean()


# Pictures drawn and wanted (B, 3, H, W) and weights (B, 1, H, W), to a number.
Error = Callable[[Tensor, Tensor, Tensor], Tensor]


class FittedEdit(NamedTuple):
    """An edit fitted to a clip: offset (L, D) of the codes, and what is added to its generator's weights."""

    offset: Tensor
    weights: dict[str, Tensor]


def refined(
    direction: Tensor,
    codes: Tensor,
    tuned: Generator,
    base: Generator,
    steps: int,
    fit: Fit,
    generator_steps: int = 0,
) -> FittedEdit:
    """How the clip's generator draws what the direction makes of the family's.

    Args:
        direction: (L, D), the strength included; rows of zeros stay zero.
        codes: (T, L, D) of the clip.
        tuned: the clip's generator; stays as it is.
        base: the family's generator.
        steps: of Adam, for the offset; 0: the direction as it is.
        fit: for the kind of edit.
        generator_steps: in which a copy of the clip's generator then learns it too; 0: no weights change.

    Returns:
        The fitted edit; the direction alone where the clip's generator draws what is wanted already, as the
        family's own does of an expression.
    """
    random = torch.Generator().manual_seed(0)
    looked_at = torch.randint(len(codes), (steps + generator_steps, BATCH), generator=random)
    used, chosen = looked_at.unique(return_inverse=True)
    goal = goal_at(direction, codes[used], tuned, base, fit)
    if reached(tuned, direction, goal):
        return FittedEdit(direction, {})
    offset = fitted_offset(direction, goal, tuned, chosen[:steps], fit)
    return FittedEdit(offset, fitted_weights(offset, goal, tuned, chosen[steps:]))


def fitted_offset(direction: Tensor, goal: Goal, tuned: Generator, chosen: Tensor, fit: Fit) -> Tensor:
    """(L, D) offset with which the generator comes nearest to the goal, from the direction on.

    Args:
        chosen: (S, B) which of the goal's codes each step looks at.
    """
    rows = len(direction) if fit.finer_rows else len(direction) // 2
    free = direction.any(1, keepdim=True) & (torch.arange(len(direction)) < rows)[:, None]
    offset = direction.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([offset])
    for step, some in enumerate(chosen):
        for group in optimiser.param_groups:
            group["lr"] = fit.rate * falling(step, len(chosen))
        offset.grad = torch.autograd.grad(goal_error(tuned, offset, goal, some), offset)[0] * free
        optimiser.step()
    return offset.detach()


def fitted_weights(offset: Tensor, goal: Goal, tuned: Generator, chosen: Tensor) -> dict[str, Tensor]:
    """What is added to the generator's weights, by name, so that it draws the goal; nothing without steps.

    Args:
        chosen: (S, B) which of the goal's codes each step looks at.
    """
    if not len(chosen):
        return {}
    learns = copy.deepcopy(tuned).requires_grad_(False)
    free = learns.layer_parameters(FIRST_LAYER)
    for parameter in free:
        parameter.requires_grad_(True)
    optimiser = Muon(with_kernels(free, RATE, KERNEL_RATE), lr=RATE, betas=BETAS)
    highest = [group["lr"] for group in optimiser.param_groups]
    for step, some in enumerate(chosen):
        for group, rate in zip(optimiser.param_groups, highest, strict=True):
            group["lr"] = rate * falling(step, len(chosen))
        error = goal_error(learns, offset, goal, some, squared_error)
        gradients = torch.autograd.grad(error, free, materialize_grads=True)
        for parameter, gradient in zip(free, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
    before = tuned.state_dict()
    return {n: p.detach() - before[n] for n, p in learns.named_parameters() if p.requires_grad}


def falling(step: int, steps: int) -> float:
    """Share of the highest rate, along a cosine."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def goal_error(
    generator: Generator, offset: Tensor, goal: Goal, some: Tensor, error: Error = offset_error
) -> Tensor:
    """Error of what the generator draws at the goal's codes ``some``, (B,) positions, moved by (L, D)."""
    with torch.enable_grad():
        drawn = generator.synthesis(goal.codes[some] + offset, "none")
        return error(drawn, goal.wanted[some], goal.weight[some])


@torch.no_grad()
def goal_at(direction: Tensor, codes: Tensor, tuned: Generator, base: Generator, fit: Fit) -> Goal:
    """What is wanted of every code (T, L, D), once."""
    goals = [fit.goal(direction, some, tuned, base) for some in codes.split(BATCH)]
    return Goal(*map(torch.cat, zip(*goals, strict=True)))


@torch.no_grad()
def reached(generator: Generator, offset: Tensor, goal: Goal) -> bool:
    """Whether the generator draws the goal at its codes moved by (L, D), as exactly as pictures are told."""
    pairs = zip(goal.codes.split(BATCH), goal.wanted.split(BATCH), strict=True)
    return all((draw(generator, some + offset) - wanted).abs().max() < NEAR for some, wanted in pairs)


def draw(generator: Generator, codes: Tensor) -> Tensor:
    """(B, 3, H, W) pictures in [-1, 1], without noise."""
    return generator.synthesis(codes, "none").clamp(-1, 1)
