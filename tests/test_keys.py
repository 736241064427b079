"""Every setting that changes a stage's result is in the stage's key; the others say why they aren't."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tiny import hydra_config
from tiny_assets import write_assets
from tiny_family import face_frames
from torchvision.models import alexnet

from tempcons import opening, pipeline
from tempcons.family import FamilyConfig, FlowConfig, depends_on, load_family
from tempcons.schema import Config, parse
from tempcons.store.artefact import Store, make_key
from tempcons.store.lookup import Lookup, NotMadeError
from tempcons.sweep.naming import FILES, job_key
from tempcons.weights import assets, registry

FRAMES = 4
QUICK = [
    "phase=full",
    "clip.start=0",
    f"clip.num_frames={FRAMES}",
    "inversion.pivotal.steps=1",
    *(f"{at}.in.phase{k}.epochs=1" for at in ("recipe", "comparison") for k in (1, 2)),
    "stitch.tuning.steps=1",
    "stitch.tuning.steps_after=1",
    "metrics.every_epochs=0",
    "logger.wandb=disabled",
    "trainer.accelerator=cpu",
]

# Values for settings that can't be moved by rule; {base} is the fixture's folder.
# The default recipe follows a cosine, the one it is compared with does not.
SCHEDULES = {
    f"{group}{phase}.schedule": other
    for group, other in (("", "constant"), ("recipe.in.", "constant"), ("comparison.in.", "cosine"))
    for phase in ("phase1", "phase2")
}
OTHER: dict[str, Any] = {
    **SCHEDULES,
    "clip.path": "{base}/other",
    "clip.fps": 12.5,
    "clip.reader": "pyav",
    "align.detector": "another",
    "align.on_missing": "interpolate",
    "align.landmarks_path": "{base}/other.npy",
    "align.face": "largest",
    "align.face_box": [0, 0, 9, 9],
    "anchor": 0,
    "anchors.window": 3,
    "family.generator": "generator_2",
    "family.encoder": "encoder_2",
    "family.sampler": "sampler_2",
    "family.perceptual": "lpips_alex",
    "family.truncation": 0.5,
    "family.alpha_interp": 2.5,
    "family.flow.kind": "farneback",
    "family.flow.size": 16,
    "family.flow.preset": "fast",
    "family.flow.weights": "raft-small",
    "family.second_flow.kind": "dis",
    "family.second_flow.size": 16,
    "family.second_flow.preset": "fast",
    "family.second_flow.weights": "raft-small",
    "inversion.name": "encoder",
    "inversion.pivot": "refined",
    "inversion.passes": 3,
    "inversion.pivotal.schedule": "constant",
    "inversion.pivotal.stop_psnr_db": 30.0,
    "edit.rows": [0, 1],
    "edit.refine_as": "thing",
    "edit.sources.embedded.weights": "direction_happy",
    "target": "direct",
    "pairs": "anchor",
    "mapper_init": "random",
    "recipe.in.target": "direct",
    "recipe.in.pairs": "anchor",
    "recipe.in.mapper_init": "random",
    "comparison.in.pairs": "both",
    "comparison.in.mapper_init": "random",
    "stitch.mode": "poisson",
    "stitch.region": "crop",
    "metrics.full_size": 32,
    "trainer.precision": "bf16-mixed",
    "speed.perceptual_size": 8,
    "speed.precision": "bf16-mixed",
    "speed.epochs": 3.0,
}
# Settings that no key holds, by their beginning, and why that is right.
NOT_IN_A_KEY = {
    "anchors.overlap": "read where windows are asked for, and then in their places",
    "phase": "says which stages run",
    "compare": "says which stages run",
    "recipe.name": "a label; the values are what counts",
    "comparison.name": "a label",
    "comparison.in.target": "nothing pulls to it",
    "comparison.in.target_anchor": "nothing pulls to it",
    "comparison.in.target_data": "nothing pulls to it",
    "recipe.out": "of the other domain",
    "comparison.out": "of the other domain",
    "edit.name": "a label",
    "edit.description": "a label",
    "edit.domain": "follows from the source's kind",
    "edit.sources.embedded.kind": "a file of another kind is refused",
    "edit.sources.ffhq": "of another family",
    "edit.strengths.ffhq": "of another family",
    "edit.component": "of kinds sefa and ganspace",
    "edit.source": "of edits by text",
    "edit.target": "of edits by text",
    "edit.threshold": "of edits by text",
    "edit.training": "of edits by text",
    "edit.file": "read where a source refers to it, and then through the source",
    "family.name": "another family has other weights",
    "family.flow.asset": "its hash is",
    "family.size": "of another family; the embedded one's is in its weights",
    "family.second_flow.asset": "its hash is",
    "family.refiner": "of inversion=refined, and then its hash is",
    "family.refiner_passes": "of inversion=refined",
    "inversion.correction_smoothing": "of inversion=refined",
    "inversion.projection": "of another inversion",
    "clip.licence": "a note",
    "align.min_face_px": "a warning only",
    "trainer.accelerator": "the same result up to rounding",
    "trainer.num_threads": "the same result up to rounding",
    "trainer.side_process": "which process does the work",
    "trainer.strategy": "how devices talk; their number is in the key",
    "trainer.lr_rule": "with one pair a step all rules are the same; else the rate is in the key",
    "trainer.channels_last": "the same result up to rounding",
    "trainer.checkpointing": "the same result up to rounding",
    "trainer.compile": "the same result up to rounding",
    "trainer.fused_adam": "the same result up to rounding",
    "trainer.workers": "who reads the pairs",
    "trainer.pin_memory": "where the pairs wait",
    "hardware": "read through trainer's settings",
    "speed.name": "a label",
    "speed.flow_updates": "of RAFT, which the embedded family hasn't",
    "speed.warm_start": "of RAFT, which the embedded family hasn't",
    "dry_run": "runs nothing",
    "metrics.every_epochs": "logged only",
    "metrics.slice_row": "drawn anew in each run",
    "render": "the video is written anew in each run",
    "logger": "who looks at results",
    "output": "where results are",
    "sweep": "which jobs there are",
}


@dataclass
class Base:
    """A finished run's cache, the configuration that made it, and families loaded so far."""

    folder: Path
    config: DictConfig
    families: dict[str, Any]

    def parsed(self, **changes: Any) -> Config:
        config = copy.deepcopy(self.config)
        for name, value in changes.items():
            OmegaConf.update(config, name, value, force_add=True)
        return parse(config)

    def family(self, config: Config) -> Any:
        key = repr((config.family, config.inversion.encoder))
        if key not in self.families:
            self.families[key] = load_family(config.family, torch.device("cpu"), config.inversion.encoder)
        return self.families[key]

    def run(self, config: Config, store: type[Store]) -> None:
        """The pipeline, with another kind of store and networks loaded once."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(opening, "Store", store)
            patch.setattr(pipeline, "load_family", lambda *_: self.family(config))
            pipeline.run(config, self.folder / "run")

    def first_changed(self, name: str, value: Any) -> str | None:
        """The first stage that is not reused when a setting has another value."""
        try:
            self.run(self.parsed(**{name: value}), Lookup)
        except NotMadeError as changed:
            return str(changed)
        return None


def write_clip(folder: Path, seed: int) -> None:
    frames, _ = face_frames(FRAMES + 2)
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame ^ seed).save(folder / f"{t}.png")


def write_inputs(folder: Path) -> None:
    """Two clips, two files of landmarks, two sets of weights, and AlexNet's place taken."""
    for seed, (clip, points) in enumerate((("clip", "points.npy"), ("other", "other.npy"))):
        write_clip(folder / clip, seed)
        np.save(folder / points, face_frames(FRAMES + 2)[1] + seed)
    write_assets(folder / "assets")
    for path in write_assets(folder / "second", seed=1).glob("*.safetensors"):
        shutil.copy(path, folder / "assets" / f"{path.stem}_2.safetensors")
    trunk = folder / "weights" / registry.entry("alexnet").file
    trunk.parent.mkdir(parents=True)
    torch.save(alexnet(weights=None).features.state_dict(prefix="features."), trunk)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Iterator[Base]:
    folder = tmp_path_factory.mktemp("keys")
    write_inputs(folder)
    known = {k: replace(e, sha256_prefix=None, sha256=None) for k, e in registry.entries().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", folder / "assets")
        patch.setenv(registry.CACHE_VARIABLE, str(folder))
        patch.setattr(registry, "entries", lambda: known)
        paths = [f"clip.path={folder}/clip", f"align.landmarks_path={folder}/points.npy"]
        places = [f"output.root={folder}", f"output.cache={folder}/cache"]
        made = Base(folder, hydra_config([*QUICK, *paths, *places]), {})
        made.run(made.parsed(), Store)
        yield made


def leaves(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all settings."""
    if not isinstance(values, dict) or not values:
        yield name, values
        return
    for key, value in values.items():
        yield from leaves(value, f"{name}.{key}" if name else str(key))


def moved(name: str, value: Any, base: Path) -> Any:
    """Another value that a setting may have."""
    if name in OTHER:
        other = OTHER[name]
        return other.format(base=base) if isinstance(other, str) else other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 0.5 * value if value else 0.25
    raise AssertionError(f"{name} = {value!r} is neither in OTHER nor in NOT_IN_A_KEY")


def why_not(name: str) -> str | None:
    """Why a setting is in no key."""
    parts = name.split(".")
    beginnings = [".".join(parts[: length + 1]) for length in range(len(parts))]
    return next((NOT_IN_A_KEY[b] for b in beginnings if b in NOT_IN_A_KEY), None)


def settings(config: Config) -> dict[str, Any]:
    """Every setting by its name on the command line, those that only have a default included."""
    typed = asdict(config)
    named = dict(leaves(config.composed))
    for group in ("family", "clip", "align", "inversion", "edit", "trainer", "stitch", "anchors", "metrics"):
        named |= dict(leaves(typed[group], group))
    return {name: value for name, value in named.items() if value != {}}


def default_settings() -> list[str]:
    return list(settings(parse(hydra_config(QUICK))))


def test_the_same_settings_reuse_every_stage(base):
    assert base.first_changed("logger.project", "another") is None


@pytest.mark.parametrize("name", [n for n in default_settings() if why_not(n) is None])
def test_a_setting_that_changes_results_changes_a_key(base, name):
    value = settings(base.parsed())[name]
    assert base.first_changed(name, moved(name, value, base.folder)) is not None


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("clip.num_frames", "clip"),
        ("align.smoothing_s", "align"),
        ("family.crop_scale", "align"),
        ("family.generator", "invert"),
        ("family.encoder", "invert"),
        ("inversion.pivot", "invert"),
        ("family.perceptual", "invert"),
        ("inversion.pivotal.lr", "invert"),
        ("seed", "invert"),
        ("trainer.precision", "invert"),
        ("edit.strengths.embedded", "edit"),
        ("anchor", "target"),
        ("alpha", "phase1"),
        ("family.flow.preset", "target"),
        ("family.flow.size", "target"),
        ("family.second_flow.kind", "figures"),
        ("family.alpha_interp", "phase2"),
        ("family.sampler", "phase2"),
        ("target_data", "target"),
        ("lambda_r", "phase2"),
        ("stitch.tuning.lr", "phase3"),
        ("stitch.feather", "stitch"),
    ],
)
def test_a_setting_spares_the_stages_before_it(base, name, stage):
    value = settings(base.parsed())[name]
    assert base.first_changed(name, moved(name, value, base.folder)) == stage


def test_reasons_belong_to_settings():
    names = default_settings()
    for beginning in NOT_IN_A_KEY:
        assert any(name == beginning or name.startswith(f"{beginning}.") for name in names), beginning
    assert set(OTHER) <= set(names)


def test_a_changed_file_changes_the_key_under_the_same_name(base):
    picture = base.folder / "clip" / "1.png"
    before = picture.read_bytes()
    Image.new("RGB", Image.open(picture).size).save(picture)
    try:
        assert base.first_changed("logger.project", "another") == "clip"
    finally:
        picture.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
def test_a_job_of_a_sweep_is_named_by_what_its_files_hold(tmp_path, name):
    file = tmp_path / "file"
    folder = tmp_path / "folder"
    folder.mkdir()
    edit = ["edit=direction"] if name == "edit.file" else []
    config = hydra_config([*edit, f"{name}={file}"])
    assert len(job_key(config)) == 16  # a file that isn't there is told of when the job runs
    keys = {job_key(config)}
    for content in ("one", "other"):
        file.write_text(content)
        keys.add(job_key(config))
    config = hydra_config([*edit, f"{name}={folder}"])
    for content in ("one", "other"):
        (folder / "0.png").write_text(content)
        keys.add(job_key(config))
    (folder / "0.png").rename(folder / "1.png")
    keys.add(job_key(config))
    assert len(keys) == 6
    before = job_key(config)
    (folder / "1.png").touch()
    assert job_key(config) == before


@pytest.mark.parametrize("name", ["embedded", "ffhq"])
def test_every_family_keeps_track_of_its_networks(name):
    raft = FlowConfig("raft_small", weights="raft-small")
    config = FamilyConfig(name, 1.0, 0.1, "g", "lpips_alex", alpha_interp=30.0, flow=raft)
    networks = {"generator": "1", "encoder": "2", "sampler": "3", "refiner": "6"}
    records = [{"name": "alexnet", "sha256": "4"}, {"name": "raft-small", "sha256": "5"}]

    def depends(changed: FamilyConfig | None = None, **changes: str) -> dict[str, Any]:
        sums = networks | changes
        files = [{**record, "sha256": changes.get(record["name"], record["sha256"])} for record in records]
        return depends_on(changed or config, sums, files)

    told = [
        depends(),
        *(depends(None, **{part: "other"}) for part in networks),
        *(depends(None, **{record["name"]: "other"}) for record in records),
        depends(replace(config, truncation=0.5)),
        depends(replace(config, alpha_interp=20.0)),
        depends(replace(config, flow=replace(raft, updates=20))),
        depends(replace(config, flow=replace(raft, size=256))),
        depends(replace(config, flow=FlowConfig())),
        depends(replace(config, perceptual="lite0")),
    ]
    assert len({make_key("any", values) for values in told}) == len(told)
