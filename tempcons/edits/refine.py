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
part of it much. Only codes move; the clip's generator stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.models.stylegan2 import Generator

BATCH = 4  # frames a step


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


def refined(
    direction: Tensor, codes: Tensor, tuned: Generator, base: Generator, steps: int, fit: Fit
) -> Tensor:
    """(L, D) offset with which the clip's generator draws what the direction makes of the family's.

    Args:
        direction: (L, D), the strength included; rows of zeros stay zero.
        codes: (T, L, D) of the clip.
        tuned: the clip's generator.
        base: the family's generator.
        steps: of Adam.
        fit: for the kind of edit.
    """
    random = torch.Generator().manual_seed(0)
    used, chosen = torch.randint(len(codes), (steps, BATCH), generator=random).unique(return_inverse=True)
    codes = codes[used]
    wanted, share = goals(direction, codes, tuned, base, fit)
    rows = len(direction) if fit.finer_rows else len(direction) // 2
    free = direction.any(1, keepdim=True) & (torch.arange(len(direction)) < rows)[:, None]
    offset = direction.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([offset])
    for step, some in enumerate(chosen):
        for group in optimiser.param_groups:
            group["lr"] = fit.rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.enable_grad():
            drawn = tuned.synthesis(codes[some] + offset, "none")
            error = transfer_error(drawn, wanted[some], share[some], fit)
        offset.grad = torch.autograd.grad(error, offset)[0] * free
        optimiser.step()
    return offset.detach()


@torch.no_grad()
def goals(
    direction: Tensor, codes: Tensor, tuned: Generator, base: Generator, fit: Fit
) -> tuple[Tensor, Tensor]:
    """What is wanted of every code (T, L, D), once: pictures (T, 3, H, W) and shares (T, 1, H, W)."""
    wanted, shares = [], []
    for some in codes.split(BATCH):
        edited, plain = draw(base, some + direction), draw(base, some)
        shares.append(changed_share(edited, plain, fit))
        wanted.append(transferred(edited, plain, draw(tuned, some), shares[-1], fit.rest))
    return torch.cat(wanted), torch.cat(shares)


def draw(generator: Generator, codes: Tensor) -> Tensor:
    """(B, 3, H, W) pictures in [-1, 1], without noise."""
    return generator.synthesis(codes, "none").clamp(-1, 1)
