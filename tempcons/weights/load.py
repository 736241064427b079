"""Networks from files: the only place that reads weights into networks.

Every file is parsed by a reader that runs nothing (:mod:`tempcons.weights.archives`); plain
state dicts are then read by ``torch.load(weights_only=True)``, safetensors by their own library.
All networks come back on the CPU, in float32, in evaluation mode.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT, raft_large, raft_small

from tempcons.check import WeightsError
from tempcons.models.discriminator import Discriminator
from tempcons.models.e4e import E4EEncoder
from tempcons.models.irse import UNITS
from tempcons.models.latent_transformer import LatentClassifier, LatentTransformer
from tempcons.models.mapper import LEVELS, LevelsMapper
from tempcons.models.raft_keys import to_torchvision
from tempcons.models.restyle import ITERATIONS, ReStyleEncoder, refine
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights import layouts
from tempcons.weights.archives import read_archive
from tempcons.weights.convert import blank_generator, port_config, to_port
from tempcons.weights.layouts import Layout, describe, find_generator

TORCH_READS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
}
# NVIDIA's networks can be made otherwise; no checkpoint of this project's pipelines is.
USUAL_SETTINGS = {"activation": "lrelu", "lr_multiplier": 0.01, "architecture": "skip"}
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator, its mean code (D,) where the file has one, and the layout it came in."""

    generator: Generator
    latent_avg: Tensor | None
    layout: str


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder with the mean code (L, D) it starts from and the generator it was trained with."""

    encoder: E4EEncoder | ReStyleEncoder
    latent_avg: Tensor
    generator: Generator | None
    kind: str
    iterations: int = 1

    def invert(self, pictures: Tensor) -> Tensor:
        """(B, 3, 256, 256) pictures in [-1, 1] to (B, L, D) codes.

        Raises:
            WeightsError: a ReStyle file without the generator its loop needs.
        """
        if isinstance(self.encoder, E4EEncoder):
            return self.encoder(pictures) + self.latent_avg
        if self.generator is None:
            raise WeightsError("inversion", "the ReStyle file has no generator (decoder.*)")
        return refine(self.encoder, self.generator, pictures, self.latent_avg, self.iterations)[-1]


def read_file(path: str | Path) -> Any:
    """Contents of a weights file: dictionaries of tensors, or passive stand-ins for saved networks.

    Raises:
        WeightsError: missing, empty, truncated, damaged or refused files.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            "weights", f"no file {path}", "python -m tempcons.weights list shows what to fetch"
        )
    if path.stat().st_size == 0:
        raise WeightsError("weights", f"{path} is empty", "delete it and fetch it again")
    try:
        return _read(path)
    except WeightsError as error:
        raise WeightsError(error.stage, f"{path}: {error.what}", error.hint) from error


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, ValueError, OSError) as error:
            raise WeightsError("weights", f"no whole safetensors file ({error})", "fetch it again") from error
    archive = read_archive(path)
    if archive.container == "pickle" or not all(_torch_reads(name) for name in archive.names):
        return archive.root
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise WeightsError(
            "weights", f"PyTorch could not read it ({str(error)[:200]})", "fetch it again"
        ) from error


def _torch_reads(name: str) -> bool:
    return name in TORCH_READS or name.endswith("Storage")


def inspect(path: str | Path) -> Layout:
    """What a file holds: its layout, tensors, resolution and options."""
    path = Path(path)
    root = read_file(path)
    try:
        return describe(root)
    except WeightsError as error:
        raise WeightsError(error.stage, f"{path}: {error.what}", error.hint) from error


def load_generator(path: str | Path, size: int | None = None) -> LoadedGenerator:
    """A generator in any layout; from an encoder's or mapper's file, the one it was trained with.

    Args:
        size: the resolution needed, in pixels.

    Raises:
        WeightsError: no generator in the file, another resolution, or tensors that don't fit.
    """
    path = Path(path)
    found = find_generator(read_file(path))
    if found is None or found.kind not in (layouts.PORT, layouts.NVIDIA):
        kind = inspect(path).kind
        raise WeightsError("weights", f"{path} holds no generator but: {kind}")
    _check_resolution(path, found.resolution, size)
    return build_generator(found, str(path))


def build_generator(found: Layout, source: str) -> LoadedGenerator:
    """A generator from a recognised state."""
    state, mean = found.state, found.latent_avg
    if found.kind == layouts.NVIDIA:
        state, stored = to_port(state)
        mean = mean if stored is None else stored
    config = port_config(state) | {"conv_clamp": _conv_clamp(found.opts, source)}
    generator = fill(blank_generator(config), state, source)
    return LoadedGenerator(generator, _mean_code(mean, generator, source), found.kind)


def _mean_code(mean: Tensor | None, generator: Generator, source: str) -> Tensor | None:
    """(D,) from a mean code stored once or repeated to all rows."""
    if mean is None:
        return None
    if mean.shape[-1:] != (generator.style_dim,):
        raise WeightsError("weights", f"{source}: mean code of shape {tuple(mean.shape)}")
    return mean.reshape(-1, generator.style_dim)[0].float().clone()


def _conv_clamp(arguments: Mapping[str, Any], source: str) -> float | None:
    """The bound of the activations in NVIDIA's constructor arguments; variants of the network are refused."""
    mapping, synthesis = (
        part if isinstance(part, Mapping) else {}
        for part in (arguments.get("mapping_kwargs"), arguments.get("synthesis_kwargs"))
    )
    for settings in (mapping, synthesis):
        for name, usual in USUAL_SETTINGS.items():
            if settings.get(name, usual) != usual:
                raise WeightsError("weights", f"{source}: {name}={settings[name]!r:.40}, only {usual} works")
    clamp = synthesis.get("conv_clamp")
    return float(clamp) if isinstance(clamp, (int, float)) else None


def load_discriminator(path: str | Path) -> Discriminator:
    """NVIDIA's discriminator from a snapshot ("D") or a bare state dict.

    Raises:
        WeightsError: none in the file, or tensors that don't fit.
    """
    root = read_file(path)
    found = describe(root["D"] if isinstance(root, Mapping) and "D" in root else root)
    _expect(found, path, layouts.DISCRIMINATOR)
    assert found.resolution is not None
    state = found.state
    channels = {4: _width(state, "b4.conv.weight", path)}
    for resolution in (2**k for k in range(3, found.resolution.bit_length())):
        channels[resolution] = _width(state, f"b{resolution}.conv0.weight", path)
    group = found.opts.get("epilogue_kwargs", {}).get("mbstd_group_size", 4)
    clamp = found.opts.get("conv_clamp")
    with torch.device("meta"):
        network = Discriminator(found.resolution, channels, clamp, group)
    return fill(network, state, str(path))


def _width(state: Mapping[str, Tensor], key: str, path: str | Path) -> int:
    if key not in state or state[key].ndim < 1:
        raise WeightsError("weights", f"{path} has no {key}", "is the file whole?")
    return state[key].shape[0]


def load_encoder(path: str | Path, size: int | None = None) -> LoadedEncoder:
    """e4e, ReStyle-pSp or ReStyle-e4e in the official layout.

    Args:
        size: the generator's resolution needed, in pixels.

    Raises:
        WeightsError: another network, another resolution, or tensors that don't fit.
    """
    root = read_file(path)
    found = describe(root)
    _expect(found, path, layouts.E4E, layouts.RESTYLE_PSP, layouts.RESTYLE_E4E)
    _check_resolution(path, found.resolution, size)
    encoder = fill(_blank_encoder(found, path), found.state, str(path), found.kind == layouts.RESTYLE_PSP)
    held = find_generator(root)
    generator = None if held is None else build_generator(held, f"{path} (decoder)").generator
    mean = _mean_rows(found, encoder.n_styles, encoder.styles[0].linear.weight.shape[0], path)
    iterations = found.opts.get("n_iters_per_batch", ITERATIONS) if found.kind != layouts.E4E else 1
    return LoadedEncoder(encoder, mean, generator, found.kind, int(iterations))


def _blank_encoder(found: Layout, path: str | Path) -> E4EEncoder | ReStyleEncoder:
    state = found.state
    rows = len({m[1] for m in (re.match(r"styles\.(\d+)\.", key) for key in state) if m})
    units = len({m[1] for m in (re.match(r"body\.(\d+)\.", key) for key in state) if m})
    depth = next((d for d, stages in UNITS.items() if sum(stages) == units), None)
    size = 2 ** (rows // 2 + 1)
    if depth is None or "styles.0.linear.weight" not in state or rows < 4:
        raise WeightsError(
            "weights", f"{path}: an encoder of {units} units and {rows} rows", "is the file whole?"
        )
    dim, squeeze = state["styles.0.linear.weight"].shape[0], any(".fc1." in key for key in state)
    with torch.device("meta"):
        if found.kind == layouts.E4E:
            return E4EEncoder(size, dim, depth, squeeze)
        channels = state["input_layer.0.weight"].shape[1]
        return ReStyleEncoder(rows, found.kind == layouts.RESTYLE_E4E, dim, channels, depth, squeeze)


def _mean_rows(found: Layout, rows: int, dim: int, path: str | Path) -> Tensor:
    """The mean code as (L, D)."""
    if found.latent_avg is None:
        if found.kind == layouts.E4E and found.opts.get("start_from_latent_avg") is False:
            return torch.zeros(rows, dim)
        raise WeightsError("weights", f"{path} has no latent_avg, which its codes are relative to")
    mean = found.latent_avg.float()
    if mean.shape not in ((dim,), (1, dim), (rows, dim), (1, rows, dim)):
        raise WeightsError(
            "weights", f"{path}: latent_avg has shape {tuple(mean.shape)}, not ({rows}, {dim})"
        )
    return mean.reshape(-1, dim).expand(rows, dim).clone()


def load_mapper(path: str | Path, n_latent: int | None = None) -> LevelsMapper:
    """StyleCLIP's levels mapper; levels that the file lacks are off.

    Args:
        n_latent: rows L, needed where the file doesn't say which generator it is for.

    Raises:
        WeightsError: another network, another number of rows, or levels that contradict the options.
    """
    found = inspect(path)
    _expect(found, path, layouts.MAPPER)
    rows = num_layers(found.resolution) if found.resolution else n_latent
    if rows is None:
        raise WeightsError("weights", f"{path} doesn't say how many rows its codes have", "give n_latent")
    if n_latent is not None and rows != n_latent:
        raise WeightsError("weights", f"{path} is for codes of {rows} rows, {n_latent} are needed")
    levels = {}
    for group, level in zip(LEVELS, ("coarse", "medium", "fine"), strict=True):
        levels[level] = any(key.startswith(group) for key in found.state)
        if found.opts.get(f"no_{level}_mapper", not levels[level]) is levels[level]:
            raise WeightsError("weights", f"{path}: option no_{level}_mapper contradicts its tensors")
    weight = next(value for key, value in found.state.items() if key.endswith(".weight"))
    with torch.device("meta"):
        mapper = LevelsMapper(weight.shape[0], rows, **levels)
    return fill(mapper, found.state, str(path))


def load_raft(path: str | Path) -> RAFT:
    """RAFT, large or small, from the authors' or torchvision's file.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    found = inspect(path)
    _expect(found, path, layouts.RAFT_ORIGINAL, layouts.RAFT_TORCHVISION)
    state = to_torchvision(found.state) if found.kind == layouts.RAFT_ORIGINAL else found.state
    large = any(key.startswith("mask_predictor.") for key in state)
    with torch.device("meta"):
        network = (raft_large if large else raft_small)(weights=None)
    return fill(network, state, str(path))


def load_latent_transformer(path: str | Path) -> LatentTransformer:
    """One attribute's latent transformer.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    found = inspect(path)
    _expect(found, path, layouts.TRANSFORMER)
    rows = sum(key.endswith(".weight") for key in found.state)
    with torch.device("meta"):
        network = LatentTransformer(rows, found.state["dense.0.weight"].shape[0])
    return fill(network, found.state, str(path))


def load_latent_classifier(path: str | Path) -> LatentClassifier:
    """The attribute classifier of the latent transformer.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    found = inspect(path)
    _expect(found, path, layouts.CLASSIFIER)
    weights = [v for k, v in sorted(found.state.items()) if k.endswith(".weight") and v.ndim == 2]
    with torch.device("meta"):
        network = LatentClassifier([weights[0].shape[1], *(w.shape[0] for w in weights)])
    return fill(network, found.state, str(path))


def load_state(path: str | Path) -> dict[str, Tensor]:
    """A dictionary of tensors, whatever it belongs to.

    Raises:
        WeightsError: a file of another kind.
    """
    return layouts.tensors(read_file(path))


def load_tensor(path: str | Path) -> Tensor:
    """A file of one tensor (``.pt``).

    Raises:
        WeightsError: a file of another kind.
    """
    return layouts.as_tensor(read_file(path))


def fill(network: Network, state: Mapping[str, Tensor], source: str, extra_allowed: bool = False) -> Network:
    """Give a blank network its tensors, in float32 and memory of its own.

    Args:
        extra_allowed: warn of unexpected tensors instead of refusing them (the authors' own
            loader of ReStyle-pSp files leaves them out as well).

    Raises:
        WeightsError: missing, unexpected or misshapen tensors.
    """
    wanted = network.state_dict()
    missing, unexpected = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if unexpected and extra_allowed:
        warnings.warn(f"{source}: left out {len(unexpected)} tensors ({unexpected[0]}, ...)", stacklevel=2)
        unexpected = []
    if missing or unexpected:
        parts = [
            f"{len(keys)} {word} tensors ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for word, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise WeightsError("weights", f"{source}: {' and '.join(parts)} for {type(network).__name__}")
    wrong = [k for k, v in wanted.items() if state[k].shape != v.shape]
    if wrong:
        shapes = ", ".join(
            f"{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}" for k in wrong[:3]
        )
        raise WeightsError("weights", f"{source}: {len(wrong)} tensors of another shape: {shapes}")
    own = {k: _own(state[k], wanted[k].dtype) for k in wanted}
    network.load_state_dict(own, assign=True)
    return network.eval()


def _own(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to(dtype).clone(memory_format=torch.contiguous_format)


def _expect(found: Layout, path: str | Path, *kinds: str) -> None:
    if found.kind not in kinds:
        raise WeightsError("weights", f"{path} holds {found.kind}, not {' or '.join(kinds)}")


def _check_resolution(path: str | Path, found: int | None, wanted: int | None) -> None:
    if wanted is not None and found is not None and found != wanted:
        raise WeightsError("weights", f"{path} is made for {found} px, this run needs {wanted} px")
