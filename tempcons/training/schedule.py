"""How a learning rate goes over a fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # settings know the schedules before Lightning is loaded
    from pytorch_lightning.utilities.types import OptimizerLRScheduler

SCHEDULES = ("constant", "cosine")
WARM_UP_SHARE = 0.05


def rate_factor(step: int, steps: int, schedule: str) -> float:
    """Share of the peak learning rate at a step: a short linear rise, then constant or a cosine to 0."""
    rise = min(1.0, (step + 1) / max(1, int(WARM_UP_SHARE * steps)))
    if schedule == "constant":
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def scheduled(optimiser: torch.optim.Optimizer, steps: int, schedule: str) -> OptimizerLRScheduler:
    """What ``configure_optimizers`` returns for a rate that changes at every step."""
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, steps, schedule))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rates, "interval": "step"}}
