"""Seconds and memory of a training step, beside the naive composition of the same parts."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.benchmarks.naive import NaiveGenerator, NaiveLatent, naive_step
from experiments.benchmarks.parts import FRAMES, Parts, make_parts
from tempcons.models.mapper import LevelsMapper
from tempcons.runtime import prepare_process
from tempcons.store.artefact import peak_memory_mb
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.latent_phase import LatentMLPPhase
from tempcons.training.pairs import AnchorPairDataModule, Batch
from tempcons.training.phase import ConsistencyPhase

PHASES = ("phase1", "phase2")
FAST = "speed=fast"
# The first epoch of a fit makes what later ones find: buffers, Adam's state, features, in fast mode flows.
WARM_UP = FRAMES - 1


@dataclass
class Times:
    """Seconds of steps on the clock and, of a CPU's steps, of this process's own work.

    The latter is what ways are compared by on a CPU: other programs on the machine don't count.
    """

    device: torch.device
    clock: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.began = self._now()

    def stop(self) -> None:
        clock, work = (after - before for before, after in zip(self.began, self._now(), strict=True))
        self.clock.append(clock)
        self.work.append(clock if self.device.type == "cuda" else work)

    def _now(self) -> tuple[float, float]:
        """When the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()


class StepTimes(pl.Callback):
    """Times steps from their start to after the optimiser, without those to warm up, and notes losses."""

    def __init__(self, times: Times, losses: list[float]) -> None:
        self.times, self.losses = times, losses

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.times.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step > WARM_UP:
            self.times.stop()
        self.losses.append(outputs["loss"].item())


class Ours:
    """A phase as ``train.py`` runs it."""

    def __init__(self, parts: Parts, phase: str, seed: int) -> None:
        self.parts, self.seed, self.module = parts, seed, phase_module(parts, phase, seed)
        self.times, self.losses = Times(parts.device), list[float]()

    def run(self, steps: int) -> None:
        """A fit of so many steps after those to warm up."""
        parts, hyper = self.parts, self.parts.hyper
        masks = FlowMaskCallback(
            parts.family.flow,
            parts.family.flow_size,
            True,
            hyper.visibility,
            hyper.difference_scale,
            hyper.mask_detach,
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(
                self.module,
                pair_data(parts, self.seed),
                Path(folder),
                parts.trainer,
                parts.name,
                # An epoch has a step at least; a schedule must know an end.
                epochs=steps + WARM_UP,
                steps=steps + WARM_UP,
                callbacks=[masks, StepTimes(self.times, self.losses)],
            )


class Naively:
    """A phase as the released loop runs it."""

    def __init__(self, parts: Parts, phase: str, seed: int) -> None:
        self.parts, self.seed, self.step = parts, seed, 0
        module = phase_module(parts, phase, seed)
        self.phase: NaiveLatent | NaiveGenerator
        if isinstance(module, LatentMLPPhase):
            self.phase = NaiveLatent(parts, module.mapper)
        else:
            self.phase = NaiveGenerator(parts, seed)
        self.times, self.losses = Times(parts.device), list[float]()

    def run(self, steps: int) -> None:
        """So many steps after those to warm up."""
        device = self.parts.device
        # A fit before may have left them on the CPU.
        self.parts.family.place()
        for at, batch in enumerate(itertools.islice(batches(self.parts, self.seed), steps + WARM_UP)):
            on_device = {name: value.to(device) for name, value in batch.items()}
            self.times.start()
            loss = naive_step(self.phase, on_device, at)
            if at >= WARM_UP:
                self.times.stop()
            self.losses.append(loss)


def phase_module(parts: Parts, phase: str, seed: int) -> ConsistencyPhase:
    """Phase 1 or phase 2 of the parts."""
    torch.manual_seed(seed)
    generator, hyper, family = parts.edited.generator, parts.hyper, parts.family
    if phase == "phase1":
        mapper = LevelsMapper(generator.style_dim, generator.n_latent, init=hyper.mapper_init)
        return LatentMLPPhase(generator, mapper, family.perceptual, hyper, True)
    return GeneratorTunePhase(
        generator, family.sample_codes, family.perceptual, hyper, True, family.alpha_interp, seed
    )


def pair_data(parts: Parts, seed: int) -> AnchorPairDataModule:
    """Anchor pairs of the parts' frames."""
    edited = parts.edited
    return AnchorPairDataModule(
        edited, edited.codes, edited.frames, "anchor", parts.trainer.pairs_per_step, seed
    )


def batches(parts: Parts, seed: int) -> Iterator[Batch]:
    """The batches of a fit, epoch after epoch."""
    loader = pair_data(parts, seed).train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


@dataclass(frozen=True)
class Place:
    """Where and how often steps are run, for processes of their own."""

    accelerator: str
    seed: int
    threads: int
    steps: int
    settings: tuple[str, ...] = ()


def time_steps(name: str, place: Place, rounds: int, fast: bool) -> Iterator[dict[str, Any]]:
    """Rows of both phases of a setting: ours, the naive composition and, if asked for, ``speed=fast``.

    They take turns, ``rounds`` times. Medians over all steps.
    """
    seed = place.seed
    parts = make_parts(name, place.accelerator, seed, place.settings)
    quick = make_parts(name, place.accelerator, seed, (*place.settings, FAST)) if fast else None
    for phase in PHASES:
        ways: dict[str, Ours | Naively] = {"exact": Ours(parts, phase, seed)}
        if not parts.hyper.lambda_target:
            ways["naive"] = Naively(parts, phase, seed)
        if quick is not None:
            ways["fast"] = Ours(quick, phase, seed)
        for _ in range(rounds):
            for way in ways.values():
                way.run(place.steps)
        yield from with_ratios([row_of(name, phase, kind, way) for kind, way in ways.items()])


def row_of(name: str, phase: str, kind: str, way: Ours | Naively) -> dict[str, Any]:
    times = way.times
    return {
        "kind": "step",
        "setting": name,
        "phase": phase,
        "way": kind,
        "seconds": median(times.work),
        "fastest": min(times.work),
        "slowest": max(times.work),
        "on_the_clock": median(times.clock),
        "steps": len(times.work),
        "first_loss": way.losses[0],
        "flow": way.parts.family.flow.name,
        "flow_size": way.parts.family.flow_size,
        "precision": way.parts.trainer.precision,
        "perceptual": way.parts.family.perceptual.name,
    }


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a phase, each with its share of the naive composition's seconds."""
    naive = [row["seconds"] for row in rows if row["way"] == "naive"]
    return [row | {"ratio": row["seconds"] / naive[0]} if naive else row for row in rows]


def peak_of(name: str, phase: str, kind: str, place: Place) -> float:
    """Peak memory in MB of this process, or of its GPU, that takes some steps of one phase in one way."""
    prepare_process(place.threads, place.seed)
    settings = (*place.settings, FAST) if kind == "fast" else place.settings
    parts = make_parts(name, place.accelerator, place.seed, settings)
    way = Naively(parts, phase, place.seed) if kind == "naive" else Ours(parts, phase, place.seed)
    if parts.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    way.run(place.steps)
    return torch.cuda.max_memory_allocated() / 2**20 if parts.device.type == "cuda" else peak_memory_mb()


def with_memory(row: dict[str, Any], place: Place) -> dict[str, Any]:
    """A row with the peak memory of a process of its own."""
    return row | {"peak_memory_mb": round(alone(peak_of, row["setting"], row["phase"], row["way"], place))}


def alone(work: Any, *arguments: Any) -> Any:
    """What ``work`` returns in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()
