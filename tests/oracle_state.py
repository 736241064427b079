"""Oracle cases: where they are, their states made by rule, and their tolerances."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
DEFAULT_FOLDER = Path(__file__).parents[1] / ".." / "shared" / "oracles"


def oracle_folder() -> Path:
    return Path(os.environ.get("TEMPCONS_ORACLES", DEFAULT_FOLDER)).resolve()


def cases(name: str) -> list[Any]:
    """Parameters for every case NAME_*.json; one that skips, with its reason, if there is none."""
    listed = oracle_folder().glob(f"{name}_*.json")
    found = sorted(p for p in listed if p.with_suffix(".safetensors").exists())
    if found:
        return [pytest.param(path, id=path.stem) for path in found]
    reason = f"no oracle {name}_*.json in {oracle_folder()} (set TEMPCONS_ORACLES)"
    return [pytest.param(None, id=name, marks=pytest.mark.skip(reason=reason))]


def manifest(name: str) -> dict[str, Any]:
    """A manifest (key -> shape), or skip."""
    path = oracle_folder() / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path} (set TEMPCONS_ORACLES)")
    return json.loads(path.read_text())


def manifest_state(name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Zeros of every shape and type in a manifest."""
    entries = manifest(name)["keys_in_state_dict_order"]
    return {
        k: torch.zeros(shape, dtype=getattr(torch, kind), device=device)
        for k, (shape, kind) in entries.items()
    }


def fill_by_rule(state: Mapping[str, Tensor], rule: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of an oracle: every tensor made from its key, shape and the rule's seed."""
    return {key: _value(key, tensor, rule) for key, tensor in state.items()}


def _value(key: str, tensor: Tensor, rule: Mapping[str, Any]) -> Tensor:
    kind, mean, std = next(entry[1:] for entry in rule["rules"] if re.fullmatch(entry[0], key))
    if kind == "keep":
        return tensor.clone()
    shape = tuple(tensor.shape)
    seed = (zlib.crc32(key.encode("utf-8")) ^ rule["seed"]) & 0xFFFFFFFF
    x = np.random.RandomState(seed).standard_normal(int(np.prod(shape))).reshape(shape)
    if kind == "abs":
        x = np.abs(x)
    elif kind == "fan_in":
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(mean + std * x, dtype=np.float64)).float()


def filled(network: Network, rule: Mapping[str, Any]) -> Network:
    """The network with the state of a rule, checked against the recorded hash if there is one."""
    state = fill_by_rule(network.state_dict(), rule)
    if "sha256" in rule:
        assert state_sha256(state) == rule["sha256"]
    network.load_state_dict(state)
    return network.eval()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode("utf-8"))
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Case:
    """One oracle: its description and its tensors, without the in/, out/ and state/ prefixes."""

    info: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]
    path: Path

    def number_in_calls(self, name: str) -> int:
        """The value of ``name=`` in the calls on record."""
        found = re.search(rf"{name}=(\d+)", str(self.info["calls"]))
        assert found is not None, name
        return int(found[1])

    def close(self, name: str, got: Tensor) -> None:
        """Compare with a recorded output at the case's own tolerance."""
        want = self.outputs[name]
        rtol, atol = self.tolerance(want)
        torch.testing.assert_close(got, want, rtol=rtol, atol=atol)

    def tolerance(self, want: Tensor) -> tuple[float, float]:
        stated = self.info["tolerance"]
        text = stated if isinstance(stated, str) else stated["suggested"]
        rtol, atol = (re.search(rf"{word} ([0-9.e+-]+)", text) for word in ("rtol", "atol"))
        scale = float(want.std()) if "code std" in text else 1.0
        return float(rtol[1]) if rtol else 0.0, float(atol[1]) * scale if atol else 0.0


def load_case(path: Path) -> Case:
    tensors = load_file(path.with_suffix(".safetensors"))

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    return Case(json.loads(path.read_text()), part("in/"), part("out/"), part("state/"), path)


def pictures(uint8: Tensor) -> Tensor:
    return uint8.float() / 127.5 - 1
