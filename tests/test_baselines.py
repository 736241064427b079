"""Other methods beside the result: one list, one table, one cache, and clear errors, small and random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Ended, train
from composed import check_refused, parsed, refusals
from PIL import Image
from small_family import small_clip, small_family, write_official
from tiny import SIZE, STYLE_DIM, tiny_edited
from tiny_assets import write_assets
from tiny_family import face_clip

from tempcons.check import WeightsError
from tempcons.models.latent_transformer import LatentTransformer
from tempcons.opening import official_weights
from tempcons.pipeline import run
from tempcons.schema import Config
from tempcons.stages.baselines import Bench, RecipeBaseline
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext
from tempcons.training.hyper import Hyper
from tempcons.weights import assets, registry

FRAMES = 6
QUICK = [
    "clip=file",
    "inversion=encoder",
    "compare=false",
    "phase1.epochs=1",
    "phase2.epochs=1",
    "metrics.every_epochs=0",
    "logger.wandb=disabled",
    "trainer.accelerator=cpu",
]
ALL = [
    "baselines=[dvp,wplus,released_code]",
    "baselines.dvp.epochs=2",
    "baselines.dvp.width=2",
    "baselines.dvp.coarse_to_fine=false",  # the perceptual network wants more than 16 px
    *(f"baselines.released_code.{domain}.phase{k}.epochs=1" for domain in ("in", "out") for k in (1, 2)),
]
NAMES = ["theirs", "dvp", "wplus", "released_code"]
STAGES = {"folder", "dvp", "wplus"}
Go = Callable[..., Ended]


def write_frames(folder: Path, count: int = FRAMES, size: int = SIZE) -> Path:
    """What another tool made."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for t in range(count):
        picture = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{t}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("baselines")
    face_clip(base, FRAMES)
    write_frames(base / "theirs")
    write_frames(base / "short", FRAMES - 1)
    write_frames(base / "large", size=SIZE + 8)
    write_frames(base / "single", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "ASSETS", write_assets(base / "assets"))
        yield base


def go(place: Path, out: Path, capsys: pytest.CaptureFixture[str], *changes: str) -> Ended:
    """``python train.py`` on the small clip; {0} in the changes is the fixture's folder."""
    settings = [
        *QUICK,
        # Without it nothing pulls at the codes of phase 1 and of wplus.
        "lambda_photo=1",
        f"clip.path={place}/talk.mp4",
        f"align.landmarks_path={place}/points.npy",
        f"output.root={out}",
        f"output.cache={place}/cache",
    ]
    return train([*settings, *(change.format(place) for change in changes)], capsys)


def read(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "latest" / name).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["surprised", "nada_sketch"])
def test_all_in_the_same_table_and_cached(place, tmp_path, capsys, edit):
    told = [f"edit={edit}", *ALL, "+baselines.theirs={0}/theirs"]
    ended = go(place, tmp_path / "first", capsys, *told)
    assert (ended.code, ended.errors) == (0, []), ended.err
    metrics, manifest = (read(tmp_path / "first", f"{name}.json") for name in ("metrics", "manifest"))
    assert set(metrics) == {"direct", "phase1", "phase2", *NAMES, "controls"}
    assert set(metrics["controls"]) == {"smoothed_codes", "flow_warped_mean"}
    for name in NAMES:
        assert name in ended.out
        assert metrics[name]["distance"] > 0 and metrics[name]["e_warp"] > 0
        assert (tmp_path / "first" / "latest" / f"{name}.mp4").stat().st_size > 0
        assert f'data-variant="{name}"' in (tmp_path / "first" / "latest" / "report.html").read_text()
    assert manifest["settings"]["baselines"]["dvp"]["epochs"] == 2
    assert {s["stage"] for s in manifest["stages"]} >= STAGES
    assert go(place, tmp_path / "again", capsys, *told).code == 0
    assert all(s["reused"] for s in read(tmp_path / "again", "manifest.json")["stages"])
    assert read(tmp_path / "again", "metrics.json") == metrics


def test_another_tools_video_of_the_direct_edit_is_the_direct_edit(place, tmp_path, capsys):
    assert go(place, tmp_path / "first", capsys, "phase=direct").code == 0
    stages = read(tmp_path / "first", "manifest.json")["stages"]
    [edit] = {s["path"] for s in stages if s["stage"] == "edit"}
    assert "target" not in {s["stage"] for s in stages}  # nothing is taught
    same = tmp_path / "same"
    same.mkdir()
    for t, frame in enumerate(np.load(Path(edit) / "frames.npy")):
        Image.fromarray(frame).save(same / f"{t}.png")
    assert go(place, tmp_path / "second", capsys, "phase=direct", f"+baselines.same={same}").code == 0
    metrics = read(tmp_path / "second", "metrics.json")
    assert metrics["same"]["e_warp"] == metrics["direct"]["e_warp"] and metrics["same"]["distance"] == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("baselines=[dpv]", ["no baselines named 'dpv'", "did you mean dvp?"]),
        ("baselines=[dvp,wplu]", ["no baselines named 'wplu'", "wplus"]),
        ("+baselines.theirs={0}/nowhere", ["baselines: no such file or folder", "nowhere"]),
        ("+baselines.theirs={0}/short", ["short has 5 frames, the direct edit has 6"]),
        ("+baselines.theirs={0}/large", ["large is 40x40 pixels, the direct edit is 32x32"]),
        ("+baselines.theirs={0}/single", ["single has 1 frame", "2 or more"]),
        ("+baselines.theirs={0}/points.npy", ["points.npy"]),
        ("+baselines.phase1={0}/theirs", ["'phase1' stands for something else"]),
        ("baselines=[latent_transformer]", ["latent_transformer does not exist for family=embedded"]),
        ("baselines=[folder]", ["baselines.folder"]),
    ],
)
def test_one_clear_error_before_the_phases(place, tmp_path, capsys, change, says):
    ended = go(place, tmp_path, capsys, "output.cache={0}/unused", change)
    assert ended.code == 1
    [message] = ended.errors
    assert all(part in message for part in says), message
    assert "Traceback" not in ended.err
    assert not (place / "unused" / "phase1").exists()


test_refused = refusals(
    (["+baselines.dvq={epochs: 3}"], r"no baseline 'dvq'.*did you mean dvp.*\+baselines.NAME=PATH"),
    (["baselines=[dvp]", "+baselines.dvp.epoch=3"], "baselines.dvp has no setting 'epoch'.*epochs"),
    (["baselines=[dvp]", "baselines.dvp.loss=l3"], "no loss named 'l3'"),
    (["baselines=[wplus]", "baselines.wplus.lr=0"], "baselines.wplus.lr = 0.*positive"),
    (["baselines=[wplus]", "baselines.wplus.epochs=-1"], "baselines.wplus.epochs = -1.*0 or more"),
    (["baselines=[released_code]", "baselines.released_code.in.lambda_r=-1"], "lambda_r = -1"),
    (
        ["baselines=[released_code]", "+baselines.released_code.in.lamda_r=1"],
        r"baselines\.released_code\.in has no setting 'lamda_r'.*lambda_r",
    ),
    (
        ["family=ffhq", "edit=beard", "baselines=[latent_transformer]"],
        "nothing that stands for edit=beard.*eyeglasses",
    ),
    (["+baselines.a-b=README.md"], "'a-b' is no plain name"),
)(check_refused)


def test_none_by_default_and_a_name_without_brackets_will_do():
    assert parsed().baselines == {}
    assert list(parsed("baselines=dvp").baselines) == ["dvp"]


def hyper_of(config: Config) -> Hyper:
    """Of the baseline that is another recipe."""
    baseline = config.baselines["released_code"]
    assert isinstance(baseline, RecipeBaseline)
    return baseline.hyper


def test_the_released_codes_settings():
    both = parsed("baselines=[released_code]"), parsed("recipe=released_code")
    assert hyper_of(both[0]) == both[1].hyper
    hyper = both[1].hyper
    assert (hyper.phase1.lr, hyper.phase1.epochs, hyper.phase2.lr, hyper.phase2.epochs) == (1e-3, 10, 1e-4, 3)
    assert (hyper.lambda_rf, hyper.lambda_eps, hyper.lambda_r, hyper.lambda_m) == (0.2, 10, 100, 7.5)
    assert (hyper.visibility, hyper.outside_power, hyper.mask_detach) == (5, 4, False)
    glasses = parsed("family=ffhq", "edit=eyeglasses", "baselines=[released_code]")
    assert (glasses.hyper.alpha, hyper_of(glasses).alpha) == (0.12, 0.05)


def test_latent_transformer_moves_the_codes_of_the_inversion(tmp_path, monkeypatch):
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    family = small_family("ffhq")
    latents, _ = small_clip(family)
    network = LatentTransformer(family.generator.n_latent, STYLE_DIM)
    file = registry.entry("latent-transformer-eyeglasses").file
    write_official(tmp_path, {file: network.state_dict()})
    config = parsed("family=ffhq", "edit=eyeglasses", "baselines=[latent_transformer]")
    baseline, store = config.baselines["latent_transformer"], Store(tmp_path / "cache")
    context = PhaseContext("paper", config.hyper, config.trainer, 0)
    bench = Bench("eyeglasses", latents, context, lambda *_: latents.frames, store)
    frames = baseline.frames(tiny_edited(), family, bench)
    with torch.no_grad():
        wanted = network(latents.codes, torch.ones(len(latents.codes)))
        pictures = family.generator.synthesis(wanted).clamp(-1, 1)
    torch.testing.assert_close(frames.pictures(), pictures, atol=1.1 / 255, rtol=0)
    baseline.frames(tiny_edited(), family, bench)
    assert [record["reused"] for record in store.records] == [False]


def test_missing_weights_are_told_before_any_stage(tmp_path, monkeypatch):
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    quick = (f"output.cache={tmp_path / 'cache'}", "trainer.accelerator=cpu")
    config = parsed("family=ffhq", "edit=eyeglasses", "baselines=[latent_transformer]", *quick)
    assert "latent-transformer-eyeglasses" in official_weights(config)
    with pytest.raises(WeightsError, match=r"latent-transformer-eyeglasses"):
        run(config, tmp_path / "run")
    assert not list((tmp_path / "cache").iterdir())
