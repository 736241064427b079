"""The experiments of the paper: each command runs its jobs and gives its table; RAVDESS is only listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
import yaml
from command_line import train
from composed import parsed
from tiny_assets import write_assets
from tiny_family import face_clip

from tempcons.sweep.__main__ import main
from tempcons.sweep.naming import arguments_of, product
from tempcons.weights import assets

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted(p.stem for p in (ROOT / "experiments").glob("*.yaml"))
FRAMES = 5
QUICK = [
    "clip=file",
    "inversion=encoder",
    "phase1.epochs=1",
    "phase2.epochs=1",
    *(f"comparison.{domain}.phase{k}.epochs=1" for domain in ("in", "out") for k in (1, 2)),
    "metrics.every_epochs=0",
    "logger.wandb=disabled",
    "trainer.accelerator=cpu",
]
SMALL_DVP = ["baselines.dvp.epochs=1", "baselines.dvp.width=2", "baselines.dvp.coarse_to_fine=false"]
# What a table of a sweep's finished jobs must say.
TABLES = {
    "table1": ("1", ["| Sketch |", "| Pixar |", "(0.0085)", "DVP", "control: flow-warped mean"], SMALL_DVP),
    "table2": ("2", ["| surprised |", "| happy |", "(0.0028)", "DVP", "recipe=paper"], SMALL_DVP),
    "table3": ("3", ["| ✓ | - |", "(0.0064)", "(0.0057)", "Ours, phase 2 alone"], []),
    "fig6": ("fig6", ["codes one by one", "slices.png"], ["baselines.wplus.epochs=1"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("experiments")
    face_clip(base, FRAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", write_assets(base / "assets"))
        yield base


def jobs(experiment: str) -> list[list[str]]:
    """What every job of a multirun is told."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base=None):
        told = [f"experiment={experiment}", "hydra.mode=MULTIRUN"]
        config = hydra.compose("config", overrides=told, return_hydra_config=True)
    return product(arguments_of(config))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", TABLES)
def test_one_command_gives_the_table(place, capsys, experiment):
    table, says, quick = TABLES[experiment]
    ended = train(
        [
            "-m",
            f"experiment={experiment}",
            *QUICK,
            *quick,
            f"clip.path={place}/talk.mp4",
            f"align.landmarks_path={place}/points.npy",
            f"output.root={place}/outputs",
            f"output.cache={place}/cache",
        ],
        capsys,
    )
    assert ended.code == 0, ended.err
    main(["paper", f"{place}/outputs/sweeps/{experiment}", "--table", table])
    shown = capsys.readouterr().out
    for part in [*says, f"experiment={experiment}", f"talk.mp4 ({FRAMES} frames)", "E_long", "sharpness"]:
        assert part in shown, part


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_accepted_alone(experiment):
    assert parsed(f"experiment={experiment}").composed["sweep"]["name"]


@pytest.mark.parametrize(
    ("experiment", "count"),
    [
        ("table1", 2),
        ("table2", 3),
        ("table3", 8),
        ("fig6", 2),
        ("edits", 10),
        ("table1_ravdess", 100),
        ("table2_ravdess", 100),
    ],
)
def test_number_of_jobs(experiment, count):
    assert len(jobs(experiment)) == count


def test_the_table_of_edits_has_every_edit_that_comes_with_the_package():
    told = {a.removeprefix("edit=") for job in jobs("edits") for a in job if a.startswith("edit=")}
    edits = [yaml.safe_load(p.read_text()) for p in (ROOT / "conf" / "edit").glob("*.yaml")]
    own = {e["name"]: e["sources"].get("embedded", {}).get("kind") for e in edits}
    assert told == {name for name, kind in own.items() if kind in ("direction", "generator", "mapper")}


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if "ravdess" in name])
def test_ravdess_takes_the_papers_networks_and_says_its_licence(experiment):
    config = parsed(f"experiment={experiment}")
    assert (config.family.name, config.recipe) == ("ffhq", "paper")
    assert "CC BY-NC-SA 4.0" in str(config.clip.licence)


def test_ravdess_clips_are_names_that_it_has():
    paths = {a.split("=")[1] for job in jobs("table1_ravdess") for a in job if a.startswith("clip.path")}
    assert len(paths) == 20
    for path in paths:
        # Audio and video, speech; emotion, intensity, statement, repetition, actor.
        found = re.fullmatch(
            r"data/ravdess/Actor_(\d\d)/01-01-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)\.mp4", path
        )
        assert found and found[1] == found[6] and 1 <= int(found[1]) <= 24
        assert found[2] != "01" or found[3] == "01"  # there is no strong neutral


@pytest.mark.parametrize("experiment", ["table1_ravdess", "table2_ravdess", "table3_ravdess"])
def test_every_job_on_ravdess_is_accepted(experiment):
    for job in jobs(experiment)[:: 20 if "table3" not in experiment else 4]:
        parsed(f"experiment={experiment}", *(a for a in job if not a.startswith("experiment")))


def test_a_missing_clip_says_where_it_is_from(tmp_path, capsys):
    quick = ["clip=ravdess", f"clip.path={tmp_path}/Actor_01/a.mp4", "logger.wandb=disabled"]
    ended = train([*quick, f"output.root={tmp_path}", f"output.cache={tmp_path}/cache"], capsys)
    assert ended.code == 1
    [message] = ended.errors
    assert "no such file" in message and "CC BY-NC-SA 4.0" in message and "zenodo.org" in message
