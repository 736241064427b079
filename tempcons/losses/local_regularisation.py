"""Local regularisation: the tuned generator stays the old one around the codes in use."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def move_code(codes: Tensor, target: Tensor, distance: float) -> Tensor:
    """W_r: from ``codes`` towards ``target`` by ``distance``, the norm taken over all L x D numbers.

    Args:
        codes: (B, L, D).
        target: (B, L, D) sampled codes W_z.
        distance: alpha_interp, in the units of the codes (PTI: 30 at 18 x 512).

    Source: Xu 2022, Section 3.3, after Roich 2021 (PTI).
    """
    direction = target - codes
    length = direction.flatten(1).norm(dim=1).clamp_min(1e-8).view(-1, 1, 1)
    return codes + distance * direction / length


def local_regularisation_loss(
    old: Tensor,
    new: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    lambda_l2: float,
    lambda_perceptual: float = 1.0,
) -> Tensor:
    """L_r: perceptual distance plus weighted mean squared difference of both generators' pictures.

    Args:
        old: (B, 3, H, W) picture of the generator before tuning.
        new: the tuned generator's, same code.
        distance: two pictures to (B,) perceptual distances.
        lambda_l2: weight of the squared difference.
        lambda_perceptual: 1 in the paper's equation, 0.1 in PTI.

    Source: Xu 2022, Eq. 7.
    """
    perceptual = distance(old.clamp(-1, 1), new.clamp(-1, 1)).mean()
    return lambda_perceptual * perceptual + lambda_l2 * (old - new).square().mean()
