"""The weights that come with the package: safetensors with their settings in the header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tempcons.check import WeightsError, near_names
from tempcons.store.artefact import hash_file

ASSETS = Path(__file__).parent.parent / "assets"


@dataclass(frozen=True)
class Asset:
    """Tensors of one file (float32), its settings, and where it comes from.

    ``record`` goes into manifests: name, sha256, licence, card.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    record: dict[str, str]


def list_assets() -> list[str]:
    """Names of the files that come with the package."""
    return sorted(p.stem for p in ASSETS.glob("*.safetensors"))


def load_asset(name: str, kind: str) -> Asset:
    """Read ``NAME.safetensors`` and check that it is of the expected kind.

    Raises:
        WeightsError: no such file, damaged, or of another kind.
    """
    path = ASSETS / f"{name}.safetensors"
    if not path.exists():
        raise WeightsError("weights", f"no embedded weights named {name!r}", near_names(name, list_assets()))
    return read_asset(path, kind)


def read_asset(path: Path, kind: str) -> Asset:
    """Read a file written by :func:`save_asset`; half-precision tensors come back as float32."""
    try:
        with safe_open(str(path), "pt") as file:
            header = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError("weights", f"{path} is damaged ({error})", "reinstall the package") from error
    if header.get("kind") != kind:
        raise WeightsError("weights", f"{path} holds {header.get('kind', 'something unnamed')}, not {kind}")
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    record = {
        "name": path.stem,
        "kind": kind,
        "sha256": hash_file(path),
        "licence": header.get("licence", "unknown"),
        "card": header.get("card", ""),
    }
    return Asset(tensors, json.loads(header.get("config", "{}")), record)


def save_asset(
    path: Path,
    tensors: dict[str, Tensor],
    kind: str,
    config: dict[str, Any],
    licence: str = "Apache-2.0",
    half: bool = True,
) -> None:
    """Write tensors (as float16 unless ``half`` is off) with settings and licence in the header."""
    kept = {
        k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in tensors.items()
    }
    header = {"kind": kind, "config": json.dumps(config), "licence": licence, "card": f"{path.stem}.md"}
    temporary = path.with_suffix(".tmp")
    save_file(kept, str(temporary), metadata=header)
    temporary.replace(path)


def save_state(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write full-precision tensors of a run (codes, tuned generators) as safetensors."""
    save_asset(path, tensors, "run", config, licence="as the weights it was tuned from", half=False)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`save_state` wrote."""
    asset = read_asset(path, "run")
    return asset.tensors, asset.config
