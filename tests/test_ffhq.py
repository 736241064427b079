"""family=ffhq: the paper's configuration, and the whole way with random weights in the official layouts."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import composed
import cv2
import numpy as np
import pytest
import torch
import yaml
from composed import check_refused, refusals
from safetensors.torch import load_file
from tiny import ROOT, TinyDistance
from torch import Tensor, nn
from torchvision.models import alexnet
from torchvision.models.optical_flow import raft_small
from weights.snapshots import install_names, tiny_generator, write_snapshot

from tempcons.check import ConfigError, WeightsError
from tempcons.cli import expand_stack
from tempcons.edits.change import blend
from tempcons.family import FlowConfig, build_flow, build_perceptual, load_family
from tempcons.geometry.quad import FFHQ
from tempcons.models.code_sampler import MappingSampler, mean_style
from tempcons.models.e4e import E4EEncoder
from tempcons.models.mapper import LevelsMapper
from tempcons.models.restyle import ReStyleEncoder
from tempcons.opening import official_weights
from tempcons.pipeline import run
from tempcons.schema import Config
from tempcons.stages.invert import ENCODERS, METHODS, InversionConfig
from tempcons.training.pivotal import PivotalConfig
from tempcons.training.projection import ProjectionConfig, project
from tempcons.weights import registry
from tempcons.weights.load import load_mapper

SIZE, STYLE_DIM, ROWS, FRAMES = 64, 16, 10, 4
CHANNELS = {4: 8, 8: 8, 16: 6, 32: 4, 64: 4}
MAPPERS = ("angry", "beard", "depp", "eyeglasses", "surprised")
NADA = ("nada_sketch", "nada_pixar", "nada_disney_princess", "nada_elf", "nada_zombie")
DIRECTIONS = ("smile", "age", "pose")


def parsed(*overrides: str) -> Config:
    return composed.parsed("family=ffhq", *overrides)


@pytest.mark.parametrize("edit", [*MAPPERS, *DIRECTIONS])
@pytest.mark.parametrize("inversion", METHODS["ffhq"])
def test_edits_of_the_codes_go_with_every_inversion(edit, inversion):
    config = parsed(f"edit={edit}", f"inversion={inversion}")
    assert config.edit.domain == "in" and config.inversion.name == inversion
    assert set(official_weights(config)) <= set(registry.entries())


@pytest.mark.parametrize("edit", NADA)
@pytest.mark.parametrize("inversion", [name for name in METHODS["ffhq"] if name != "pti"])
def test_edits_of_the_generator_go_with_every_inversion_that_keeps_it(edit, inversion):
    config = parsed(f"edit={edit}", f"inversion={inversion}")
    assert config.edit.domain == "out"
    assert set(official_weights(config)) <= set(registry.entries())


def test_an_edit_with_its_own_generator_refuses_pivotal_tuning():
    with pytest.raises(ConfigError, match=r"nada_elf brings its own generator.*inversion=restyle_psp"):
        parsed("edit=nada_elf", "inversion=pti")


@refusals(
    (["family=embedded", "inversion=e4e"], "e4e does not exist for family=embedded.*encoder, refined, pti"),
    (["inversion=encoder"], "encoder does not exist for family=ffhq.*restyle_psp"),
    (["inversion.pivot=e4"], "inversion.pivot = 'e4'.*e4e"),
    (["inversion.passes=0"], "inversion.passes = 0"),
    (["inversion=optimization", "inversion.projection.steps=0"], r"projection\.steps = 0"),
    (["edit=happy"], "happy does not exist for family=ffhq.*embedded"),
    (["family=embedded", "edit=depp"], "depp does not exist for family=embedded.*ffhq"),
    (["edit.sources.ffhq.kind=generator"], "kind 'generator'"),
    (["edit=direction", "edit.file=nowhere.npy"], r"no file nowhere\.npy"),
    (["edit=direction"], r"edit\.file"),
    (["edit.domain=out"], "surprised is a mapper but edit.domain=out"),
    (["inversion=optimization", "inversion.projection.lr=0"], "projection.lr = 0"),
    (["inversion=optimization", "inversion.projection.lambda_l2=-1"], "lambda_l2 = -1"),
    (["family.truncation=2"], "family.truncation = 2"),
)
def test_what_does_not_go_together_is_refused(overrides, message):
    check_refused(["family=ffhq", *overrides], message)


def test_the_papers_in_domain_case():
    config = parsed("edit=eyeglasses", "inversion=pti", "phase=both")
    hyper = config.hyper
    assert (config.recipe, config.comparison) == ("paper", None)
    assert (hyper.alpha, hyper.lambda_r, hyper.lambda_rf, hyper.lambda_eps) == (0.12, 200, 0.1, 10)
    assert (hyper.phase1.lr, hyper.phase1.epochs) == (0.05, 10)
    assert (hyper.phase2.lr, hyper.phase2.epochs) == (1e-4, 5)
    assert (config.inversion.encoder, config.inversion.passes) == ("e4e", 200)
    assert (config.inversion.pivotal.lr, config.inversion.pivotal.schedule) == (3e-4, "constant")
    assert (config.family.size, config.family.crop_scale, config.family.alpha_interp) == (1024, 1.0, 30)
    assert (config.family.flow.size, config.family.flow.updates) == (256, 20)
    assert (config.inversion.pivotal.lambda_r, config.inversion.regularised) == (1.0, True)
    assert config.family.crop_fade and not parsed("family=embedded").family.crop_fade
    assert parsed("edit=beard").hyper.alpha == 0.04


def test_the_papers_out_of_domain_case():
    config = parsed("edit=nada_sketch", "inversion=restyle_psp")
    hyper = config.hyper
    assert (hyper.alpha, hyper.lambda_r, hyper.lambda_m) == (0.04, 200, 0)
    assert (hyper.phase1.lr, hyper.phase1.epochs) == (0.005, 5)
    assert (hyper.phase2.lr, hyper.phase2.epochs) == (8e-4, 5)


def test_our_recipe_and_own_strengths_can_be_asked_for():
    config = parsed("recipe=tempcons", "edit=angry", "edit.strength=0.07")
    assert (config.recipe, config.comparison_recipe, config.edit.strength) == ("tempcons", "paper", 0.07)
    assert parsed("edit=angry").edit.strength == 0.1
    assert parsed("family=embedded", "edit=angry").edit.strength == 2.5


def test_embedded_needs_no_download_and_its_inversions_keep_their_keys():
    config = parsed("family=embedded")
    assert official_weights(config) == []
    pivotal = dataclasses.asdict(config.inversion.pivotal)
    assert config.inversion.depends() == {"name": "pti", "pivotal": pivotal, "growth": 0.5}
    encoder = parsed("family=embedded", "inversion=encoder").inversion
    assert encoder.depends() == {"name": "encoder", "pivotal": dataclasses.asdict(encoder.pivotal)}


def test_settings_in_use_are_part_of_an_inversions_key():
    told = [
        InversionConfig("pti", "e4e"),
        InversionConfig("pti", "restyle_e4e"),
        InversionConfig("pti", "e4e", passes=3),
        InversionConfig("pti", "optimization"),
        InversionConfig("pti", "optimization", projection=ProjectionConfig(steps=7)),
    ]
    assert len({json.dumps(config.depends()) for config in told}) == len(told)
    unused = InversionConfig("pti", "e4e", projection=ProjectionConfig(steps=7))
    assert unused.depends() == told[0].depends()


@pytest.fixture
def no_weights(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    return tmp_path / "weights"


def test_everything_missing_is_told_at_once_before_any_stage(no_weights, tmp_path):
    config = parsed("edit=beard", f"output.cache={tmp_path / 'cache'}", "trainer.accelerator=cpu")
    with pytest.raises(WeightsError) as caught:
        run(config, tmp_path / "run")
    text = str(caught.value)
    for name in ("stylegan2-ada-ffhq", "e4e-ffhq", "styleclip-beard", "raft-large", "raft-small", "alexnet"):
        assert str(no_weights / registry.entry(name).file) in text, name
    assert "fetch" in text and "download by hand: styleclip-beard" in text
    assert not list((tmp_path / "cache").iterdir())  # no stage has run


@pytest.mark.skipif(find_spec("open_clip") is None, reason="the extra clip is not installed")
def test_clip_is_among_what_is_missing(no_weights, tmp_path):
    config = parsed("edit=nada_text", "inversion=restyle_psp", f"output.cache={tmp_path / 'cache'}")
    with pytest.raises(WeightsError, match=r"fetch .*clip-vit-b-32 clip-vit-b-16") as caught:
        run(config, tmp_path / "run")
    assert str(no_weights / registry.entry("clip-vit-b-16").file) in str(caught.value)
    assert "restyle-psp-ffhq" in str(caught.value)


def prefixed(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in network.state_dict().items()}


def save(path: Path, contents: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, path)


def faint(network: nn.Module) -> nn.Module:
    """Random encoders far from the mean code would render noise."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("styles.") and ".linear." in name:
                parameter.mul_(0.1)
    return network


def write_weights(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Small random networks under the official names, in the official layouts."""
    install_names(patch)
    torch.manual_seed(3)
    generator = tiny_generator(SIZE, seed=1, style_dim=STYLE_DIM, channels=CHANNELS)
    mean = mean_style(generator)
    folder.mkdir(parents=True)
    write_snapshot(folder / "ffhq.pkl", generator, mean)
    opts = {"stylegan_size": SIZE, "output_size": SIZE, "start_from_latent_avg": True}
    decoder, rows = prefixed("decoder", generator), mean.repeat(ROWS, 1)
    encoders = {
        "e4e_ffhq_encode.pt": (E4EEncoder(SIZE, STYLE_DIM, squeeze=False), "Encoder4Editing"),
        "restyle_psp_ffhq_encode.pt": (
            ReStyleEncoder(ROWS, False, STYLE_DIM, squeeze=False),
            "BackboneEncoder",
        ),
    }
    for file, (encoder, kind) in encoders.items():
        state = prefixed("encoder", faint(encoder)) | decoder
        told = opts | {"encoder_type": kind, "n_iters_per_batch": 2}
        save(folder / file, {"state_dict": state, "opts": told, "latent_avg": rows})
    mapper = LevelsMapper(STYLE_DIM, ROWS)
    told = {"stylegan_size": SIZE, "mapper_type": "LevelsMapper"}
    save(folder / "styleclip/beard.pt", {"state_dict": prefixed("mapper", mapper), "opts": told})
    adapted = tiny_generator(SIZE, seed=2, style_dim=STYLE_DIM, channels=CHANNELS)
    save(folder / "nada/elf.pt", {"g_ema": adapted.state_dict(), "g_optim": {"state": {}}})
    save(folder / "directions/smile.pt", torch.ones(1, STYLE_DIM))
    save(folder / registry.entry("raft-small").file, raft_small(weights=None).state_dict())
    save(
        folder / registry.entry("alexnet").file, alexnet(weights=None).features.state_dict(prefix="features.")
    )


def write_clip(folder: Path) -> None:
    """A bright disc with two eyes and a mouth that moves a little, and its landmarks."""
    folder.mkdir()
    points = np.array([[24, 26], [40, 26], [32, 34], [26, 42], [38, 42]], float)
    rows = np.stack([points + np.array([0.5 * t, 0]) for t in range(FRAMES)])
    np.save(folder.parent / "landmarks.npy", rows)
    for t, row in enumerate(rows):
        frame = np.full((64, 64, 3), 60, np.uint8)
        cv2.circle(frame, (32 + t // 2, 32), 22, (150, 180, 220), -1)
        for x, y in row:
            cv2.circle(frame, (round(x), round(y)), 2, (40, 30, 30), -1)
        cv2.imwrite(str(folder / f"{t}.png"), frame)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A weights folder and a clip; hashes of the published files are set aside."""
    folder = tmp_path_factory.mktemp("ffhq")
    known = {k: dataclasses.replace(e, sha256_prefix=None) for k, e in registry.entries().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(registry.CACHE_VARIABLE, str(folder))
        patch.setattr(registry, "entries", lambda: known)
        with pytest.MonkeyPatch.context() as names:
            write_weights(folder / "weights", names)
        write_clip(folder / "clip")
        yield folder


def go(base: Path, name: str, *overrides: str) -> tuple[Path, dict[str, Any]]:
    quick = (
        f"clip.path={base / 'clip'}",
        f"align.landmarks_path={base / 'landmarks.npy'}",
        f"family.size={SIZE}",
        *(f"family.flow.{k}" for k in ("kind=raft_small", "weights=raft-small", "size=48", "updates=2")),
        "family.second_flow.kind=farneback",
        "phase1.epochs=1",
        "phase2.epochs=1",
        "trainer.accelerator=cpu",
        "logger.wandb=disabled",
        f"output.root={base / 'outputs'}",
        f"output.cache={base / 'cache'}",
    )
    folder = base / "outputs" / name
    run(parsed(*quick, *overrides), folder)
    return folder, json.loads((folder / "manifest.json").read_text())


def stage_folder(manifest: dict[str, Any], stage: str) -> Path:
    return Path(next(s["path"] for s in manifest["stages"] if s["stage"] == stage))


def check_run(folder: Path, manifest: dict[str, Any]) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    for variant in ("direct", "phase1", "phase2"):
        # With random flow there may be no pixel seen both ways, and so no e_warp.
        assert "e_warp" in metrics[variant] and math.isfinite(metrics[variant]["distance"])
    assert metrics["phase2"]["distance"] > 0
    assert manifest["recipe"] == "paper"
    assert manifest["networks"]["flow"] == "raft-small-2"
    assert manifest["networks"]["perceptual"].startswith("LPIPS")
    assert all(len(w["sha256"]) == 64 and w["licence"] for w in manifest["weights"])


@pytest.mark.slow
def test_pti_and_mapper_through_both_phases(base):
    folder, manifest = go(base, "in", "edit=beard", "inversion=pti", "inversion.passes=2")
    check_run(folder, manifest)
    names = {w["name"] for w in manifest["weights"]}
    assert names == {"stylegan2-ada-ffhq", "e4e-ffhq", "alexnet", "raft-small", "styleclip-beard"}
    inverted, edited = (stage_folder(manifest, stage) for stage in ("invert", "edit"))
    tuned = load_file(inverted / "generator.safetensors")
    start = tiny_generator(SIZE, seed=1, style_dim=STYLE_DIM, channels=CHANNELS).state_dict()
    assert not torch.equal(tuned["conv1.conv.weight"], start["conv1.conv.weight"])
    assert torch.equal(tuned["style.1.weight"], start["style.1.weight"])
    codes, moved = (load_file(f / "codes.safetensors")["codes"] for f in (inverted, edited))
    assert codes.shape == (FRAMES, ROWS, STYLE_DIM) and not torch.equal(codes, moved)
    assert torch.equal(load_file(edited / "generator.safetensors")["input.input"], tuned["input.input"])


@pytest.mark.slow
def test_restyle_and_nada_through_both_phases(base):
    folder, manifest = go(base, "out", "edit=nada_elf", "inversion=restyle_psp")
    check_run(folder, manifest)
    names = {w["name"] for w in manifest["weights"]}
    assert names == {"stylegan2-ada-ffhq", "restyle-psp-ffhq", "alexnet", "raft-small", "nada-elf"}
    inverted, edited = (stage_folder(manifest, stage) for stage in ("invert", "edit"))
    adapted = tiny_generator(SIZE, seed=2, style_dim=STYLE_DIM, channels=CHANNELS).state_dict()
    rendered_by = load_file(edited / "generator.safetensors")
    assert all(torch.equal(rendered_by[k], v) for k, v in adapted.items())
    codes, same = (load_file(f / "codes.safetensors")["codes"] for f in (inverted, edited))
    assert torch.equal(codes, same)
    last = load_file(folder / "generator.safetensors")
    changed = {k for k, v in rendered_by.items() if not torch.equal(last[k], v)}
    assert "conv1.conv.weight" in changed
    assert not {k for k in changed if k.startswith(("style.", "convs.7.", "to_rgbs.3."))}  # frozen


@pytest.mark.slow
def test_directions_on_optimised_codes(base):
    few = ("inversion=optimization", "inversion.projection.steps=3", "phase=direct")
    _, manifest = go(base, "smile", "edit=smile", *few)
    inverted, edited = (stage_folder(manifest, stage) for stage in ("invert", "edit"))
    codes, moved = (load_file(f / "codes.safetensors")["codes"] for f in (inverted, edited))
    torch.testing.assert_close(moved, codes + 3)
    assert "e4e-ffhq" not in {w["name"] for w in manifest["weights"]}
    own = np.zeros((ROWS, STYLE_DIM))
    own[2] = 1
    np.save(base / "own.npy", own)
    _, manifest = go(base, "own", "edit=direction", f"edit.file={base / 'own.npy'}", "edit.strength=2", *few)
    moved = load_file(stage_folder(manifest, "edit") / "codes.safetensors")["codes"]
    torch.testing.assert_close(moved - codes, 2 * torch.from_numpy(own).float().expand_as(codes))


def stacked(*arguments: str) -> list[str]:
    return expand_stack(["train.py", *arguments], ROOT / "conf")[1:]


@pytest.mark.slow
def test_a_mapper_and_a_direction_at_once(base):
    few = ("inversion=e4e", "phase=direct")
    _, manifest = go(base, "stack", *stacked("edit.stack=[beard,smile:2]", *few))
    inverted, edited = (stage_folder(manifest, stage) for stage in ("invert", "edit"))
    codes, moved = (load_file(f / "codes.safetensors")["codes"] for f in (inverted, edited))
    with torch.no_grad():
        mapper = load_mapper(registry.entry("styleclip-beard").path, ROWS)
        torch.testing.assert_close(moved, codes + 0.1 * mapper(codes) + 2)
    assert {"styleclip-beard", "interfacegan-smile"} <= {w["name"] for w in manifest["weights"]}


@pytest.mark.slow
def test_another_generator_and_a_direction_at_once(base):
    few = ("inversion=restyle_psp", "phase=direct")
    _, manifest = go(base, "stack-out", *stacked("edit.stack=[smile,nada_elf]", *few))
    inverted, edited = (stage_folder(manifest, stage) for stage in ("invert", "edit"))
    codes, moved = (load_file(f / "codes.safetensors")["codes"] for f in (inverted, edited))
    torch.testing.assert_close(moved, codes + 3)
    adapted = tiny_generator(SIZE, seed=2, style_dim=STYLE_DIM, channels=CHANNELS).state_dict()
    rendered_by = load_file(edited / "generator.safetensors")
    assert all(torch.equal(rendered_by[k], v) for k, v in adapted.items())


def test_faces_are_cropped_as_ffhq_is(base):
    told = ("family.size=64", "family.flow.kind=raft_small", "family.flow.weights=raft-small")
    config = parsed(*told, "family.second_flow.kind=farneback").family
    assert load_family(config, torch.device("cpu"), "e4e").crop == FFHQ


def test_the_command_line_prints_the_papers_values():
    told = ["family=ffhq", "edit=eyeglasses", "inversion=pti", "phase=both", "--cfg", "job"]
    done = subprocess.run(
        [sys.executable, "train.py", *told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = yaml.safe_load(done.stdout)
    assert (shown["alpha"], shown["lambda_r"], shown["lambda_rf"], shown["lambda_eps"]) == (
        0.12,
        200,
        0.1,
        10,
    )
    first, second = ({"lr": lr, "epochs": n, "schedule": "constant"} for lr, n in ((0.05, 10), (1e-4, 5)))
    # Null: kernels learn as the paper has them, by Adam at the rate of the rest.
    assert (shown["phase1"], shown["phase2"]) == (first, second | {"kernel_lr": None})
    assert shown["inversion"]["pivot"] == "e4e" and shown["family"]["size"] == 1024


@pytest.mark.parametrize("edit", [*MAPPERS, *DIRECTIONS, *NADA])
def test_every_edits_file_says_where_it_comes_from(edit):
    comment = (ROOT / "conf" / "edit" / f"{edit}.yaml").read_text().splitlines()[0]
    assert comment.startswith("# ") and ("Section" in comment or "not in the paper" in comment)


def test_flow_and_perceptual_kinds(base):
    with pytest.raises(WeightsError, match="holds raft_small, not raft_large"):
        build_flow(FlowConfig("raft_large", weights="raft-small"))
    with pytest.raises(ConfigError, match="raft_small has no weights"):
        build_flow(FlowConfig("raft_small"))
    with pytest.raises(ConfigError, match=r"lpips_alx.*lpips_alex"):
        build_perceptual("lpips_alx")


def test_sampled_codes_are_truncated_to_the_mean():
    generator = tiny_generator(SIZE, style_dim=STYLE_DIM, channels=CHANNELS)
    mean = torch.randn(STYLE_DIM)

    def sample(truncation: float) -> Tensor:
        return MappingSampler(generator, mean, truncation)(3, torch.Generator().manual_seed(1))

    whole, half = sample(1.0), sample(0.5)
    assert whole.shape == (3, ROWS, STYLE_DIM)
    torch.testing.assert_close(half, (whole + mean) / 2)
    torch.testing.assert_close(sample(0.0), mean.expand_as(whole))


def test_projection_finds_a_code_that_renders_the_frame():
    generator = tiny_generator(SIZE, style_dim=STYLE_DIM, channels=CHANNELS).requires_grad_(False)
    start = mean_style(generator).expand(ROWS, -1)
    wanted = start + 0.5 * torch.randn(2, ROWS, STYLE_DIM)
    frames = generator.synthesis(wanted).clamp(-1, 1)
    config = ProjectionConfig(steps=25, lr=0.1, lambda_l2=1.0)
    codes = project(frames, start, generator, TinyDistance(), config)
    before = (generator.synthesis(start[None]) - frames).square().mean()
    after = (generator.synthesis(codes) - frames).square().mean()
    assert after < 0.5 * before
    alone = project(frames[:1], start, generator, TinyDistance(), config)
    torch.testing.assert_close(alone, codes[:1], rtol=0, atol=1e-2)


def test_projection_rate_rises_and_falls():
    config = ProjectionConfig(steps=100, lr=0.01)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.002) and max(rates) == pytest.approx(0.01)
    assert rates[4] == rates[70] == pytest.approx(0.01) and 0 < rates[99] < 1e-4


def test_a_checkpoint_is_blended_by_strength():
    base, adapted = (tiny_generator(16, seed=seed) for seed in (1, 2))
    weight = adapted.conv1.conv.weight.detach().clone()
    assert blend(base, adapted, 1.0) is adapted
    half = blend(base, adapted, 0.5).conv1.conv.weight
    torch.testing.assert_close(half, (base.conv1.conv.weight + weight) / 2)
    with pytest.raises(WeightsError, match=r"edit\.strength=1"):
        blend(tiny_generator(32), adapted, 0.5)


def test_passes_count_every_frame_of_the_clip():
    assert PivotalConfig(batch=4).over(passes=200, frames=150).steps == 7500
    assert PivotalConfig(batch=1).over(passes=2, frames=FRAMES).steps == 8
    assert parsed("inversion=pti").inversion.tuning(150).steps == 200 * 150


def test_every_encoder_is_an_inversion_and_a_pivot():
    for name in ENCODERS:
        assert parsed(f"inversion={name}").inversion.encoder == name
        assert parsed(f"inversion.pivot={name}").inversion.encoder == name
    assert parsed("inversion.pivot=optimization").inversion.encoder is None
