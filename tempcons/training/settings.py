"""What training is told. Apart from what it does, so that settings are checked without loading Lightning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from tempcons.check import ConfigError, check_number, near_names
from tempcons.training.schedule import SCHEDULES

STRATEGIES = ("auto", "ddp")
LR_RULES = ("constant", "sqrt", "linear")
LOSSES = ("perceptual", "l1", "l2")


@dataclass(frozen=True)
class TrainerConfig:
    """How Lightning runs a phase.

    Attributes:
        accelerator: "auto", "cpu" or "gpu".
        devices: number of devices for one clip; several share the pairs of each step.
        strategy: "auto" or "ddp", which is what several devices use in any case.
        precision: Lightning's precision, such as "32-true" or "bf16-mixed".
        tf32: matrix products in TF32 (GPUs from Ampere on; convolutions are so by PyTorch's default).
        pairs_per_step: frame pairs in one optimiser step.
        lr_rule: how the learning rate grows with the pairs of a step (:meth:`rate_factor`).
        num_threads: CPU threads; null leaves PyTorch's choice.
        side_process: on a CPU with two threads or more, make what the result is measured beside in a second
            process at the same time.
        channels_last: weights and feature maps with the channels innermost.
        checkpointing: the generator's blocks are computed again on the way back instead of kept.
        compile: generator and perceptual network through ``torch.compile``.
        fused_adam: one kernel for an optimiser step.
        workers: processes that read pairs ahead; 0 reads them in this one.
        pin_memory: pairs in pinned memory, copied to the GPU beside its work.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    tf32: bool = False
    pairs_per_step: int = 1
    lr_rule: str = "constant"
    num_threads: int | None = None
    side_process: bool = True
    channels_last: bool = False
    checkpointing: bool = False
    compile: bool = False
    fused_adam: bool = True
    workers: int = 0
    pin_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("devices", "pairs_per_step", "num_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError("config", f"trainer.{name} = {value}", "1 or more")
        check_number("trainer.workers", self.workers, 0)
        for name, known in (("strategy", STRATEGIES), ("lr_rule", LR_RULES)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError("config", f"trainer.{name} = {value!r}", near_names(value, known))

    @property
    def numerics(self) -> str:
        """What results depend on beyond rounding, for keys."""
        return f"{self.precision}, tf32" if self.tf32 else self.precision

    @property
    def rate_factor(self) -> float:
        """Of the learning rates, for several pairs a step: an epoch then has as many times fewer steps.

        "sqrt" is the rule for Adam, whose step doesn't grow with the gradient (Malladi 2022); "linear"
        the one for plain gradient descent; "constant" leaves the rates.
        """
        pairs = self.pairs_per_step * self.devices
        return {"constant": 1.0, "sqrt": math.sqrt(pairs), "linear": float(pairs)}[self.lr_rule]


@dataclass(frozen=True)
class LoggerConfig:
    """Where numbers go.

    Attributes:
        wandb: "offline" (default: no account, no network), "online" or "disabled".
        project: W&B project.
        group: W&B group; null: the sweep's or none.
        tags: W&B tags.
    """

    wandb: str = "offline"
    project: str = "tempcons"
    group: str | None = None
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.wandb not in ("offline", "online", "disabled"):
            raise ConfigError("config", f"logger.wandb = {self.wandb!r}", "known: offline, online, disabled")


@dataclass(frozen=True)
class PivotalConfig:
    """Settings of pivotal tuning.

    Attributes:
        steps: optimiser steps over the whole clip.
        batch: frames a step.
        lr: peak learning rate (Adam).
        kernel_lr: of the convolutions' kernels of at most 128 output channels, which then learn by Muon
            (muon.py); null: by Adam, at ``lr``, like the rest.
        beta2: of Adam: over how many steps, about 1 / (1 - beta2), it averages the squared gradient.
        modulation_rate: of the layers that turn codes into styles, as a share of ``lr``.
        first_layer: the first synthesis convolution that learns, with the RGB outputs from there on; 0 is the
            whole network. The layers of few pixels hold what edits change; left as they are, edits are kept
            better.
        schedule: "cosine" to zero, or "constant".
        lambda_l2: weight of the mean squared error.
        lambda_perceptual: weight of the perceptual distance.
        lambda_sharp: weight of the sharpness loss, which asks for as much local detail as the frames have.
        stop_psnr_db: stop early when the clip is reconstructed this well; null never.
        lambda_r: weight of the local regularisation, which keeps the generator as it was around the
            pivots; 0 leaves it out.
        lambda_r_l2, lambda_r_perceptual: weights inside it.
        regularise_every: steps between two evaluations of it.
    """

    steps: int = 400
    batch: int = 4
    lr: float = 3e-3
    kernel_lr: float | None = None
    beta2: float = 0.999
    modulation_rate: float = 1.0
    first_layer: int = 0
    schedule: str = "cosine"
    lambda_l2: float = 10.0
    lambda_perceptual: float = 0.1
    lambda_sharp: float = 0.0
    stop_psnr_db: float | None = None
    lambda_r: float = 0.0
    lambda_r_l2: float = 0.1
    lambda_r_perceptual: float = 0.1
    regularise_every: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "regularise_every"):
            check_number(f"inversion.pivotal.{name}", getattr(self, name), 1)
        check_number("inversion.pivotal.first_layer", self.first_layer, 0)
        for name in ("lr", "modulation_rate"):
            check_number(f"inversion.pivotal.{name}", getattr(self, name), 0, above=True)
        if self.kernel_lr is not None:
            check_number("inversion.pivotal.kernel_lr", self.kernel_lr, 0, above=True)
        if not 0 < self.beta2 < 1:
            raise ConfigError("config", f"inversion.pivotal.beta2 = {self.beta2}", "between 0 and 1")
        weights = [name for name in self.__dataclass_fields__ if name.startswith("lambda_")]
        for name in weights:
            check_number(f"inversion.pivotal.{name}", getattr(self, name), 0)
        if not self.lambda_l2 and not self.lambda_perceptual:
            raise ConfigError("config", "inversion.pivotal has no loss", "set lambda_l2 or lambda_perceptual")
        if self.stop_psnr_db is not None:
            check_number("inversion.pivotal.stop_psnr_db", self.stop_psnr_db, 0, above=True)
        if self.schedule not in SCHEDULES:
            what = f"inversion.pivotal.schedule = {self.schedule!r}"
            raise ConfigError("config", what, near_names(self.schedule, SCHEDULES))

    def over(self, passes: int, frames: int) -> PivotalConfig:
        """The same with as many steps as ``passes`` over a clip of ``frames`` take."""
        return replace(self, steps=math.ceil(passes * frames / self.batch))


@dataclass(frozen=True)
class TuningConfig:
    """Settings of stitch tuning. Source of steps, rate and weights: Tzaban et al. 2022.

    Attributes:
        steps: at most so many optimiser steps on the first frames of a scene.
        steps_after: on later frames, which start where the frames before ended.
        batch: frames tuned together by one generator.
        lr: learning rate (Adam).
        lambda_border: weight of the squared error to the source over the border.
        lambda_content: weight of the squared error to the edit over the rest of the face.
        reach: how far the border goes beyond the face, as a share of the crop's side.
        edge: width of the border along the crop's edge, where the face reaches it; likewise.
        stop_levels: stop early when the border is so near the source (RMS, levels of 255).
        warm_start: start from the frames before; false starts from the same generator every time.
    """

    steps: int = 100
    steps_after: int = 30
    batch: int = 4
    lr: float = 3e-4
    lambda_border: float = 1.0
    lambda_content: float = 0.01
    reach: float = 0.05
    edge: float = 0.05
    stop_levels: float = 1.0
    warm_start: bool = True

    def __post_init__(self) -> None:
        least = {"steps": 1, "steps_after": 1, "batch": 1, "reach": 0, "edge": 0, "stop_levels": 0}
        least |= {"lambda_border": 0, "lambda_content": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError("config", f"stitch.tuning.{name} = {getattr(self, name)}", f"{low} or more")
        if self.lr <= 0:
            raise ConfigError("config", f"stitch.tuning.lr = {self.lr}", "it must be positive")
        if self.reach + self.edge == 0 or max(self.reach, self.edge) > 0.25:
            found = f"reach {self.reach} and edge {self.edge}"
            raise ConfigError("config", f"stitch.tuning has {found}", "shares up to 0.25, not both 0")


@dataclass(frozen=True)
class DvpConfig:
    """Settings of Deep Video Prior; the defaults are the released code's.

    Attributes:
        epochs: passes over the clip, one step a frame, in order.
        lr: learning rate of Adam.
        loss: "perceptual", "l1" or "l2"; unused with ``irt``.
        lambda_perceptual: weight of the perceptual distance beside the mean absolute difference.
        coarse_to_fine: train on every second pixel of both directions until about 4/5 of the epochs.
        irt: iteratively reweighted training with a second output, for edits that jump between looks.
        irt_first_epochs: epochs on the first frame alone, which tell the two outputs apart.
        width: channels of the network's first level.
    """

    epochs: int = 25
    lr: float = 1e-4
    loss: str = "perceptual"
    lambda_perceptual: float = 0.1
    coarse_to_fine: bool = True
    irt: bool = False
    irt_first_epochs: int = 5
    width: int = 32

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError("dvp", f"no loss named {self.loss!r}", near_names(self.loss, LOSSES))
        for name in ("epochs", "width"):
            if getattr(self, name) < 1:
                raise ConfigError("dvp", f"{name} = {getattr(self, name)}", "it must be 1 or more")
        for name in ("lr", "lambda_perceptual", "irt_first_epochs"):
            if getattr(self, name) < 0:
                raise ConfigError("dvp", f"{name} = {getattr(self, name)}", "it must not be negative")

    @property
    def coarse_epochs(self) -> int:
        """Epochs at half resolution: 19 of 25."""
        return (self.epochs + 1) * 4 // 5 - 1 if self.coarse_to_fine else 0


@dataclass(frozen=True)
class ExplicitConfig:
    """Settings of the optimisation.

    Attributes:
        lr: learning rate (Adam), in the units of the codes.
        epochs: visits to every pair; None takes as many as the recipe's phase 1.
    """

    lr: float = 0.01
    epochs: int | None = None

    def __post_init__(self) -> None:
        check_number("baselines.wplus.lr", self.lr, 0, above=True)
        if self.epochs is not None:
            check_number("baselines.wplus.epochs", self.epochs, 0)
