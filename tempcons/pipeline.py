"""The list of stages, in order.

clip -> align -> invert -> edit -> phase 1 -> phase 2 -> figures, videos, manifest
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.family import Family, load_family
from tempcons.media.frames import FrameStore
from tempcons.metrics.evaluate import VideoMetrics
from tempcons.runtime import pick_device, prepare_process
from tempcons.schema import Config, writable
from tempcons.stages import align, clip, edit, evaluate, invert, phase1, phase2, report
from tempcons.stages.page import PageContent, write_page
from tempcons.store.artefact import Store, hash_file, peak_memory_mb, write_json
from tempcons.training.context import PhaseContext
from tempcons.training.hyper import Hyper
from tempcons.training.logging import RunLog, run_log
from tempcons.types import Aligned, Clip, Edited, Latents, Refined, Tuned
from tempcons.weights import registry

log = logging.getLogger(__name__)

SMALLEST_FREE_MB = 300
RESULTS = "metrics.json"


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


def run(config: Config, folder: Path) -> dict[str, float]:
    """Run all stages that ``config`` asks for; results go to ``folder``.

    Returns:
        The figures of the last phase, as plain numbers.

    Raises:
        TempconsError: something the user can mend.
        KeyboardInterrupt: stopped; finished stages and the last checkpoint stay in the cache.
    """
    prepare_process(config.trainer.num_threads, config.seed)
    for place in (folder, Path(config.output.cache)):
        writable(place)
        check_space(place)
    store = Store(Path(config.output.cache))
    registry.require(official_weights(config))
    family = load_family(config.family, pick_device(config.trainer.accelerator), config.inversion.encoder)
    with run_log(config.logger, folder, run_name(config, folder), config.composed) as logs:
        prepared = prepare(config, family, store)
        optimised = optimise(config, prepared.edited, family, store, logs)
        variants = {"direct": prepared.edited.frames, **optimised.frames()}
        variants |= compare(config, prepared.edited, family, store)
        variants |= evaluate.controls(prepared.edited, family, store)
        measured = evaluate.run(prepared.edited, variants, family)
        files = write_results(config, folder, prepared, optimised, measured, family, store)
        last = list(optimised.frames())[-1:] or ["direct"]
        summary = measured[last[0]].summary
        logs.log_results({k: v for k, v in summary.items() if isinstance(v, float)}, files)
    point_latest(folder, Path(config.output.root))
    report.print_table(
        {name: result.summary for name, result in measured.items()},
        f"{config.edit.name}, recipe {config.recipe}, {len(prepared.edited.frame_ids)} frames, "
        f"flow {family.flow.name}",
    )
    print(f"video: {files['side_by_side']}\neverything: {folder}")
    return {k: v for k, v in summary.items() if isinstance(v, float)}


def official_weights(config: Config) -> list[str]:
    """Names of all downloads that a run needs; none for ``family=embedded``."""
    return [
        *config.family.official_weights(config.inversion.encoder),
        *config.edit.official_weights(config.family.name),
    ]


def run_name(config: Config, folder: Path) -> str:
    """Name of the run in dashboards."""
    return f"{config.edit.name}-{config.recipe}-{folder.name}"


def check_space(folder: Path) -> None:
    """Raise InputError when the disk is nearly full: better now than in the middle."""
    free = shutil.disk_usage(folder).free / 1e6
    if free < SMALLEST_FREE_MB:
        raise InputError(
            "output",
            f"{free:.0f} MB free at {folder}, {SMALLEST_FREE_MB} MB needed",
            "free some space, or set output.root and output.cache",
        )


def prepare(config: Config, family: Family, store: Store) -> Prepared:
    """Clip, alignment, inversion and direct edit."""
    taken = clip.run(config.clip, store)
    # A wrong anchor should be known before the costly stages.
    edit.anchor_frame(taken.frame_ids, config.anchor)
    aligned = align.run(taken, config.align, family.crop, family.size, store)
    latents = invert.run(aligned, family, config.inversion, config.trainer, store, config.seed)
    edited = edit.run(latents, aligned, family, config.edit, config.anchor, store)
    return Prepared(taken, aligned, latents, edited)


def optimise(config: Config, edited: Edited, family: Family, store: Store, logs: RunLog) -> Optimised:
    """The phases that ``phase`` names."""
    context = PhaseContext(
        config.recipe, config.hyper, config.trainer, config.seed, logs.loggers, config.metrics.every_epochs
    )
    refined = tuned = None
    if config.phase in ("latent", "both"):
        refined = phase1.run(edited, family, context, store)
    if config.phase in ("generator", "both"):
        tuned = phase2.run(edited, refined, family, context, store)
    return Optimised(refined, tuned)


def compare(config: Config, edited: Edited, family: Family, store: Store) -> dict[str, FrameStore]:
    """The same phases under the other recipe, for the table."""
    if config.comparison is None or config.comparison_recipe is None:
        return {}
    hyper: Hyper = config.comparison
    context = PhaseContext(config.comparison_recipe, hyper, config.trainer, config.seed, metrics_every=0)
    refined = tuned = None
    if config.phase in ("latent", "both"):
        refined = phase1.run(edited, family, context, store)
    if config.phase in ("generator", "both"):
        tuned = phase2.run(edited, refined, family, context, store)
    frames = list(Optimised(refined, tuned).frames().values())
    return {f"recipe={config.comparison_recipe}": frames[-1]}


def write_results(
    config: Config,
    folder: Path,
    prepared: Prepared,
    optimised: Optimised,
    measured: dict[str, VideoMetrics],
    family: Family,
    store: Store,
) -> dict[str, Path]:
    """Videos, slices, figures, weights and manifest of a run."""
    edited = prepared.edited
    shown = {"input": edited.aligned, "direct": edited.frames, **optimised.frames()}
    files = report.write_videos(folder, shown, prepared.clip.fps)
    report.draw_slices(folder / "slices.png", shown, config.metrics.slice_row)
    report.write_csv(folder / "per_frame.csv", measured)
    artefacts = {
        r["stage"]: Path(r["path"]) for r in store.records if r["stage"] in ("edit", "phase1", "phase2")
    }
    own = {"codes.safetensors": artefacts["edit"] / "codes.safetensors"}
    if optimised.refined is not None:
        own["codes.safetensors"] = (
            Path(config.output.cache) / "phase1" / optimised.refined.key / "codes.safetensors"
        )
    if optimised.tuned is not None:
        tuned = Path(config.output.cache) / "phase2" / optimised.tuned.key
        own["generator.safetensors"] = tuned / "generator.safetensors"
    report.copy_artefacts(folder, own)
    document = report.metrics_document(measured)
    controls = {name: document.pop(name) for name in evaluate.CONTROLS}
    write_json(folder / RESULTS, {**document, "controls": controls})
    source = prepared.clip.source
    report.write_manifest(
        folder / "manifest.json",
        recipe=config.recipe,
        input={"path": str(source), "sha256": hash_file(source) if source.is_file() else prepared.clip.key},
        clip={
            "reader": prepared.clip.reader,
            "fps": prepared.clip.fps,
            "frame_ids": prepared.clip.frame_ids.tolist(),
            "audio": prepared.clip.has_audio,
        },
        weights=family.records + store.info(artefacts["edit"])["weights"],
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
    write_report(config, folder, prepared.clip, shown, files, measured)
    return files


def write_report(
    config: Config,
    folder: Path,
    taken: Clip,
    shown: dict[str, FrameStore],
    files: dict[str, Path],
    measured: dict[str, VideoMetrics],
) -> Path:
    """The run's page, from the files written before it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    settings = manifest.pop("settings")
    page = PageContent(
        title=f"{config.edit.name}, recipe {config.recipe}",
        videos={name: files[name] for name in shown},
        metrics=json.loads((folder / RESULTS).read_text()),
        per_frame=[{"variant": name, **row} for name, result in measured.items() for row in result.per_frame],
        frames=shown,
        fps=taken.fps,
        settings=settings,
        provenance=manifest,
        frame_ids=taken.frame_ids.tolist(),
        slice_row=config.metrics.slice_row,
    )
    return write_page(folder / "report.html", page)


def point_latest(folder: Path, root: Path) -> None:
    """``outputs/latest`` names the newest finished run."""
    link, temporary = root / "latest", root / f".latest.{os.getpid()}.tmp"
    if link.exists() and not link.is_symlink():
        return
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.resolve(), target_is_directory=True)
    temporary.replace(link)
