"""A direction that outlives pivotal tuning: its offset is fitted to the clip's tuned generator.

Tuning teaches a generator the clip, and lets it forget what pictures away from the clip look like: a
direction that draws a smile with the family's generator may only push the lips out with the tuned one. So the
family's generator says what the edit looks like, and the offset, the same for all frames, is moved until the
tuned one draws that:

    wanted = m G(w + d) + (1 - m) (G_t(w) + s (G(w + d) - G(w)))
    offset = argmin_o |G_t(w + o) - wanted|, from o = d

with G the family's generator, G_t the clip's, d the direction times its strength, and m in [0, 1] where G's
picture changes. How much of a change counts, and whether what doesn't (a shade of the whole face) is wanted
too (s), goes by the kind of edit: an expression changes all of a face a little, a thing that is put on it a
part of it much.

One offset for all frames can't draw a thing and leave the rest as it is: it takes the clip's own detail with
it. So a copy of the clip's generator may learn, after the offset, to draw what is wanted at the moved codes,
in the way of pivotal tuning. The edit is that copy then, and the offset.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.models.stylegan2 import Generator
from tempcons.muon import Muon, with_kernels

BATCH = 4  # frames a step
# Of the generator: the layers that learn (16 px and above), and the rates of Adam and, for kernels, of Muon.
FIRST_LAYER, RATE, KERNEL_RATE, BETAS = 3, 1e-3, 0.0135, (0.9, 0.9)


@dataclass(frozen=True)
class Fit:
    """How a kind of edit is fitted.

    Attributes:
        left, changed: changes of a pixel, blurred, that count not at all and in full, of a range of 2.
        softness: deviation of that blur, as a share of the side.
        rest: share s of the changes that don't count which is wanted too.
        coarse: what changes is compared at half the size, as the family's pictures are soft and the clip's
            are to stay as sharp as they are.
        finer_rows: the rows of the finer layers are fitted as well; else they stay at the direction's.
        weight: of what changes, beside 1 for what doesn't.
        rate: of Adam; falls along a cosine.
    """

    left: float
    changed: float
    softness: float
    rest: float
    coarse: bool
    finer_rows: bool
    weight: float
    rate: float


EXPRESSION = Fit(0.0, 0.25, 1 / 32, rest=1.0, coarse=True, finer_rows=False, weight=8.0, rate=0.03)
THING = Fit(0.2, 0.5, 1 / 64, rest=0.0, coarse=False, finer_rows=True, weight=4.0, rate=0.06)
FITS = {"expression": EXPRESSION, "thing": THING}


def changed_share(edited: Tensor, plain: Tensor, fit: Fit) -> Tensor:
    """(B, 1, H, W) from 0 where an edit leaves the picture to 1 where it changes it, softly.

    Args:
        edited, plain: (B, 3, H, W) with and without the edit, in [-1, 1].
        fit: what counts as changed.
    """
    from torchvision.transforms.functional import gaussian_blur  # takes seconds to load

    sigma = fit.softness * plain.shape[-1]
    side = 2 * int(3 * sigma) + 1
    change = gaussian_blur((edited - plain).abs().amax(1, keepdim=True), [side, side], [sigma, sigma])
    share = ((change - fit.left) / (fit.changed - fit.left)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def transferred(edited: Tensor, plain: Tensor, tuned: Tensor, share: Tensor, rest: float) -> Tensor:
    """The family's edited picture where the edit changes it, elsewhere the tuned generator's.

    Args:
        edited, plain: (B, 3, H, W) the family's generator with and without the edit, in [-1, 1].
        tuned: the clip's generator without it.
        share: (B, 1, H, W), :func:`changed_share`.
        rest: how much of the edit's change is wanted elsewhere too.
    """
    return torch.lerp(tuned + rest * (edited - plain), edited, share).clamp(-1, 1)


def transfer_error(drawn: Tensor, wanted: Tensor, share: Tensor, fit: Fit) -> Tensor:
    """Mean absolute and squared error of pictures (B, 3, H, W), heavier where ``share`` (B, 1, H, W) is."""
    error = drawn - wanted
    there = F.interpolate(F.avg_pool2d(error, 2), scale_factor=2) if fit.coarse else error
    kept, changed = (e.abs() + 2 * e.square() for e in (error, there))
    return ((1 - share) * kept + fit.weight * share * changed).mean()


def squared_error(drawn: Tensor, wanted: Tensor, share: Tensor, fit: Fit) -> Tensor:
    """Mean squared error of the same, weighted alike, for generators: by it detail comes back sooner."""
    return ((1 + (fit.weight - 1) * share) * (drawn - wanted).square()).mean()


# Pictures drawn and wanted (B, 3, H, W), shares (B, 1, H, W) and the fit, to a number.
Error = Callable[[Tensor, Tensor, Tensor, Fit], Tensor]


class Goal(NamedTuple):
    """What is wanted at codes (T, L, D): pictures (T, 3, H, W), and shares (T, 1, H, W) of the edit."""

    codes: Tensor
    wanted: Tensor
    share: Tensor


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
    """
    random = torch.Generator().manual_seed(0)
    looked_at = torch.randint(len(codes), (steps + generator_steps, BATCH), generator=random)
    used, chosen = looked_at.unique(return_inverse=True)
    goal = goal_at(direction, codes[used], tuned, base, fit)
    offset = fitted_offset(direction, goal, tuned, chosen[:steps], fit)
    return FittedEdit(offset, fitted_weights(offset, goal, tuned, chosen[steps:], fit))


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
        offset.grad = torch.autograd.grad(goal_error(tuned, offset, goal, some, fit), offset)[0] * free
        optimiser.step()
    return offset.detach()


def fitted_weights(
    offset: Tensor, goal: Goal, tuned: Generator, chosen: Tensor, fit: Fit
) -> dict[str, Tensor]:
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
        error = goal_error(learns, offset, goal, some, fit, squared_error)
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
    generator: Generator, offset: Tensor, goal: Goal, some: Tensor, fit: Fit, error: Error = transfer_error
) -> Tensor:
    """Error of what the generator draws at the goal's codes ``some``, (B,) positions, moved by (L, D)."""
    with torch.enable_grad():
        drawn = generator.synthesis(goal.codes[some] + offset, "none")
        return error(drawn, goal.wanted[some], goal.share[some], fit)


@torch.no_grad()
def goal_at(direction: Tensor, codes: Tensor, tuned: Generator, base: Generator, fit: Fit) -> Goal:
    """What is wanted of every code (T, L, D), once."""
    wanted, shares = [], []
    for some in codes.split(BATCH):
        edited, plain = draw(base, some + direction), draw(base, some)
        shares.append(changed_share(edited, plain, fit))
        wanted.append(transferred(edited, plain, draw(tuned, some), shares[-1], fit.rest))
    return Goal(codes, torch.cat(wanted), torch.cat(shares))


def draw(generator: Generator, codes: Tensor) -> Tensor:
    """(B, 3, H, W) pictures in [-1, 1], without noise."""
    return generator.synthesis(codes, "none").clamp(-1, 1)
