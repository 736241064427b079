"""A family with RAFT-small of one's own: from its file into the tables, the keys and the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import parsed
from tiny_assets import write_assets
from torchvision.models.optical_flow import raft_small

from experiments.zoo.train_flow import export_flow
from tempcons.check import ConfigError, WeightsError
from tempcons.family import FlowConfig, load_family
from tempcons.models import lucas_kanade
from tempcons.models.flow import DISFlow, RaftFlow
from tempcons.store.artefact import hash_file, make_key
from tempcons.weights import assets
from tempcons.weights.assets import save_asset

OWN = ("family.flow.kind=raft_small", "family.flow.updates=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An embedded family's files with two flow networks of random weights."""
    folder = write_assets(tmp_path_factory.mktemp("assets"))
    for seed, name in enumerate(("flow", "flow_2")):
        torch.manual_seed(seed)
        export_flow(raft_small(weights=None), folder / f"{name}.safetensors", updates=8, upscale=2)
    return folder


@pytest.fixture(autouse=True)
def embedded(place, monkeypatch) -> None:
    monkeypatch.setattr(assets, "ASSETS", place)


def family(*overrides: str) -> Any:
    return load_family(parsed(*overrides).family, torch.device("cpu"))


def test_the_default_is_dis():
    found = family()
    assert isinstance(found.flow, DISFlow)
    assert [record["kind"] for record in found.records] == ["generator", "encoder", "sampler"]


@pytest.mark.parametrize("by_path", [False, True])
def test_the_flow_network_of_the_file_is_used(place, by_path):
    file = place / "flow.safetensors"
    found = family(*OWN, f"family.flow.asset={file if by_path else 'flow'}")
    assert isinstance(found.flow, RaftFlow) and found.flow.name == "raft-small-own-x2-1-lk"
    kept = assets.read_asset(file, "flow").tensors
    for name, value in found.flow.model.state_dict().items():
        torch.testing.assert_close(value, kept[name], msg=name)
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    a.requires_grad_(True)
    flow = found.flow(a, b)
    assert flow.shape == (1, 2, 32, 32) and flow.isfinite().all()
    flow.square().sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0


def test_the_manifest_names_the_file(place):
    record = family(*OWN, "family.flow.asset=flow").records[-1]
    assert record["name"] == "flow" and record["kind"] == "flow"
    assert record["sha256"] == hash_file(place / "flow.safetensors")
    assert "Apache-2.0" in record["licence"]


def test_results_depend_on_what_the_file_holds(place):
    named = family(*OWN, "family.flow.asset=flow").depends["flow"]
    other = family(*OWN, "family.flow.asset=flow_2").depends["flow"]
    by_path = family(*OWN, f"family.flow.asset={place}/flow.safetensors").depends["flow"]
    assert make_key("any", named) == make_key("any", by_path) != make_key("any", other)


def test_results_depend_on_how_flow_is_sharpened(monkeypatch):
    told = (*OWN, "family.flow.asset=flow")
    before, dis = family(*told).depends["flow"], family().depends["flow"]
    monkeypatch.setattr(lucas_kanade, "SETTINGS", (1.0,))
    assert make_key("any", family(*told).depends["flow"]) != make_key("any", before)
    assert family().depends["flow"] == dis


def test_the_second_opinion_may_be_one_too():
    found = family("family.second_flow={kind: raft_small, asset: flow_2}")
    assert isinstance(found.second_flow, RaftFlow) and isinstance(found.flow, DISFlow)
    assert [record["name"] for record in found.records][-1] == "flow_2"


@pytest.mark.parametrize("name", ["flow_3", "elsewhere/flow.safetensors"])
def test_an_absent_file_is_told_of(name):
    with pytest.raises(WeightsError, match=f"no .*{name}.*experiments/zoo/README.md"):
        family(*OWN, f"family.flow.asset={name}")


def test_a_file_of_another_network_is_refused(place):
    with pytest.raises(WeightsError, match="holds encoder, not flow"):
        family(*OWN, "family.flow.asset=encoder")
    save_asset(place / "odd.safetensors", {"weight": torch.zeros(1)}, "flow", {})
    with pytest.raises(WeightsError, match="odd is no RAFT-small"):
        family(*OWN, "family.flow.asset=odd")
    save_asset(place / "odd.safetensors", raft_small(weights=None).state_dict(), "flow", {})
    with pytest.raises(WeightsError, match="odd does not say how it is used"):
        family(*OWN, "family.flow.asset=odd")


@pytest.mark.parametrize("changes", [{"kind": "dis"}, {"kind": "raft_large"}, {"weights": "raft-small"}])
def test_an_asset_is_raft_small_and_nothing_else(changes):
    with pytest.raises(ConfigError, match=r"flow\.kind=raft_small flow\.weights=null"):
        replace(FlowConfig("raft_small", asset="flow"), **changes)
