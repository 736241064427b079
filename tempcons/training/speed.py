"""The fast mode: switches that change a phase's result a little for less work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tempcons.check import check_number
from tempcons.training.hyper import Hyper, PhaseHyper
from tempcons.training.settings import TrainerConfig

if TYPE_CHECKING:  # settings are checked before networks are loaded
    from tempcons.family import Family


@dataclass(frozen=True)
class SpeedConfig:
    """What the phases may leave out; the defaults leave nothing out.

    Attributes:
        name: "exact" or "fast", for the reader.
        flow_updates: RAFT's updates from the second time on that a pair is seen; None: all, every time.
        warm_start: those start from the flow found for the pair before.
        regularise_every: factor of the steps between two evaluations of L_r.
        perceptual_size: side in px at which distances of the losses are measured; None: the pictures'.
        precision: of both phases; None: the trainer's.
        epochs: share of the recipe's epochs, one at least.
    """

    name: str = "exact"
    flow_updates: int | None = None
    warm_start: bool = False
    regularise_every: int = 1
    perceptual_size: int | None = None
    precision: str | None = None
    epochs: float = 1.0

    def __post_init__(self) -> None:
        for name in ("flow_updates", "regularise_every", "perceptual_size"):
            value = getattr(self, name)
            if value is not None:
                check_number(f"speed.{name}", value, 1)
        check_number("speed.epochs", self.epochs, 0, above=True)

    def hyper(self, hyper: Hyper, trainer: TrainerConfig) -> Hyper:
        """A recipe with these switches, and the learning rates that the trainer's pairs a step ask for."""

        def of(phase: PhaseHyper) -> PhaseHyper:
            epochs = max(1, round(self.epochs * phase.epochs)) if phase.epochs else 0
            return replace(phase.at(trainer.rate_factor), epochs=epochs)

        every = hyper.regularise_every * self.regularise_every
        return replace(hyper, regularise_every=every, phase1=of(hyper.phase1), phase2=of(hyper.phase2))

    def trainer(self, trainer: TrainerConfig) -> TrainerConfig:
        """How the phases are trained."""
        return trainer if self.precision is None else replace(trainer, precision=self.precision)

    def family(self, family: Family) -> Family:
        """The networks that the phases' losses look through; figures are measured with the family's own."""
        from tempcons.models.flow import RaftFlow
        from tempcons.models.perceptual import SmallerDistance
        from tempcons.models.warm_flow import WarmRaft

        depends = dict(family.depends)
        changes: dict[str, Any] = {}
        if self.perceptual_size is not None and self.perceptual_size < family.size:
            changes["perceptual"] = SmallerDistance(family.perceptual, self.perceptual_size)
            depends["perceptual"] = {**depends["perceptual"], "size": self.perceptual_size}
        quick = self.warm_start or self.flow_updates is not None
        if quick and isinstance(family.flow, RaftFlow):
            updates = self.flow_updates or family.flow.updates
            changes["flow"] = WarmRaft(family.flow, updates, self.warm_start)
            depends["flow"] = {**depends["flow"], "later": [updates, self.warm_start]}
        return replace(family, depends=depends, **changes) if changes else family
