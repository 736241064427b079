"""What adversarial trainings share: the losses of a discriminator, weighed with the pull of the faces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.models.discriminator import Discriminator

R1_EVERY = 16
SMALLEST_NORM = 1e-12


def judging_loss(of_real: Tensor, of_drawn: Tensor) -> Tensor:
    """Non-saturating loss of a discriminator from its logits."""
    return F.softplus(of_drawn).mean() + F.softplus(-of_real).mean()


def fooling_loss(of_drawn: Tensor) -> Tensor:
    """Non-saturating loss of what draws, from the discriminator's logits of its pictures."""
    return F.softplus(-of_drawn).mean()


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """Mean squared gradient of the logits at real pictures, as the discriminator sees them."""
    real = real.detach().requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        logits = discriminator(real)
        [gradient] = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def combined_pull(
    pictures: Tensor, difference: Tensor, fooled: Tensor, weight: float, known: Tensor | None = None
) -> Tensor:
    """A loss whose gradient at drawn pictures is that of ``difference`` and a share of that of ``fooled``.

    The share is such that the discriminator pulls with ``weight`` times the force of the faces at the
    pictures that should show faces, however large either loss is: as both change by orders of magnitude in
    a training, a fixed weight is wrong most of the time.

    Args:
        pictures: (B, 3, S, S) drawn, part of the graph of both losses.
        difference: to the faces, at the pictures ``known`` alone.
        fooled: :func:`fooling_loss` of all pictures.
        weight: of the discriminator's pull.
        known: indices of the pictures that should show faces; None: all.

    Source: Esser et al., "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021 (Eq. 7), at the
    pictures instead of the last layer.
    """
    [to_faces] = torch.autograd.grad(difference, pictures, retain_graph=True)
    [to_real] = torch.autograd.grad(fooled, pictures, retain_graph=True)
    at = slice(None) if known is None else known
    share = weight * to_faces[at].float().norm() / to_real[at].float().norm().clamp(min=SMALLEST_NORM)
    pull = to_faces.float() + share * to_real.float()
    return (pictures.float() * pull.detach()).sum()
