"""Phase 3: the generator is tuned on a few frames at a time until the face's border meets the source."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tempcons.losses.masked import masked_squared_error
from tempcons.media.range import to_frames
from tempcons.models.stylegan2 import Generator
from tempcons.training.settings import TuningConfig

log = logging.getLogger(__name__)

LEVELS = 127.5  # of 255, in a picture's range of 2


@dataclass(frozen=True)
class Group:
    """Frames tuned together, as positions; ``first`` of its scene or not."""

    positions: range
    first: bool


def groups_of(scenes: Sequence[range], batch: int) -> list[Group]:
    """At most ``batch`` successive frames each, none across a cut."""
    return [
        Group(range(at, min(at + batch, scene.stop)), at == scene.start)
        for scene in scenes
        for at in range(scene.start, scene.stop, batch)
    ]


@dataclass(frozen=True)
class StitchFrames:
    """What some frames are tuned on.

    Attributes:
        codes: (B, L, D), which stay.
        source: (B, 3, S, S) in [-1, 1], the aligned input, which the border meets.
        edited: (B, 3, S, S) in [-1, 1], which the content keeps.
        border, content: (B, 1, S, S), 0 or 1.
    """

    codes: Tensor
    source: Tensor
    edited: Tensor
    border: Tensor
    content: Tensor


class GroupDataset(Dataset):
    """A group's frames as a batch; ``load`` reads them from positions."""

    def __init__(self, groups: Sequence[Group], load: Callable[[range], StitchFrames]) -> None:
        self.groups, self.load = groups, load

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**vars(self.load(self.groups[index].positions)), "group": torch.tensor(index)}


class GroupOfEpoch(Sampler[int]):
    """Epoch k is group k, in the order of time."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        yield self.epoch


def group_loader(groups: Sequence[Group], load: Callable[[range], StitchFrames]) -> DataLoader:
    """One group an epoch, so that a stopped fit goes on from the last finished one."""
    return DataLoader(GroupDataset(groups, load), batch_size=None, sampler=GroupOfEpoch())


class StitchTunePhase(pl.LightningModule):
    """Minimises lambda_border L_border + lambda_content L_content over the generator, group by group.

    Codes stay. Every group ends early once its border is near enough; its pictures are written before the
    next one changes the generator. Paper, Section 3.4, after Tzaban et al. 2022; unlike theirs, several
    frames share a generator, and a group starts from the one before it instead of from scratch.

    Args:
        generator: of the last phase; a copy is tuned.
        groups: in the order of time.
        config: steps, rate and weights.
        folder: where the pictures of each group go (``part_path``).
    """

    def __init__(
        self, generator: Generator, groups: Sequence[Group], config: TuningConfig, folder: Path
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = copy.deepcopy(generator).requires_grad_(True)
        self.generator.style.requires_grad_(False)
        self.start = copy.deepcopy(generator.state_dict())
        self.groups, self.config, self.folder = groups, config, folder

    def part_path(self, group: Group) -> Path:
        """Where the pictures of a group are, (B, S, S, 3) uint8."""
        return self.folder / f"{group.positions.start:08d}.npy"

    def loss(self, pictures: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The weighted sum, and the border's own error."""
        border = masked_squared_error(pictures, batch["source"], batch["border"])
        content = masked_squared_error(pictures, batch["edited"], batch["content"])
        return self.config.lambda_border * border + self.config.lambda_content * content, border

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        group = self.groups[int(batch["group"])]
        again = group.first or not self.config.warm_start
        if again:
            self.generator.load_state_dict(self.start)
        steps = self.config.steps if again else self.config.steps_after
        used, level = self.tune(batch, steps)
        self.log_dict({"border_levels": level, "steps": float(used)}, batch_size=len(group.positions))
        with torch.no_grad():
            pictures = self.generator.synthesis(batch["codes"])
        write_part(self.part_path(group), to_frames(pictures))

    def tune(self, batch: dict[str, Tensor], steps: int) -> tuple[int, float]:
        """Steps taken, and the border's RMS difference to the source in levels."""
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        level = float("inf")
        for step in range(steps + 1):
            loss, border = self.loss(self.generator.synthesis(batch["codes"]), batch)
            level = LEVELS * border.item() ** 0.5
            if step == steps or level <= self.config.stop_levels:
                break
            optimiser.zero_grad()
            self.manual_backward(loss)
            optimiser.step()
        # Each group has moments of its own, and checkpoints need none.
        optimiser.optimizer.state.clear()
        return step, level

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=self.config.lr)


def write_part(path: Path, frames: np.ndarray) -> None:
    """Write frames under a temporary name, then rename: a part with its name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, frames)
    temporary.replace(path)
