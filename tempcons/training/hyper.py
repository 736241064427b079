"""Hyperparameters of both phases, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tempcons.check import ConfigError, near_names
from tempcons.training.schedule import SCHEDULES


@dataclass(frozen=True)
class PhaseHyper:
    """Learning rates and epochs of one phase.

    Attributes:
        lr: of Adam.
        epochs: an epoch visits every pair once.
        schedule: "constant" (the paper), or "cosine": a short rise, then down to 0.
        kernel_lr: of the convolutions' kernels of at most 128 output channels, which then learn by Muon
            (muon.py); null: by Adam, at ``lr``, like the rest. Phase 1 trains no convolutions.
    """

    lr: float
    epochs: int
    schedule: str = "constant"
    kernel_lr: float | None = None

    def at(self, factor: float) -> PhaseHyper:
        """The same with its learning rates times ``factor``."""
        kernel_lr = None if self.kernel_lr is None else self.kernel_lr * factor
        return replace(self, lr=self.lr * factor, kernel_lr=kernel_lr)


# Without any of these there is nothing to learn.
LOSS_WEIGHTS = ("lambda_photo", "lambda_eps", "lambda_r", "lambda_m", "lambda_target", "lambda_sharp")


@dataclass(frozen=True)
class Hyper:
    """A recipe for one domain.

    Attributes:
        alpha: step of the code update (Eq. 2).
        lambda_photo: weight of the photometric loss (Eq. 1); phase 2 skips its flow where it is 0.
        lambda_rf: weight of the residual's L1 norm (Eq. 3).
        lambda_eps: weight of the flow consistency loss (Eq. 3, 5, 8).
        lambda_r: weight of the local regularisation (Eq. 5, 8).
        lambda_l2: weight of the squared difference inside it (Eq. 7).
        lambda_r_perceptual: weight of the perceptual distance inside it (Eq. 7: 1).
        lambda_m: weight of the loss outside the perceptual difference mask (Eq. 5); in-domain only.
        lambda_target: weight of the pull to the frame's target; not in the paper.
        lambda_sharp: weight of the sharpness loss; not in the paper.
        target: what ``lambda_target`` pulls to: "direct", or "consistent" (training/target_video.py),
            with ``target_anchor`` and ``target_data`` as its weights.
        pairs: "anchor", "neighbour" or "both".
        mapper_init: "zero" or "random".
        visibility: k in M^vis = exp(-k eps).
        difference_scale: calibration of the perceptual difference mask.
        outside_power: power of (1 - M^PD) in Eq. 6.
        mask_detach: masks carry no gradient.
        regularise_every: steps between two evaluations of L_r, each weighing as many steps.
        frozen_share: share of the last synthesis layers frozen out-of-domain (paper: 8 of 18).
    """

    alpha: float
    lambda_photo: float
    lambda_rf: float
    lambda_eps: float
    lambda_r: float
    lambda_l2: float
    lambda_r_perceptual: float
    lambda_m: float
    lambda_target: float
    lambda_sharp: float
    target: str
    target_anchor: float
    target_data: float
    pairs: str
    mapper_init: Literal["random", "zero"]
    visibility: float
    difference_scale: float
    outside_power: float
    mask_detach: bool
    regularise_every: int
    frozen_share: float
    phase1: PhaseHyper
    phase2: PhaseHyper

    @property
    def solves_target(self) -> bool:
        """Whether the phases are pulled to a video that is solved for first."""
        return bool(self.lambda_target) and self.target != "direct"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not 0 <= value < math.inf:
                raise ConfigError("config", f"{name} = {value}", "finite, and not negative")
        if not any(getattr(self, name) for name in LOSS_WEIGHTS):
            raise ConfigError(
                "config", "all weights of the losses are 0", f"set one of {', '.join(LOSS_WEIGHTS)}"
            )
        if self.regularise_every < 1:
            raise ConfigError("config", f"regularise_every = {self.regularise_every}", "1 or more")
        for name, phase in (("phase1", self.phase1), ("phase2", self.phase2)):
            if not 0 < phase.lr < math.inf or phase.epochs < 0:
                raise ConfigError(
                    "config", f"{name} has lr {phase.lr}, epochs {phase.epochs}", "lr > 0, epochs >= 0"
                )
            if phase.kernel_lr is not None and not 0 < phase.kernel_lr < math.inf:
                raise ConfigError("config", f"{name}.kernel_lr = {phase.kernel_lr}", "positive, or null")
            if phase.schedule not in SCHEDULES:
                raise ConfigError(
                    "config", f"{name}.schedule = {phase.schedule!r}", near_names(phase.schedule, SCHEDULES)
                )
        if self.phase1.kernel_lr is not None:
            found = f"phase1.kernel_lr = {self.phase1.kernel_lr}, but phase 1 trains no convolutions"
            raise ConfigError("config", found, "set phase1.lr, or phase2.kernel_lr")
        for name, values in {
            "target": ("direct", "consistent"),
            "pairs": ("anchor", "neighbour", "both"),
            "mapper_init": ("zero", "random"),
        }.items():
            own = getattr(self, name)
            if own not in values:
                raise ConfigError("config", f"{name} = {own!r}", f"known: {', '.join(values)}")
