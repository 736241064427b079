"""Files as NVIDIA's and the PyTorch port's code write them, made without that code."""

from __future__ import annotations

import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tempcons.models.stylegan2 import Generator
from tempcons.weights.convert import to_nvidia

EXPLOSIVE_SOURCE = "raise RuntimeError('the source text in the snapshot was executed')"


def tiny_generator(size: int = 32, seed: int = 0, **changes: Any) -> Generator:
    """A generator with a few features; noise strengths and biases are not zero."""
    torch.manual_seed(seed)
    channels = {4: 8, 8: 8, 16: 6, 32: 4, 64: 4, 128: 2}
    arguments: dict[str, Any] = {"style_dim": 16, "n_mlp": 2, "channels": channels} | changes
    g = Generator(size, **arguments)
    for name, parameter in g.named_parameters():
        if parameter.ndim == 1 or name.endswith("noise.weight"):
            torch.nn.init.normal_(parameter, 1.0 if "modulation" in name else 0.0, 0.1)
    return g.eval()


class Persistent:
    """Pickles like an object of NVIDIA's persistence module."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": EXPLOSIVE_SOURCE,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self) -> tuple:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def install_names(patch: pytest.MonkeyPatch) -> None:
    """Put stand-ins of NVIDIA's modules where the pickler looks names up."""

    def _reconstruct_persistent_obj(meta: dict) -> None:
        raise AssertionError("called")

    class EasyDict(dict):
        pass

    for name, value in (
        ("torch_utils.persistence", _reconstruct_persistent_obj),
        ("dnnlib.util", EasyDict),
    ):
        module = types.ModuleType(name)
        patch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))
        value.__module__, value.__qualname__ = name, value.__name__
        setattr(module, value.__name__, value)
        patch.setitem(sys.modules, name, module)


def as_module(state: dict[str, Tensor], class_name: str = "Generator", **arguments: Any) -> Persistent:
    """Nested persistent objects from dotted names."""
    parts: dict[str, dict[str, Tensor]] = {}
    own: dict[str, Any] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if rest:
            parts.setdefault(head, {})[rest] = value
        else:
            own[key] = value
    buffers = {k: own.pop(k) for k in list(own) if k in ("resample_filter", "noise_const", "w_avg")}
    parameters = {k: torch.nn.Parameter(v) for k, v in own.items()}
    return Persistent(
        class_name,
        {
            "training": False,
            "_parameters": parameters,
            "_buffers": buffers,
            "_non_persistent_buffers_set": set(),
            "_modules": {name: as_module(part, name) for name, part in parts.items()},
            "_init_args": (),
            "_init_kwargs": sys.modules["dnnlib.util"].EasyDict(arguments),
        },
    )


def nvidia_module(g: Generator, mean: Tensor, **arguments: Any) -> Persistent:
    return as_module({k: v.detach() for k, v in to_nvidia(g.state_dict(), mean).items()}, **arguments)


def write_snapshot(path: Path, g: Generator, mean: Tensor, protocol: int = 3) -> Path:
    """``pickle.dump`` of a training snapshot; storages nest as old torch.save files."""
    module = nvidia_module(g, mean, synthesis_kwargs={"conv_clamp": 256})
    easy = sys.modules["dnnlib.util"].EasyDict(path="ffhq.zip")
    path.write_bytes(pickle.dumps({"training_set_kwargs": easy, "G": None, "G_ema": module}, protocol))
    return path


def write_module(path: Path, g: Generator, mean: Tensor, legacy: bool = False) -> Path:
    """``torch.save`` of a whole module, in today's or the old format."""
    stream = io.BytesIO()
    torch.save(nvidia_module(g, mean), stream, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(stream.getvalue())
    return path
