"""The list of stages, in order.

clip -> align -> invert -> edit -> phase 1 -> phase 2 -> phase 3, full frames -> figures, videos, manifest
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tempcons import side_process
from tempcons.family import Family, load_family
from tempcons.media.frames import FrameStore
from tempcons.metrics.evaluate import VideoMetrics
from tempcons.opening import Opening, baseline_weights, open_run
from tempcons.runtime import pick_device, prepare_process
from tempcons.schema import FITTED_PHASES, FRAME_PHASES, GENERATOR_PHASES, LATENT_PHASES, Config
from tempcons.stages import (
    align,
    baselines,
    clip,
    edit,
    evaluate,
    full_frame,
    full_frame_picture,
    invert,
    parsing,
    phase1,
    phase2,
    phase3,
    render,
    report,
    stitch,
    target,
)
from tempcons.stages.baselines import Baseline, Bench, FolderBaseline, RecipeBaseline
from tempcons.stages.full_frame import FullFrames
from tempcons.stages.page import PageContent, write_page
from tempcons.stages.page_alignment import AlignmentFacts
from tempcons.stages.page_masks import Masks
from tempcons.stages.target_panels import target_masks
from tempcons.store.artefact import Store, hash_file, peak_memory_mb, write_json
from tempcons.store.lookup import Lookup, NotMadeError
from tempcons.training.anchors import with_windows
from tempcons.training.context import PhaseContext
from tempcons.training.hyper import Hyper
from tempcons.training.logging import TARGET, RunLog, run_log
from tempcons.training.mask_panels import FILE as MASK_FILE
from tempcons.training.mask_panels import load_masks
from tempcons.types import Aligned, Clip, Edited, Latents, Refined, Tuned
from tempcons.weights import registry

log = logging.getLogger(__name__)

RESULTS, REPORT, BESIDE_LOG = "metrics.json", "report.html", "beside.log"


@dataclass(frozen=True)
class Prepared:
    """Everything up to the direct edit."""

    clip: Clip
    aligned: Aligned
    latents: Latents
    edited: Edited


@dataclass(frozen=True)
class Optimised:
    """What the phases asked for gave."""

    refined: Refined | None
    tuned: Tuned | None

    def frames(self) -> dict[str, FrameStore]:
        """Frames by phase."""
        found = {"phase1": self.refined, "phase2": self.tuned}
        return {name: result.frames for name, result in found.items() if result is not None}

    def latest(self, edited: Edited) -> Edited:
        """What the last phase made of the direct edit: codes, generator and frames."""
        last = self.tuned or self.refined or edited
        return replace(
            edited,
            codes=edited.codes if self.refined is None else self.refined.codes,
            generator=edited.generator if self.tuned is None else self.tuned.generator,
            frames=last.frames,
            key=last.key,
        )


def run(config: Config, folder: Path, opening: Opening | None = None) -> dict[str, float]:
    """Run all stages that ``config`` asks for; results go to ``folder``.

    Args:
        config: what is asked for.
        folder: of the run.
        opening: how it began, where that was done before this module was loaded.

    Returns:
        The figures of the last phase, as plain numbers.

    Raises:
        TempconsError: something the user can mend.
        KeyboardInterrupt: stopped; finished stages and the last checkpoint stay in the cache.
    """
    opening = opening or open_run(config, folder)
    store = opening.store
    family = load_family(config.family, pick_device(config.trainer.accelerator), config.inversion.encoder)
    with run_log(config.logger, folder, run_name(config, folder), config.composed) as logs:
        prepared = prepare(config, opening.clip, family, store)
        if config.phase in FITTED_PHASES:
            # With all threads, before half of them are given away; the phases find it in the cache.
            target.run(prepared.edited, config.speed.family(family), config.hyper, store)
        with made_beside(config, folder, prepared, family):
            optimised, compared = results(config, prepared, family, store, logs)
        measured = figures_of(prepared, optimised, compared, family, store)
        full = put_back(config, prepared, optimised, family, store, logs)
        shown = {name: compared[name] for name in config.baselines}
        files = write_results(config, folder, prepared, shown, optimised, measured, full, family, store)
        last = list(optimised.frames())[-1:] or ["direct"]
        summary = measured[last[0]].summary
        figures = {k: v for k, v in summary.items() if isinstance(v, float)} | (full.plain if full else {})
        playable = {name: path for name, path in files.items() if path.suffix == ".mp4"}
        logs.log_results(figures, playable, report.pictures(folder))
    point_latest(folder, Path(config.output.root))
    report.print_table(
        {name: result.summary for name, result in measured.items()},
        f"{config.edit.name}, recipe {config.recipe}, {len(prepared.edited.frame_ids)} frames, "
        f"flow {family.flow.name}",
    )
    if full is not None:
        full_frame.print_table(full.figures)
    video = files.get(render.FULL, files["side_by_side"])
    print(f"video: {video}\nreport: {folder / REPORT}\neverything: {folder}")
    return figures


def run_name(config: Config, folder: Path) -> str:
    """Name of the run in dashboards."""
    return f"{config.edit.name}-{config.recipe}-{folder.name}"


def prepare(config: Config, taken: Clip, family: Family, store: Store) -> Prepared:
    """Alignment, inversion and direct edit of a clip."""
    # A wrong anchor should be known before the costly stages.
    edit.anchor_frame(taken.frame_ids, config.anchor)
    if config.phase in FRAME_PHASES:
        full_frame.check_room(taken, Path(config.output.cache))
    aligned = align.run(taken, config.align, family.crop, family.size, store, family.device)
    if config.phase in FRAME_PHASES and config.stitch.region == "face":
        aligned = parsing.run(aligned, family.device, store)
    # Nor may it be a frame that is left out for want of a face.
    edit.anchor_frame(aligned.frame_ids, config.anchor)
    latents = invert.run(aligned, family, config.inversion, config.trainer, store, config.seed)
    edited = edit.run(
        latents, aligned, family, config.edit, config.anchor, store, config.trainer, config.seed
    )
    edited = with_windows(edited, aligned.scenes, config.anchors, config.anchor)
    return Prepared(taken, aligned, latents, edited)


def results(
    config: Config, prepared: Prepared, family: Family, store: Store, logs: RunLog
) -> tuple[Optimised, dict[str, FrameStore]]:
    """What the phases give, and the frames of all that they are measured beside."""
    bench = set_up(config, prepared, family, store)
    # Made elsewhere: whether it fits the clip should be known before the costly stages.
    ready, others = split(beside(config))
    compared = baselines.run(ready, prepared.edited, family, bench)
    optimised = optimise(config, prepared.edited, family, store, logs)
    return optimised, compared | baselines.run(others, prepared.edited, family, bench)


def made_beside(
    config: Config, folder: Path, prepared: Prepared, family: Family
) -> AbstractContextManager[None]:
    """On a CPU: a second process makes what the result is measured beside, at the same time."""
    trainer = config.trainer
    # The second process may start none itself.
    alone = trainer.devices == 1 and not trainer.workers
    if not (trainer.side_process and alone and family.device.type == "cpu"):
        return nullcontext()
    if others_are_there(config, prepared, family):
        return nullcontext()
    return side_process.beside(make_others, folder / BESIDE_LOG, config)


def others_are_there(config: Config, prepared: Prepared, family: Family) -> bool:
    """Whether the cache holds all that would have to be made to be measured beside the result."""
    lookup, (_, others) = Lookup(Path(config.output.cache)), split(beside(config))
    try:
        baselines.run(others, prepared.edited, family, set_up(config, prepared, family, lookup))
    except NotMadeError:
        return False
    return True


def make_others(config: Config) -> None:
    """Put what the result is measured beside into the cache, and the figures of all but the result."""
    store = Store(Path(config.output.cache))
    prepare_process(None, config.seed)
    family = load_family(config.family, torch.device("cpu"), config.inversion.encoder)
    prepared = prepare(config, clip.run(config.clip, store), family, store)
    _, others = split(beside(config))
    compared = baselines.run(others, prepared.edited, family, set_up(config, prepared, family, store))
    figures_of(prepared, Optimised(None, None), compared, family, store)


def figures_of(
    prepared: Prepared,
    optimised: Optimised,
    compared: dict[str, FrameStore],
    family: Family,
    store: Store,
) -> dict[str, VideoMetrics]:
    """Figures of the direct edit, the phases, all that they are measured beside, and the controls."""
    variants = {"direct": prepared.edited.frames, **optimised.frames(), **compared}
    variants |= evaluate.controls(prepared.edited, family, store)
    return evaluate.run(prepared.edited, variants, family, store)


def own_context(config: Config, logs: RunLog) -> PhaseContext:
    """What this run's own phases are told, beside those of the comparison."""
    return PhaseContext(
        config.recipe, config.hyper, config.trainer, config.seed, logs.loggers, config.metrics.every_epochs
    )


def optimise(config: Config, edited: Edited, family: Family, store: Store, logs: RunLog) -> Optimised:
    """The phases that ``phase`` names."""
    context = replace(own_context(config, logs), trainer=config.speed.trainer(config.trainer))
    return run_phases(config.phase, edited, config.speed.family(family), context, store)


def run_phases(phase: str, edited: Edited, family: Family, context: PhaseContext, store: Store) -> Optimised:
    """Phase 1, phase 2, both or neither."""
    if phase not in FITTED_PHASES:
        return Optimised(None, None)
    refined = tuned = None
    goal = target.run(edited, family, context.hyper, store)
    if phase in LATENT_PHASES:
        refined = phase1.run(edited, goal, family, context, store)
    if phase in GENERATOR_PHASES:
        tuned = phase2.run(edited, refined, goal, family, context, store)
    return Optimised(refined, tuned)


def beside(config: Config) -> dict[str, Baseline]:
    """What the result is measured beside: the other recipe of the table and the baselines asked for."""
    other: dict[str, Baseline] = {}
    if config.comparison is not None and config.comparison_recipe is not None:
        name = config.comparison_recipe
        other = {f"recipe={name}": RecipeBaseline(name, config.comparison)}
    return other | config.baselines


def split(found: dict[str, Baseline]) -> tuple[dict[str, Baseline], dict[str, Baseline]]:
    """Baselines that were made elsewhere, and those still to be made."""
    ready: dict[str, Baseline] = {
        name: baseline for name, baseline in found.items() if isinstance(baseline, FolderBaseline)
    }
    return ready, {name: baseline for name, baseline in found.items() if name not in ready}


def set_up(config: Config, prepared: Prepared, family: Family, store: Store) -> Bench:
    """What baselines find; those with recipes of their own take the run's phases, or both if it has none."""

    def context_of(recipe: str, hyper: Hyper) -> PhaseContext:
        return PhaseContext(recipe, hyper, config.trainer, config.seed, metrics_every=0)

    def phases(recipe: str, hyper: Hyper) -> FrameStore:
        phase = config.phase if config.phase in FITTED_PHASES else "both"
        done = run_phases(phase, prepared.edited, family, context_of(recipe, hyper), store)
        return list(done.frames().values())[-1]

    own = context_of(config.recipe, config.hyper)
    return Bench(config.edit.name, prepared.latents, own, phases, store)


def put_back(
    config: Config, prepared: Prepared, optimised: Optimised, family: Family, store: Store, logs: RunLog
) -> FullFrames | None:
    """The face back in the frames of the source, for the phases that end there."""
    if config.phase not in FRAME_PHASES:
        return None
    source, aligned, direct = prepared.clip, prepared.aligned, prepared.edited
    latest = optimised.latest(direct)
    if config.stitch.tuning is None:
        result = stitch.run(source, aligned, latest, config.stitch, store)
    else:
        faces = phase3.run(source, aligned, latest, config.stitch, own_context(config, logs), store)
        result = stitch.run(source, aligned, faces, config.stitch, store, before=latest)
    longest = config.metrics.full_size
    return full_frame.measure(source, aligned, direct, result, config.stitch, family, longest, store)


def write_full(config: Config, folder: Path, prepared: Prepared, full: FullFrames) -> dict[str, Path]:
    """The video that the user came for; a video and a still that compare it with source and plain pasting."""
    made_by = f"{config.edit.name}, {config.family.name}, recipe {config.recipe}, phase {config.phase}"
    compared, still = folder / "full_side_by_side.mp4", folder / full_frame_picture.FILE
    shown = prepared.clip, prepared.aligned, prepared.edited, full.stitched, config.stitch
    return {
        render.FULL: render.write_full(folder, full.stitched, prepared.clip, config.render, made_by),
        compared.stem: full_frame.write_comparison(compared, *shown),
        still.stem: full_frame_picture.draw(still, *shown),
    }


def panels(config: Config, edited: Edited, optimised: Optimised, family: Family) -> dict[str, Masks]:
    """Masks and flow of some frames: of the target, and of the phases whose losses needed flow."""
    solved = config.hyper.solves_target and optimised.frames()
    found = {TARGET: target_masks(edited, family)} if solved else {}
    return {name: masks for name, masks in {**found, **recorded_masks(config, optimised)}.items() if masks}


def recorded_masks(config: Config, optimised: Optimised) -> dict[str, Masks]:
    """Masks and flow of some frames, by phase; {} of phases whose losses needed no flow."""
    results = {"phase1": optimised.refined, "phase2": optimised.tuned}
    cache = Path(config.output.cache)
    return {
        name: load_masks(cache / name / result.key / MASK_FILE)
        for name, result in results.items()
        if result is not None
    }


def write_results(
    config: Config,
    folder: Path,
    prepared: Prepared,
    compared: dict[str, FrameStore],
    optimised: Optimised,
    measured: dict[str, VideoMetrics],
    full: FullFrames | None,
    family: Family,
    store: Store,
) -> dict[str, Path]:
    """Videos, slices, figures, weights and manifest of a run."""
    edited = prepared.edited
    shown = {"input": edited.aligned, "direct": edited.frames, **compared, **optimised.frames()}
    files = report.write_videos(folder, shown, prepared.clip.fps)
    if full is not None:
        files |= write_full(config, folder, prepared, full)
    masks = panels(config, edited, optimised, family)
    report.draw_pictures(folder, shown, masks, config.metrics.slice_row)
    report.write_csv(folder / "per_frame.csv", measured)
    report.copy_artefacts(folder, own_weights(config, optimised, store))
    document = report.metrics_document(measured)
    controls = {name: document.pop(name) for name in evaluate.CONTROLS}
    whole = {full_frame.STAGE: full.figures} if full else {}
    write_json(folder / RESULTS, {**document, "controls": controls, **whole})
    facts = AlignmentFacts(prepared.clip.frame_ids, prepared.aligned, full.figures if full else {})
    write_manifest(config, folder, prepared, facts, files, family, store)
    write_report(config, folder, prepared.clip, shown, files, measured, masks, facts)
    return files


def edit_folder(store: Store) -> Path:
    """The direct edit in the cache."""
    return next(Path(r["path"]) for r in store.records if r["stage"] == "edit")


def own_weights(config: Config, optimised: Optimised, store: Store) -> dict[str, Path]:
    """The codes of the run and, where it was tuned, its generator, in the cache."""
    cache, refined, tuned = Path(config.output.cache), optimised.refined, optimised.tuned
    codes = edit_folder(store) if refined is None else cache / "phase1" / refined.key
    found = {"codes.safetensors": codes / "codes.safetensors"}
    if tuned is not None:
        found["generator.safetensors"] = cache / "phase2" / tuned.key / "generator.safetensors"
    return found


def write_manifest(
    config: Config,
    folder: Path,
    prepared: Prepared,
    facts: AlignmentFacts,
    files: dict[str, Path],
    family: Family,
    store: Store,
) -> None:
    """What went in, how it was made, and what came out."""
    taken, source = prepared.clip, prepared.clip.source
    report.write_manifest(
        folder / "manifest.json",
        recipe=config.recipe,
        input={"path": str(source), "sha256": hash_file(source) if source.is_file() else taken.key},
        clip={
            "reader": taken.reader,
            "fps": taken.fps,
            "frame_ids": taken.frame_ids.tolist(),
            "audio": taken.has_audio,
        },
        alignment={**facts.summary, "face_region": stitch.region_label(prepared.aligned, config.stitch)},
        weights=family.records
        + parsing.records(prepared.aligned)
        + store.info(edit_folder(store))["weights"]
        + [registry.record(name) for name in baseline_weights(config)],
        networks={
            "flow": family.flow.name,
            "second_flow": family.second_flow.name,
            "perceptual": family.perceptual.name,
            "device": str(family.device),
        },
        settings=config.composed,
        hyper=asdict(config.hyper),
        seed=config.seed,
        stages=store.records,
        peak_memory_mb=round(peak_memory_mb()),
        outputs={name: path.name for name, path in files.items()},
    )


def write_report(
    config: Config,
    folder: Path,
    taken: Clip,
    shown: dict[str, FrameStore],
    files: dict[str, Path],
    measured: dict[str, VideoMetrics],
    masks: dict[str, Masks],
    facts: AlignmentFacts,
) -> Path:
    """The run's page, from the files written before it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    settings = manifest.pop("settings")
    metrics = json.loads((folder / RESULTS).read_text())
    # On the page they have a table of their own.
    metrics.pop(full_frame.STAGE, None)
    page = PageContent(
        title=f"{config.edit.name}, recipe {config.recipe}",
        videos={name: files[name] for name in shown},
        metrics=metrics,
        per_frame=[{"variant": name, **row} for name, result in measured.items() for row in result.per_frame],
        frames=shown,
        fps=taken.fps,
        settings=settings,
        provenance=manifest,
        frame_ids=facts.aligned.frame_ids.tolist(),
        slice_row=config.metrics.slice_row,
        masks=masks,
        alignment=facts,
    )
    return write_page(folder / REPORT, page)


def point_latest(folder: Path, root: Path) -> None:
    """``outputs/latest`` names the newest finished run."""
    link, temporary = root / "latest", root / f".latest.{os.getpid()}.tmp"
    if link.exists() and not link.is_symlink():
        return
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.resolve(), target_is_directory=True)
    temporary.replace(link)
