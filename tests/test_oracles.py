"""Parity with the reference implementations, on every case found in the oracle folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracle_state import (
    Case,
    cases,
    fill_by_rule,
    filled,
    load_case,
    manifest,
    manifest_state,
    pictures,
)
from torch import nn
from torchvision.models.optical_flow import raft_large, raft_small

from tempcons.losses.local_regularisation import move_code
from tempcons.media.range import to_frames
from tempcons.models.discriminator import Discriminator
from tempcons.models.e4e import E4EEncoder
from tempcons.models.flow import RaftFlow
from tempcons.models.irse import IRBackbone
from tempcons.models.latent_transformer import EDITED_ROWS, LatentClassifier, LatentTransformer
from tempcons.models.mapper import LevelsMapper
from tempcons.models.raft_keys import to_torchvision, torchvision_key
from tempcons.models.restyle import ReStyleEncoder
from tempcons.models.stylegan2 import Generator, default_channels
from tempcons.weights.build import build_generator
from tempcons.weights.convert import to_nvidia, to_port
from tempcons.weights.layouts import describe
from tempcons.weights.load import inspect, load_discriminator, load_generator, load_raft

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("path", cases("rosinality_generator"))
def test_oracle_rosinality_generator(path: Path) -> None:
    case = load_case(path)
    made = case.info["constructor"]
    channels = default_channels(made["channel_multiplier"])
    g = filled(Generator(made["size"], made["style_dim"], made["n_mlp"], channels), case.info["state_rule"])
    case.close("image_w_plus", g.synthesis(case.inputs["w_plus"]))
    noise = [case.inputs[f"noise_{i}"] for i in range(g.num_noises)]
    case.close("image_w_plus_noise_given", g.synthesis(case.inputs["w_plus"], noise))
    case.close("w_of_z", g.style(case.inputs["z"]))
    codes = g.mapping(case.inputs["z"], 0.7, case.inputs["truncation_latent"])
    case.close("latents_z_trunc07", codes)
    case.close("image_z_trunc07", g.synthesis(codes))
    row = case.number_in_calls("inject_index")
    mixed = torch.cat([g.mapping(case.inputs["z"])[:, :row], g.mapping(case.inputs["z_mix"])[:, row:]], 1)
    case.close("latents_mix", mixed)
    case.close("image_mix", g.synthesis(mixed))


@pytest.mark.parametrize("path", cases("e4e_encoder"))
def test_oracle_e4e_encoder(path: Path) -> None:
    case = load_case(path)
    made = case.info["constructor"]
    depth, squeeze = made["num_layers"], made["mode"] == "ir_se"
    encoder = E4EEncoder(made["stylegan_size"], depth=depth, squeeze=squeeze)
    _check_encoder(case, filled(encoder, case.info["state_rule"]))


@pytest.mark.parametrize("path", cases("restyle_psp_encoder"))
def test_oracle_restyle_psp_encoder(path: Path) -> None:
    _check_restyle(load_case(path), progressive=False)


@pytest.mark.parametrize("path", cases("restyle_e4e_encoder"))
def test_oracle_restyle_e4e_encoder(path: Path) -> None:
    _check_restyle(load_case(path), progressive=True)


def _check_restyle(case: Case, progressive: bool) -> None:
    made = case.info["constructor"]
    encoder = ReStyleEncoder(
        made["n_styles"],
        progressive,
        input_nc=made["input_nc"],
        depth=made["num_layers"],
        squeeze=made["mode"] == "ir_se",
    )
    _check_encoder(case, filled(encoder, case.info["state_rule"]))


def _check_encoder(case: Case, encoder: IRBackbone) -> None:
    x = pictures(case.inputs["image_uint8"])
    case.close("body", encoder.body(encoder.input_layer(x))[:, ::32, ::4, ::4])
    case.close("codes", encoder(x))


@pytest.mark.parametrize("path", cases("styleclip_levels_mapper"))
def test_oracle_styleclip_levels_mapper(path: Path) -> None:
    case = load_case(path)
    made = case.info["constructor"]
    w = case.inputs["w"]
    coarse, medium, fine = (not made[f"no_{level}_mapper"] for level in ("coarse", "medium", "fine"))
    mapper = LevelsMapper(w.shape[2], w.shape[1], coarse=coarse, medium=medium, fine=fine)
    mapper = filled(mapper, case.info["state_rule"])
    delta = mapper(w)
    case.close("delta", delta)
    case.close("edited", w + 0.1 * delta)
    if "first_group_after_pixel_norm" in case.outputs and coarse:
        first_group = mapper.get_submodule("course_mapping.mapping.0")
        case.close("first_group_after_pixel_norm", first_group(w[:, :4]))


@pytest.mark.parametrize("path", cases("latent_transformer"))
def test_oracle_latent_transformer(path: Path) -> None:
    case = load_case(path)
    w, coefficient = case.inputs["w"], case.inputs["coeff"]
    network = filled(LatentTransformer(w.shape[1], w.shape[2]), case.info["state_rule"])
    case.close("w_edited", network(w, coefficient))
    case.close("w_edited_first_11_rows", network(w, coefficient, rows=EDITED_ROWS))
    widths = (w[0].numel(), 2048, 512, case.outputs["classifier_logits"].shape[1])
    classifier = filled(LatentClassifier(widths), case.info["classifier_state_rule"])
    case.close("classifier_logits", classifier(w))


@pytest.mark.parametrize("path", cases("nvlabs_generator"))
def test_oracle_nvlabs_generator(path: Path) -> None:
    case = load_case(path)
    made = case.info["constructor"]
    clamp = made["synthesis_kwargs"].get("conv_clamp")
    found = describe(case.state)
    loaded = build_generator(replace(found, opts=made))
    g, mean = loaded.generator, loaded.latent_avg
    assert (g.size, g.style_dim, g.z_dim) == (made["img_resolution"], made["w_dim"], made["z_dim"])
    assert g.conv_clamp == clamp
    z, cutoff = case.inputs["z"], case.info["truncation_cutoff"]
    _check_synthesis(case, g)
    case.close("ws", g.mapping(z))
    codes = g.mapping(z, 0.5, mean)
    case.close("ws_psi05", codes)
    case.close("ws_psi07_cutoff", g.mapping(z, 0.7, mean, cutoff))
    case.close("image_z_psi05_const", g.synthesis(codes))


def _check_synthesis(case: Case, g: Generator) -> None:
    case.close("image_const", g.synthesis(case.inputs["ws"]))
    case.close("image_none", g.synthesis(case.inputs["ws"], noise="none"))


@pytest.mark.parametrize("path", cases("nvlabs_tiny"))
def test_oracle_nvlabs_tiny_snapshot(path: Path) -> None:
    case = load_case(path)
    file = path.parent / case.info["pickle_file"]
    loaded = load_generator(file)
    _check_state(case, inspect(file).state)
    _check_synthesis(case, loaded.generator)
    case.close("ws_psi05", loaded.generator.mapping(case.inputs["z"], 0.5, loaded.latent_avg))
    case.close("d_logits", load_discriminator(file)(case.inputs["d_image"]))


@pytest.mark.parametrize("path", cases("pti_tiny"))
def test_oracle_pti_tiny_module(path: Path) -> None:
    case = load_case(path)
    file = path.parent / case.info["pt_file"]
    _check_state(case, inspect(file).state)
    _check_synthesis(case, load_generator(file).generator)


def _check_state(case: Case, state: dict) -> None:
    assert set(state) == set(case.state)
    assert all(torch.equal(state[key], value) for key, value in case.state.items())


@pytest.mark.parametrize("path", cases("raft_large"))
def test_oracle_raft_large(path: Path, tmp_path: Path) -> None:
    _check_raft(load_case(path), "manifest_raft_large_original", tmp_path)


@pytest.mark.parametrize("path", cases("raft_small"))
def test_oracle_raft_small(path: Path, tmp_path: Path) -> None:
    _check_raft(load_case(path), "manifest_raft_small_original", tmp_path)


def _check_raft(case: Case, keys: str, tmp_path: Path) -> None:
    """The authors' file layout, through the key rule, into torchvision's network and our wrapper."""
    state = fill_by_rule(manifest_state(keys), case.info["state_rule"])
    file = tmp_path / "raft.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, file)
    network = load_raft(file)
    one, two = pictures(case.inputs["image1_uint8"]), pictures(case.inputs["image2_uint8"])
    updates = case.number_in_calls("iters")
    flows = network(one, two, num_flow_updates=updates)
    case.close("flow_up", flows[-1])
    case.close("flow_up_iter1", flows[0])
    case.close("flow_up", RaftFlow(network, updates)(one, two))


@pytest.mark.parametrize("size", ["large", "small"])
def test_oracle_raft_key_table(size: str) -> None:
    table = manifest("raft_key_mapping")["sizes"][size]
    assert {key: torchvision_key(key) for key in table["map"]} == table["map"]
    assert all(torchvision_key(key) is None for key in table["dropped_duplicates"])


@pytest.mark.parametrize("path", cases("locality_code"))
def test_oracle_locality_code(path: Path) -> None:
    case = load_case(path)
    moved = move_code(case.inputs["fixed_w"], case.inputs["new_w"], case.info["alpha"])
    torch.testing.assert_close(moved, case.outputs["moved"], rtol=1e-5, atol=1e-6)
    frame = to_frames(case.inputs["image"])[0]
    assert (frame == case.outputs["image_uint8_final"].numpy()).all()


def on_meta(make) -> nn.Module:
    with torch.device("meta"):
        return make()


MANIFESTS = {
    "manifest_rosinality_1024": lambda: Generator(1024),
    "manifest_e4e_encoder_1024": lambda: E4EEncoder(1024),
    "manifest_restyle_psp_encoder_1024": lambda: ReStyleEncoder(18),
    "manifest_restyle_e4e_encoder_1024": lambda: ReStyleEncoder(18, progressive=True),
    "manifest_styleclip_levels_mapper": lambda: LevelsMapper(),
    "manifest_latent_transformer": lambda: LatentTransformer(),
    "manifest_latent_classifier": lambda: LatentClassifier(),
    "manifest_nvlabs_discriminator_1024": lambda: Discriminator(1024, default_channels()),
}


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_oracle_manifest_loads_at_full_size(name: str) -> None:
    state = manifest_state(name, device="meta")
    network = on_meta(MANIFESTS[name])
    assert list(network.load_state_dict(state, assign=True)) == [[], []]
    assert {k: v.dtype for k, v in network.state_dict().items()} == {k: v.dtype for k, v in state.items()}


def test_oracle_manifest_nvlabs_1024_converts_both_ways() -> None:
    state = manifest_state("manifest_nvlabs_1024", device="meta")
    ported, mean = to_port(state)
    assert list(on_meta(lambda: Generator(1024)).load_state_dict(ported, assign=True)) == [[], []]
    back = to_nvidia(ported, mean)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("size", ["large", "small"])
def test_oracle_manifest_raft_loads_at_full_size(size: str) -> None:
    state = to_torchvision(manifest_state(f"manifest_raft_{size}_original", device="meta"))
    network = on_meta(lambda: (raft_large if size == "large" else raft_small)(weights=None))
    assert list(network.load_state_dict(state, assign=True)) == [[], []]
