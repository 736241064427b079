"""A direction that outlives pivotal tuning: its offset is fitted to the clip's tuned generator.

Tuning teaches a generator the clip, and lets it forget what pictures away from the clip look like: a
direction that draws a smile with the family's generator may only push the lips out with the tuned one. So the
family's generator says what the edit looks like, and the offset, the same for all frames, is moved until the
tuned one draws that:

    wanted = G(w + d) + (1 - m) (G_t(w) - G(w)),    offset = argmin_o |G_t(w + o) - wanted|, from o = d

with G the family's generator, G_t the clip's, d the direction times its strength, and m in [0, 1] where G's
picture changes. There pictures are compared at half their size: the family's are soft, and the clip's are to
stay as sharp as they are. For the same reason the rows of the finer layers stay at the direction's. Only
codes move; the clip's generator stays as it is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.models.stylegan2 import Generator

BATCH = 4  # frames a step
RATE = 0.03  # of Adam; falls along a cosine
CHANGED = 0.25  # blurred change of a pixel that counts in full, of a range of 2
SOFTNESS = 1 / 32  # of the side: deviation of that blur
CHANGE_WEIGHT = 8.0  # of what the edit changes, beside 1 for what it leaves


def changed_share(edited: Tensor, plain: Tensor) -> Tensor:
    """(B, 1, H, W) from 0 where an edit leaves the picture to 1 where it changes it, softly."""
    from torchvision.transforms.functional import gaussian_blur  # takes seconds to load

    sigma = SOFTNESS * plain.shape[-1]
    side = 2 * int(3 * sigma) + 1
    change = (edited - plain).abs().amax(1, keepdim=True)
    share = (gaussian_blur(change, [side, side], [sigma, sigma]) / CHANGED).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def transferred(edited: Tensor, plain: Tensor, tuned: Tensor, share: Tensor) -> Tensor:
    """The family's edited picture with the tuned generator's detail where the edit changes nothing.

    Args:
        edited, plain: (B, 3, H, W) the family's generator with and without the edit, in [-1, 1].
        tuned: the clip's generator without it.
        share: (B, 1, H, W), :func:`changed_share`.
    """
    return (edited + (1 - share) * (tuned - plain)).clamp(-1, 1)


def transfer_error(drawn: Tensor, wanted: Tensor, share: Tensor) -> Tensor:
    """Mean absolute and squared error, at half the size and heavier where the edit changes the picture."""
    error = drawn - wanted
    coarse = F.interpolate(F.avg_pool2d(error, 2), scale_factor=2)
    kept, changed = (e.abs() + 2 * e.square() for e in (error, coarse))
    return ((1 - share) * kept + CHANGE_WEIGHT * share * changed).mean()


def refined(direction: Tensor, codes: Tensor, tuned: Generator, base: Generator, steps: int) -> Tensor:
    """(L, D) offset with which the clip's generator draws what the direction makes of the family's.

    Args:
        direction: (L, D), the strength included; rows of zeros stay zero.
        codes: (T, L, D) of the clip.
        tuned: the clip's generator.
        base: the family's generator.
        steps: of Adam.
    """
    random = torch.Generator().manual_seed(0)
    free = direction.any(1, keepdim=True) & (torch.arange(len(direction)) < len(direction) // 2)[:, None]
    offset = direction.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([offset])
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        some = codes[torch.randint(len(codes), (BATCH,), generator=random)]
        with torch.no_grad():
            edited, plain = (draw(base, w) for w in (some + direction, some))
            share = changed_share(edited, plain)
            wanted = transferred(edited, plain, draw(tuned, some), share)
        with torch.enable_grad():
            error = transfer_error(tuned.synthesis(some + offset, "none"), wanted, share)
        offset.grad = torch.autograd.grad(error, offset)[0] * free
        optimiser.step()
    return offset.detach()


def draw(generator: Generator, codes: Tensor) -> Tensor:
    """(B, 3, H, W) pictures in [-1, 1], without noise."""
    return generator.synthesis(codes, "none").clamp(-1, 1)
