"""The code update of phase 1 and what keeps it small."""

from __future__ import annotations

from torch import Tensor


def update_codes(codes: Tensor, residual: Tensor, alpha: float) -> Tensor:
    """W + alpha f(W). Source: Xu 2022, Eq. 2."""
    return codes + alpha * residual


def residual_loss(residual_frame: Tensor, residual_anchor: Tensor) -> Tensor:
    """L_rf: mean absolute residual of both codes of the pair. Source: Xu 2022, Eq. 4."""
    return residual_frame.abs().mean() + residual_anchor.abs().mean()
