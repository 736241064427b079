"""Which stages a run has, and which of them the cache holds already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tempcons import pipeline
from tempcons.family import Family
from tempcons.schema import FRAME_PHASES, GENERATOR_PHASES, LATENT_PHASES, Config
from tempcons.stages import clip, evaluate
from tempcons.stages.baselines import Baseline, RecipeBaseline
from tempcons.store.artefact import Store
from tempcons.store.lookup import Lookup, NotMadeError
from tempcons.training.hyper import Hyper
from tempcons.training.logging import RunLog
from tempcons.training.settings import LoggerConfig

FIGURES, RESULTS = "figures", "results"


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        stage: its name in the cache; :data:`RESULTS` are made anew in every run.
        label: for the reader.
        reused: the cache holds it.
        hyper: of phases, the recipe's values.
        settings: of another method, its settings.
    """

    stage: str
    label: str
    reused: bool = False
    hyper: Hyper | None = None
    settings: Any = None


def plan(config: Config, family: Family) -> list[Step]:
    """All stages in the order in which they run."""
    store = Lookup(Path(config.output.cache))
    found: list[pipeline.Prepared] = []

    def prepare() -> None:
        found.append(pipeline.prepare(config, clip.run(config.clip, store), family, store))

    steps = looked_up(first_steps(config), prepare, store)
    # Silent: no loggers are made.
    logs = RunLog(LoggerConfig(wandb="disabled"), Path(), "", {})
    branches: list[tuple[list[Step], Callable[[pipeline.Prepared], object]]] = [
        (
            phase_steps(config.phase, config.recipe, config.hyper),
            lambda ready: pipeline.optimise(config, ready.edited, family, store, logs),
        )
    ]
    for name, baseline in pipeline.beside(config).items():
        branches.append((baseline_steps(config, name, baseline), beside(config, baseline, family, store)))
    branches.append(
        (
            [Step("controls", f"controls ({', '.join(evaluate.CONTROLS)})")],
            lambda ready: evaluate.controls(ready.edited, family, store),
        )
    )

    def put_back(ready: pipeline.Prepared) -> object:
        optimised = pipeline.optimise(config, ready.edited, family, store, logs)
        return pipeline.put_back(config, ready, optimised, family, store, logs)

    def measure(ready: pipeline.Prepared) -> None:
        # With one variant to be measured they are not there.
        own = Lookup(store.root)
        optimised, compared = pipeline.results(config, ready, family, own, logs)
        pipeline.figures_of(ready, optimised, compared, family, own)
        store.records.append(own.records[-1])

    branches += [(frame_steps(config), put_back), ([Step(FIGURES, "figures")], measure)]
    for own, look in branches:
        steps += looked_up(own, partial(look, found[0]), store) if found else own
    return [*steps, Step(RESULTS, "videos, report")]


def looked_up(steps: list[Step], look: Callable[[], object], store: Lookup) -> list[Step]:
    """``steps`` with what ``look`` finds in the store marked as reused."""
    before = len(store.records)
    with suppress(NotMadeError):
        look()
    names = [record["stage"] for record in store.records[before:]]
    marked = []
    for step in steps:
        held = step.stage in names
        if held:
            names.remove(step.stage)
        marked.append(replace(step, reused=held))
    return marked


def first_steps(config: Config) -> list[Step]:
    """Everything up to the direct edit."""
    texts = [name for name, s in config.edit.sources_in(config.family.name).items() if s.kind == "text"]
    return [
        Step("clip", "clip"),
        Step("align", "align"),
        Step("invert", f"invert ({config.inversion.name})"),
        *(Step("adapt", f"adapt generator ({name})") for name in texts),
        Step("edit", f"edit ({config.edit.name})"),
    ]


def phase_steps(phase: str, recipe: str, hyper: Hyper) -> list[Step]:
    """Phases 1 and 2, as far as ``phase`` names them, with the target that they learn."""
    chosen = [(n, phases) for n, phases in ((1, LATENT_PHASES), (2, GENERATOR_PHASES)) if phase in phases]
    own = [Step(f"phase{n}", f"phase {n} ({recipe})", hyper=hyper) for n, _ in chosen]
    if own and hyper.solves_target:
        own = [Step("target", f"target ({recipe})", hyper=hyper), *own]
    return own


def baseline_steps(config: Config, name: str, baseline: Baseline) -> list[Step]:
    """Stages of another method of the table."""
    if isinstance(baseline, RecipeBaseline):
        both = LATENT_PHASES + GENERATOR_PHASES
        return phase_steps(config.phase if config.phase in both else "both", baseline.recipe, baseline.hyper)
    return [
        Step(name if name in ("dvp", "wplus", "latent_transformer") else "folder", name, settings=baseline)
    ]


def beside(
    config: Config, baseline: Baseline, family: Family, store: Store
) -> Callable[[pipeline.Prepared], object]:
    """Looks another method up, given the direct edit."""
    return lambda ready: baseline.frames(ready.edited, family, pipeline.set_up(config, ready, family, store))


def frame_steps(config: Config) -> list[Step]:
    """Phase 3 and full frames."""
    if config.phase not in FRAME_PHASES:
        return []
    tuned = [] if config.stitch.tuning is None else [Step("phase3", "phase 3", settings=config.stitch.tuning)]
    return [*tuned, Step("stitch", f"stitch ({config.stitch.mode})")]
