"""What the edit does not touch should look like the input."""

from __future__ import annotations

from torch import Tensor


def outside_mask_loss(distance_to_input: Tensor, difference_mask: Tensor, power: float = 1.0) -> Tensor:
    """L_M of one frame: mean of (1 - M^PD)^p times the distance to the aligned input.

    Args:
        distance_to_input: (B, 1, H, W) spatial distance between the result and the input.
        difference_mask: (B, 1, H, W) M^PD in [0, 1].
        power: 1 in the paper, 4 in the released code.

    Source: Xu 2022, Eq. 6 (one of its two terms).
    """
    return ((1 - difference_mask).pow(power) * distance_to_input).mean()
