"""From the rates of parts to seconds, memory and disk of stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tempcons.edits.config import AdaptConfig
from tempcons.edits.refine import BATCH as FITTED_FRAMES
from tempcons.edits.refine import MOTION_STEPS
from tempcons.forecast.calibration import Rates
from tempcons.forecast.plan import FIGURES, RESULTS, Step
from tempcons.metrics.ewarp import E_LONG_GAPS, gap_pairs, long_range_pairs
from tempcons.schema import Config
from tempcons.training.hyper import Hyper, PhaseHyper
from tempcons.training.settings import DvpConfig, ExplicitConfig
from tempcons.training.target_video import STEPS as TARGET_STEPS

FRAME_BYTES = 3
MB = 1e6
# Adam keeps two numbers a weight beside its gradient, a phase the generator it started from.
COPIES_IN_TRAINING = 5
# Pictures of the clip that solving for the target holds at once (training/target_video.py).
TARGET_PICTURES = 20
FLOAT_PICTURE_BYTES = 4 * FRAME_BYTES
# H.264 at the quality that is written, as a share of raw frames; figures, charts and pictures beside it.
VIDEO_SHARE, RESULTS_MB = 0.1, 3.0
EVALUATED_ALONE = 2


@dataclass(frozen=True)
class Job:
    """What stages are made of.

    Attributes:
        config: of the run.
        frames: T.
        frame_size: (H, W) of the source.
        size: side of the face's crop.
        rates: of this machine.
        resident_mb: memory that the process holds with its networks loaded.
        variants: videos that are measured.
    """

    config: Config
    frames: int
    frame_size: tuple[int, int]
    size: int
    rates: Rates
    resident_mb: float
    variants: int

    @property
    def crops_mb(self) -> float:
        """All crops on disk."""
        return self.frames * self.size**2 * FRAME_BYTES / MB

    @property
    def sources_mb(self) -> float:
        """All source frames on disk."""
        return self.frames * self.frame_size[0] * self.frame_size[1] * FRAME_BYTES / MB

    def training_mb(self, pictures: int, trained: bool) -> float:
        """Memory of steps with so many pictures; ``trained``: of the generator's weights."""
        copies = COPIES_IN_TRAINING * self.rates.weights_mb if trained else self.rates.weights_mb
        return self.resident_mb + copies + pictures * self.rates.saved_mb


@dataclass(frozen=True)
class Cost:
    """Seconds, peak memory and disk of a stage."""

    seconds: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0


def pairs(job: Job, kind: str) -> int:
    """Pairs of an epoch, of one window."""
    return (job.frames - 1) * (2 if kind == "both" else 1)


def step_seconds(job: Job, hyper: Hyper, generator: float) -> float:
    """What both phases do for one pair; ``generator``: forward and backward for one picture."""
    rates = job.rates
    pictures = 2 * (generator + rates.features_back)
    if not (hyper.lambda_photo or hyper.lambda_eps):
        return pictures
    # Warped pictures have features too.
    return pictures + 2 * (rates.features_back + rates.warp) + rates.flow_back


def epochs_seconds(job: Job, phase: PhaseHyper, kind: str, pair_s: float) -> float:
    return phase.epochs * pairs(job, kind) * pair_s


def clip_cost(job: Job, step: Step) -> Cost:
    # Decoding is small beside everything else: a frame written and read once.
    return Cost(job.frames * 5e-9 * job.frame_size[0] * job.frame_size[1] * FRAME_BYTES, 0, job.sources_mb)


def align_cost(job: Job, step: Step) -> Cost:
    own = job.config.align
    detect = job.rates.detect if own.landmarks_path is None else 0.0
    return Cost(job.frames * (detect + job.rates.warp), job.resident_mb, job.crops_mb)


def invert_cost(job: Job, step: Step) -> Cost:
    own, rates = job.config.inversion, job.rates
    disk = job.crops_mb + rates.weights_mb
    if own.source == "optimization":
        work = job.frames * own.projection.steps * (rates.codes + rates.features_back)
    else:
        work = job.frames * rates.encode
    work += job.frames * rates.render
    if own.name != "pti":
        return Cost(work, job.training_mb(8, False), disk)
    tuning = own.tuning(job.frames)
    step_s = tuning.batch * (rates.weights + rates.features_back)
    if tuning.lambda_r:
        step_s += (
            tuning.batch * (rates.render + rates.weights + rates.features_back) / tuning.regularise_every
        )
    return Cost(work + tuning.steps * step_s, job.training_mb(tuning.batch, True), disk)


def adapt_cost(job: Job, step: Step) -> Cost:
    told = [part.training for part in job.config.edit.parts if part.training is not None]
    training = told[0] if told else AdaptConfig()
    # CLIP's share is not calibrated: about that of the perceptual network.
    step_s = training.batch * (job.rates.render + job.rates.weights + 2 * job.rates.features_back)
    return Cost(training.steps * step_s, job.training_mb(training.batch, True), job.rates.weights_mb)


def edit_cost(job: Job, step: Step) -> Cost:
    rates = job.rates
    parts = job.config.edit.parts
    # Fitting draws every frame that it looks at up to so many times, and those of a step once more.
    work = job.frames * rates.render
    for part in parts:
        moved, learned = part.refine * FITTED_FRAMES, part.refine_generator * FITTED_FRAMES
        work += (MOTION_STEPS + 3) * min(job.frames, moved + learned) * rates.render
        work += moved * rates.codes + learned * rates.weights
    learns = any(part.refine_generator for part in parts)
    memory = job.training_mb(FITTED_FRAMES, True) if learns else job.training_mb(8, False)
    return Cost(work, memory, job.crops_mb + rates.weights_mb)


def target_cost(job: Job, step: Step) -> Cost:
    both = pairs(job, "both")
    seconds = both * (job.rates.flow + 2 * TARGET_STEPS * job.rates.warp)
    at_once = min(job.frames, job.config.anchors.window or job.frames)
    pictures_mb = TARGET_PICTURES * at_once * job.size**2 * FLOAT_PICTURE_BYTES / MB
    return Cost(seconds, job.resident_mb + pictures_mb, job.crops_mb)


def phase1_cost(job: Job, step: Step) -> Cost:
    assert step.hyper is not None
    pair_s = step_seconds(job, step.hyper, job.rates.codes)
    seconds = epochs_seconds(job, step.hyper.phase1, "anchor", pair_s) + job.frames * job.rates.render
    at_once = 2 * job.config.trainer.pairs_per_step
    return Cost(seconds, job.training_mb(at_once, False), job.crops_mb)


def phase2_cost(job: Job, step: Step) -> Cost:
    hyper, rates = step.hyper, job.rates
    assert hyper is not None
    pair_s = step_seconds(job, hyper, rates.weights)
    if hyper.lambda_r:
        regular = rates.render + rates.features + rates.weights + rates.features_back
        pair_s += regular / hyper.regularise_every
    seconds = epochs_seconds(job, hyper.phase2, hyper.pairs, pair_s) + job.frames * rates.render
    at_once = 3 * job.config.trainer.pairs_per_step
    return Cost(seconds, job.training_mb(at_once, True), job.crops_mb + rates.weights_mb)


def phase3_cost(job: Job, step: Step) -> Cost:
    tuning = job.config.stitch.tuning
    assert tuning is not None
    groups = math.ceil(job.frames / tuning.batch)
    steps = tuning.steps + (groups - 1) * tuning.steps_after
    return Cost(steps * tuning.batch * job.rates.weights, job.training_mb(tuning.batch, True), job.crops_mb)


def stitch_cost(job: Job, step: Step) -> Cost:
    # Three ways of pasting are measured, and every pixel of the frame is touched a few times in each.
    area = job.frame_size[0] * job.frame_size[1] / job.size**2
    return Cost(3 * job.frames * job.rates.warp * (1 + area), job.resident_mb, job.sources_mb)


def controls_cost(job: Job, step: Step) -> Cost:
    seconds = job.frames * (job.rates.render + 2 * job.rates.flow)
    return Cost(seconds, job.training_mb(8, False), 2 * job.crops_mb)


def wplus_cost(job: Job, step: Step) -> Cost:
    settings, hyper = step.settings, job.config.hyper
    assert isinstance(settings, ExplicitConfig)
    if settings.epochs is not None:
        hyper = replace(hyper, phase1=replace(hyper.phase1, epochs=settings.epochs))
    return phase1_cost(job, replace(step, hyper=hyper))


def dvp_cost(job: Job, step: Step) -> Cost:
    settings = step.settings
    assert isinstance(settings, DvpConfig)
    # Its network is not calibrated: about twice the perceptual network's work on the same picture.
    seconds = settings.epochs * job.frames * 3 * job.rates.features_back
    return Cost(seconds, job.training_mb(2, False), job.crops_mb)


def rendered_cost(job: Job, step: Step) -> Cost:
    return Cost(job.frames * job.rates.render, job.training_mb(8, False), job.crops_mb)


def copied_cost(job: Job, step: Step) -> Cost:
    return Cost(0.0, job.resident_mb, job.crops_mb)


def figures_cost(job: Job, step: Step) -> Cost:
    rates = job.rates
    far = len(long_range_pairs(job.frames, 0)) + sum(len(gap_pairs(job.frames, gap)) for gap in E_LONG_GAPS)
    pairs = (job.frames - 1 + far) * job.variants + (job.frames - 1) * EVALUATED_ALONE
    seconds = pairs * (rates.flow + rates.second_flow + 2 * rates.warp)
    return Cost(seconds + 2 * job.frames * job.variants * rates.features, job.resident_mb, 0)


def results_cost(job: Job, step: Step) -> Cost:
    written = VIDEO_SHARE * (2 * job.variants * job.crops_mb + 2 * job.sources_mb) + RESULTS_MB
    # The generator and codes are copied into the run's folder.
    return Cost(job.frames * job.variants * job.rates.warp, job.resident_mb, written + job.rates.weights_mb)


COSTS: dict[str, Callable[[Job, Step], Cost]] = {
    "clip": clip_cost,
    "align": align_cost,
    "invert": invert_cost,
    "adapt": adapt_cost,
    "edit": edit_cost,
    "target": target_cost,
    "phase1": phase1_cost,
    "phase2": phase2_cost,
    "phase3": phase3_cost,
    "stitch": stitch_cost,
    "controls": controls_cost,
    "wplus": wplus_cost,
    "dvp": dvp_cost,
    "latent_transformer": rendered_cost,
    "folder": copied_cost,
    FIGURES: figures_cost,
    RESULTS: results_cost,
}


def cost(job: Job, step: Step) -> Cost:
    """Of a stage; nothing for one that is reused."""
    return Cost() if step.reused else COSTS[step.stage](job, step)
