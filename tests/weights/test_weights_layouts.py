"""Official layouts at small sizes: recognised, read, and the same pictures and codes come out."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_small
from weights.snapshots import install_names, tiny_generator, write_module, write_snapshot

from tempcons.check import WeightsError
from tempcons.models.e4e import E4EEncoder
from tempcons.models.latent_transformer import LatentClassifier, LatentTransformer
from tempcons.models.mapper import LevelsMapper
from tempcons.models.restyle import ReStyleEncoder, refine
from tempcons.weights.convert import to_nvidia, to_port
from tempcons.weights.load import (
    inspect,
    load_clip,
    load_encoder,
    load_generator,
    load_latent_classifier,
    load_latent_transformer,
    load_mapper,
    load_raft,
    load_tensor,
)

SIZES = [{"size": 8}, {"size": 64}, {"size": 32, "style_dim": 8, "n_mlp": 4}, {"size": 16, "z_dim": 5}]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def codes(g, count: int = 2) -> Tensor:
    return torch.randn(count, g.n_latent, g.style_dim, generator=torch.Generator().manual_seed(1))


def prefixed(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in network.state_dict().items()}


@pytest.mark.parametrize("made", SIZES)
def test_conversion_both_ways_keeps_every_number(made: dict[str, Any]) -> None:
    g = tiny_generator(**made)
    mean = torch.randn(g.style_dim)
    back, kept = to_port(to_nvidia(g.state_dict(), mean))
    assert kept is mean
    assert list(back) == list(g.state_dict())
    assert all(torch.equal(back[key], value) for key, value in g.state_dict().items())


def test_filters_of_both_layouts_differ_by_the_gain_of_four() -> None:
    converted = to_nvidia(tiny_generator(8).state_dict())
    sums = {float(value.sum()) for key, value in converted.items() if key.endswith("resample_filter")}
    assert sums == {1.0}
    assert converted["synthesis.b4.conv1.noise_strength"].shape == ()
    assert converted["synthesis.b8.conv0.noise_const"].shape == (8, 8)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_snapshot_gives_the_same_picture(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_names(monkeypatch)
    g, mean = tiny_generator(16), torch.randn(16)
    loaded = load_generator(write_snapshot(tmp_path / "g.pkl", g, mean, protocol), size=16)
    assert loaded.layout == "stylegan2-ada" and loaded.generator.conv_clamp == 256
    assert loaded.latent_avg is not None and torch.equal(loaded.latent_avg, mean)
    assert torch.equal(loaded.generator.synthesis(codes(g)), g.synthesis(codes(g)))


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_module_gives_the_same_picture(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_names(monkeypatch)
    g = tiny_generator(16)
    loaded = load_generator(write_module(tmp_path / "model_x_multi_id.pt", g, torch.zeros(16), legacy))
    assert torch.equal(loaded.generator.synthesis(codes(g)), g.synthesis(codes(g)))


def port_file(kind: str, path: Path, g) -> Path:
    state = g.state_dict()
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    mean = torch.full((g.style_dim,), 0.5)
    contents = {
        "port": {"g_ema": state, "latent_avg": mean},
        "nada": {"g_ema": state, "g_optim": {"state": {}, "param_groups": [{"lr": 0.002}]}},
        "training": {"g": state, "g_ema": state, "args": argparse.Namespace(size=16, path="x")},
        "bare": state,
        "half": {"g_ema": {k: v.half() for k, v in state.items()}},
        "parallel": {f"module.{k}": v for k, v in state.items()},
    }[kind]
    torch.save(contents, path)
    return path


@pytest.mark.parametrize("kind", ["port", "nada", "training", "bare", "safetensors", "half"])
def test_generator_files_of_the_port(kind: str, tmp_path: Path) -> None:
    g = tiny_generator(16)
    loaded = load_generator(port_file(kind, tmp_path / "g.pt", g), size=16)
    assert (loaded.latent_avg is not None) is (kind == "port")
    assert {p.dtype for p in loaded.generator.parameters()} == {torch.float32}
    tolerance = 2e-2 if kind == "half" else 0.0
    torch.testing.assert_close(
        loaded.generator.synthesis(codes(g)), g.synthesis(codes(g)), rtol=tolerance, atol=tolerance
    )


def test_loaded_weights_are_trainable_and_own_their_memory(tmp_path: Path) -> None:
    file = port_file("port", tmp_path / "g.pt", tiny_generator(8))
    before = file.read_bytes()
    loaded = load_generator(file).generator
    assert all(p.requires_grad for p in loaded.parameters())
    for parameter in loaded.parameters():
        parameter.zero_()
    assert file.read_bytes() == before


def encoder_file(path: Path, encoder: nn.Module, g, encoder_type: str, **changes: Any) -> Path:
    opts = {"encoder_type": encoder_type, "stylegan_size": g.size, "output_size": g.size}
    mean = torch.randn(g.n_latent, g.style_dim, generator=torch.Generator().manual_seed(2))
    contents = {
        "state_dict": prefixed("encoder", encoder) | prefixed("decoder", g),
        "opts": opts | {"start_from_latent_avg": True, "n_iters_per_batch": 3},
        "latent_avg": mean,
    }
    torch.save({k: v for k, v in (contents | changes).items() if v is not None}, path)
    return path


def test_e4e_file_gives_offsets_plus_the_mean_code(tmp_path: Path) -> None:
    g = tiny_generator(16)
    encoder = E4EEncoder(16, dim=16).eval()
    loaded = load_encoder(encoder_file(tmp_path / "e4e.pt", encoder, g, "Encoder4Editing"), size=16)
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    assert loaded.kind == "e4e" and loaded.generator is not None
    torch.testing.assert_close(loaded.invert(x), encoder(x) + loaded.latent_avg)
    assert torch.equal(loaded.generator.synthesis(codes(g)), g.synthesis(codes(g)))


@pytest.mark.parametrize(
    ("encoder_type", "kind"),
    [("BackboneEncoder", "restyle-psp"), ("ProgressiveBackboneEncoder", "restyle-e4e")],
)
def test_restyle_file_refines_step_by_step(encoder_type: str, kind: str, tmp_path: Path) -> None:
    g = tiny_generator(16)
    encoder = ReStyleEncoder(g.n_latent, kind == "restyle-e4e", dim=16).eval()
    loaded = load_encoder(encoder_file(tmp_path / "r.pt", encoder, g, encoder_type))
    assert (loaded.kind, loaded.iterations) == (kind, 3)
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    steps = refine(encoder, g, x, loaded.latent_avg, 3)
    torch.testing.assert_close(loaded.invert(x), steps[-1])
    average = torch.nn.functional.adaptive_avg_pool2d(g.synthesis(loaded.latent_avg[None]), 256)
    first = encoder(torch.cat([x, average], 1)) + loaded.latent_avg
    torch.testing.assert_close(steps[0], first)
    shown = torch.nn.functional.adaptive_avg_pool2d(g.synthesis(first), 256)
    torch.testing.assert_close(steps[1], first + encoder(torch.cat([x, shown], 1)))


def test_restyle_variants_share_weights_but_not_codes() -> None:
    one, two = ReStyleEncoder(6, False, dim=16).eval(), ReStyleEncoder(6, True, dim=16).eval()
    two.load_state_dict(one.state_dict())
    x = torch.rand(1, 6, 256, 256)
    rows = one(x)
    torch.testing.assert_close(two(x)[:, 1:], rows[:, 1:] + rows[:, :1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent_avg": None}, "no latent_avg"),
        ({"latent_avg": torch.zeros(5, 16)}, r"latent_avg of shape \(5, 16\)"),
        ({"opts": {"encoder_type": "ResNetBackboneEncoder"}}, "ResNetBackboneEncoder"),
        ({"opts": {}}, "ReStyle encoder of type None"),
    ],
)
def test_encoder_files_that_lack_something_say_what(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    g = tiny_generator(16)
    encoder = ReStyleEncoder(g.n_latent, dim=16)
    with pytest.raises(WeightsError, match=words):
        load_encoder(encoder_file(tmp_path / "r.pt", encoder, g, "BackboneEncoder", **changes))


def mapper_file(path: Path, mapper: nn.Module, g, **opts: Any) -> Path:
    flags = {f"no_{level}_mapper": False for level in ("coarse", "medium", "fine")}
    torch.save(
        {
            "state_dict": prefixed("mapper", mapper) | prefixed("decoder", g),
            "opts": {"mapper_type": "LevelsMapper", "stylegan_size": g.size} | flags | opts,
        },
        path,
    )
    return path


def test_mapper_file_with_a_level_off(tmp_path: Path) -> None:
    g = tiny_generator(64)
    mapper = LevelsMapper(16, g.n_latent, fine=False)
    loaded = load_mapper(mapper_file(tmp_path / "m.pt", mapper, g, no_fine_mapper=True))
    residual = loaded(codes(g))
    assert torch.equal(residual, mapper(codes(g)))
    assert residual[:, 8:].abs().max() == 0 < residual[:, :8].abs().min()


def test_mapper_whose_options_contradict_its_tensors_is_refused(tmp_path: Path) -> None:
    g = tiny_generator(64)
    file = mapper_file(tmp_path / "m.pt", LevelsMapper(16, g.n_latent, fine=False), g)
    with pytest.raises(WeightsError, match="no_fine_mapper contradicts"):
        load_mapper(file)


def test_mapper_of_other_rows_or_style_space_is_refused(tmp_path: Path) -> None:
    g = tiny_generator(64)
    mapper = LevelsMapper(16, g.n_latent)
    with pytest.raises(WeightsError, match="10 rows, 18 are needed"):
        load_mapper(mapper_file(tmp_path / "m.pt", mapper, g), n_latent=18)
    with pytest.raises(WeightsError, match="style space"):
        load_mapper(mapper_file(tmp_path / "s.pt", mapper, g, work_in_stylespace=True))


def test_latent_transformer_and_classifier_files(tmp_path: Path) -> None:
    network, classifier = LatentTransformer(6, 16), LatentClassifier((96, 8, 4))
    w = torch.randn(2, 6, 16)
    torch.save(network.state_dict(), tmp_path / "tnet_15.pth.tar")
    torch.save({"T_net_state_dict": network.state_dict(), "n_epoch": 3}, tmp_path / "training.pth")
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    amount = torch.tensor([1.0, -0.5])
    for name in ("tnet_15.pth.tar", "training.pth"):
        assert torch.equal(load_latent_transformer(tmp_path / name)(w, amount), network(w, amount))
    assert torch.equal(load_latent_classifier(tmp_path / "classifier.pth")(w), classifier(w))


def test_raft_file_of_torchvision(tmp_path: Path) -> None:
    network = raft_small(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    loaded = load_raft(tmp_path / "raft.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_inspect_names_layout_and_resolution(tmp_path: Path) -> None:
    g = tiny_generator(64)
    found = inspect(port_file("parallel", tmp_path / "g.pt", g))
    assert (found.kind, found.resolution) == ("stylegan2-port", 64)
    torch.save(torch.zeros(1, 18, 512), tmp_path / "0.pt")
    assert inspect(tmp_path / "0.pt").kind == "tensor"
    assert load_tensor(tmp_path / "0.pt").shape == (1, 18, 512)


def test_numpy_values_among_the_options_are_read(tmp_path: Path) -> None:
    g = tiny_generator(8)
    contents = {"g_ema": g.state_dict(), "best": np.float64(0.25), "mean": np.arange(3.0)}
    torch.save(contents, tmp_path / "g.pt")
    assert torch.equal(load_generator(tmp_path / "g.pt").generator.synthesis(codes(g)), g.synthesis(codes(g)))


def clip_state() -> dict[str, Tensor]:
    """The keys by which CLIP is recognised, and no more."""
    return {"visual.conv1.weight": torch.zeros(64, 3, 8, 8), "token_embedding.weight": torch.zeros(9, 64)}


def test_clip_is_recognised_and_an_incomplete_one_refused(tmp_path: Path) -> None:
    torch.save(clip_state(), tmp_path / "clip.pt")
    assert inspect(tmp_path / "clip.pt").kind == "clip"
    with pytest.raises(WeightsError, match="no generator in the file but: clip"):
        load_generator(tmp_path / "clip.pt")
    if find_spec("open_clip") is None:
        pytest.skip("the extra clip is not installed")
    with pytest.raises(WeightsError, match=r"clip\.pt: no CLIP with a vision transformer"):
        load_clip(tmp_path / "clip.pt")


def test_without_its_package_clip_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(clip_state(), tmp_path / "clip.pt")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'tempcons\[clip\]'"):
        load_clip(tmp_path / "clip.pt")
