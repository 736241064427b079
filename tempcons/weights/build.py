"""Networks from recognised states: sizes read from shapes, every tensor accounted for.

Networks are made without memory and then given their tensors, so a wrong file costs nothing.
They come back in float32 and evaluation mode.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from tempcons.check import WeightsError
from tempcons.models.clip import TextImageModel, blank_clip, text_image_model
from tempcons.models.discriminator import Discriminator
from tempcons.models.e4e import E4EEncoder
from tempcons.models.face_parsing import FaceParser
from tempcons.models.irse import UNITS
from tempcons.models.latent_transformer import LatentClassifier, LatentTransformer
from tempcons.models.mapper import LEVELS, LevelsMapper
from tempcons.models.raft_keys import to_torchvision
from tempcons.models.restyle import ITERATIONS, ReStyleEncoder, refine
from tempcons.models.stylegan2 import Generator, num_layers
from tempcons.weights import layouts
from tempcons.weights.convert import blank_generator, describe_keys, port_config, to_port
from tempcons.weights.inert import short
from tempcons.weights.layouts import Layout

if TYPE_CHECKING:  # torchvision takes seconds to load
    from torchvision.models.optical_flow import RAFT

# NVIDIA's networks can be made otherwise; no checkpoint of this project's pipelines is.
USUAL_SETTINGS = {"activation": "lrelu", "lr_multiplier": 0.01, "architecture": "skip"}
MIN_ROWS, MAX_ROWS = 4, 18
CLIP_SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers stored beside its weights
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
        mean = self.latent_avg.to(pictures)
        if isinstance(self.encoder, E4EEncoder):
            return self.encoder(pictures) + mean
        if self.generator is None:
            raise WeightsError("inversion", "the ReStyle file has no generator (decoder.*)")
        return refine(self.encoder, self.generator, pictures, mean, self.iterations)[-1]

    def to(self, device: str | torch.device) -> LoadedEncoder:
        """The same networks, moved."""
        self.encoder.to(device)
        if self.generator is not None:
            self.generator.to(device)
        return self


def fill(network: Network, state: Mapping[str, Tensor], extra_allowed: bool = False) -> Network:
    """Give a blank network its tensors, in float32 and memory of its own.

    Args:
        extra_allowed: warn of unexpected tensors instead of refusing them.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors.
    """
    wanted = network.state_dict()
    unexpected = set(state) - set(wanted)
    if unexpected and extra_allowed:
        warnings.warn(f"left out {len(unexpected)} tensors ({min(unexpected)}, ...)", stacklevel=2)
        unexpected = set()
    if problem := describe_keys(set(wanted) - set(state), unexpected):
        raise WeightsError("weights", f"{problem} for {type(network).__name__}", "is the file whole?")
    wrong = [k for k, v in wanted.items() if state[k].shape != v.shape]
    if wrong:
        shapes = [f"{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}" for k in wrong[:3]]
        raise WeightsError("weights", f"{len(wrong)} tensors of another shape: {', '.join(shapes)}")
    network.load_state_dict({k: _own(state[k], v.dtype) for k, v in wanted.items()}, assign=True)
    return network.eval()


def _own(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to(dtype).clone(memory_format=torch.contiguous_format)


def build_generator(found: Layout) -> LoadedGenerator:
    """A generator in either layout."""
    expect(found, layouts.PORT, layouts.NVIDIA)
    state, mean = found.state, found.latent_avg
    if found.kind == layouts.NVIDIA:
        state, stored = to_port(state)
        mean = mean if stored is None else stored
    config = port_config(state) | {"conv_clamp": _conv_clamp(found.opts)}
    generator = fill(blank_generator(config), state)
    return LoadedGenerator(generator, _mean_code(mean, generator), found.kind)


def _mean_code(mean: Tensor | None, generator: Generator) -> Tensor | None:
    """(D,) from a mean code stored once or repeated to all rows."""
    if mean is None:
        return None
    if mean.shape[-1:] != (generator.style_dim,) or mean.numel() == 0:
        raise WeightsError("weights", f"a mean code of shape {tuple(mean.shape)}")
    return mean.reshape(-1, generator.style_dim)[0].float().clone()


def _conv_clamp(arguments: Mapping[str, Any]) -> float | None:
    """The bound of the activations in NVIDIA's constructor arguments; other variants are refused."""
    mapping, synthesis = (
        part if isinstance(part, Mapping) else {}
        for part in (arguments.get("mapping_kwargs"), arguments.get("synthesis_kwargs"))
    )
    for settings in (mapping, synthesis):
        for name, usual in USUAL_SETTINGS.items():
            if settings.get(name, usual) != usual:
                raise WeightsError("weights", f"{name}={short(settings[name])}", f"only {usual} is supported")
    return _number(synthesis.get("conv_clamp"))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count_in(settings: Any, name: str, usual: int) -> int:
    """A setting that counts something, from 1 up."""
    value = settings.get(name, usual) if isinstance(settings, Mapping) else usual
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WeightsError("weights", f"{name}={short(value)}", "expected a whole number from 1 up")
    return value


def _width(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    """Length of one axis of a tensor that must be there."""
    if key not in state or state[key].ndim <= axis:
        raise WeightsError("weights", f"no {key} with {axis + 1} axes", "is the file whole?")
    return state[key].shape[axis]


def build_discriminator(found: Layout) -> Discriminator:
    """NVIDIA's discriminator."""
    expect(found, layouts.DISCRIMINATOR)
    state, size = found.state, found.resolution or 0
    channels = {4: _width(state, "b4.conv.weight")}
    channels |= {2**k: _width(state, f"b{2**k}.conv0.weight") for k in range(3, size.bit_length())}
    epilogue = found.opts.get("epilogue_kwargs")
    group = _count_in(epilogue, "mbstd_group_size", 4)
    with torch.device("meta"):
        network = Discriminator(size, channels, _number(found.opts.get("conv_clamp")), group)
    return fill(network, state)


def build_encoder(found: Layout, held: Layout | None) -> LoadedEncoder:
    """An inversion encoder, with the generator ``held`` in the same file."""
    expect(found, layouts.E4E, layouts.RESTYLE_PSP, layouts.RESTYLE_E4E)
    # The authors' own reader of ReStyle-pSp files leaves unexpected tensors out as well.
    encoder = fill(_blank_encoder(found), found.state, extra_allowed=found.kind == layouts.RESTYLE_PSP)
    generator = None if held is None else build_generator(held).generator
    dim = _width(found.state, "styles.0.linear.weight")
    iterations = 1 if found.kind == layouts.E4E else _count_in(found.opts, "n_iters_per_batch", ITERATIONS)
    return LoadedEncoder(encoder, _mean_rows(found, encoder.n_styles, dim), generator, found.kind, iterations)


def _blank_encoder(found: Layout) -> E4EEncoder | ReStyleEncoder:
    state = found.state
    rows, units = _count(state, r"styles\.(\d+)\."), _count(state, r"body\.(\d+)\.")
    depth = next((d for d, stages in UNITS.items() if sum(stages) == units), None)
    dim, channels = _width(state, "styles.0.linear.weight"), _width(state, "input_layer.0.weight", 1)
    if depth is None or not MIN_ROWS <= rows <= MAX_ROWS or dim % 8:
        what = f"an encoder of {units} units, {rows} rows and {dim} features"
        raise WeightsError("weights", what, "is the file whole?")
    squeeze = any(".fc1." in key for key in state)
    with torch.device("meta"):
        if found.kind == layouts.E4E:
            return E4EEncoder(2 ** (rows // 2 + 1), dim, depth, squeeze)
        return ReStyleEncoder(rows, found.kind == layouts.RESTYLE_E4E, dim, channels, depth, squeeze)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({m[1] for m in (re.match(pattern, key) for key in state) if m})


def _mean_rows(found: Layout, rows: int, dim: int) -> Tensor:
    """The mean code as (L, D)."""
    if found.latent_avg is None:
        if found.kind == layouts.E4E and found.opts.get("start_from_latent_avg") is False:
            return torch.zeros(rows, dim)
        raise WeightsError("weights", "no latent_avg, which the encoder's codes are relative to")
    mean = found.latent_avg.float()
    if mean.shape not in ((dim,), (1, dim), (rows, dim), (1, rows, dim)):
        raise WeightsError("weights", f"latent_avg of shape {tuple(mean.shape)}, not ({rows}, {dim})")
    return mean.reshape(-1, dim).expand(rows, dim).clone()


def build_mapper(found: Layout, n_latent: int | None = None) -> LevelsMapper:
    """StyleCLIP's levels mapper; levels that the file lacks are off."""
    expect(found, layouts.MAPPER)
    rows = num_layers(found.resolution) if found.resolution else n_latent
    if rows is None:
        raise WeightsError("weights", "the mapper doesn't say how many rows its codes have", "give n_latent")
    if n_latent is not None and rows != n_latent:
        raise WeightsError("weights", f"the mapper is for codes of {rows} rows, {n_latent} are needed")
    levels = {}
    for group, level in zip(LEVELS, ("coarse", "medium", "fine"), strict=True):
        levels[level] = any(key.startswith(group) for key in found.state)
        if found.opts.get(f"no_{level}_mapper", not levels[level]) is levels[level]:
            raise WeightsError("weights", f"option no_{level}_mapper contradicts the tensors")
    dim = _width(found.state, next(iter(found.state)))
    with torch.device("meta"):
        mapper = LevelsMapper(
            dim, rows, coarse=levels["coarse"], medium=levels["medium"], fine=levels["fine"]
        )
    return fill(mapper, found.state)


def build_raft(found: Layout) -> RAFT:
    """RAFT, large or small, from the authors' or torchvision's names."""
    from torchvision.models.optical_flow import raft_large, raft_small

    expect(found, layouts.RAFT_ORIGINAL, layouts.RAFT_TORCHVISION)
    state = to_torchvision(found.state) if found.kind == layouts.RAFT_ORIGINAL else found.state
    large = any(key.startswith("mask_predictor.") for key in state)
    with torch.device("meta"):
        network = (raft_large if large else raft_small)(weights=None)
    return fill(network, state)


def build_latent_transformer(found: Layout) -> LatentTransformer:
    """One attribute's latent transformer."""
    expect(found, layouts.TRANSFORMER)
    rows = sum(key.endswith(".weight") for key in found.state)
    with torch.device("meta"):
        network = LatentTransformer(rows, _width(found.state, "dense.0.weight"))
    return fill(network, found.state)


def build_latent_classifier(found: Layout) -> LatentClassifier:
    """The latent transformer's attribute classifier."""
    expect(found, layouts.CLASSIFIER)
    layers = _count(found.state, r"fcs\.(\d+)\.")
    outputs = [_width(found.state, f"fcs.{index}.weight") for index in range(layers)]
    with torch.device("meta"):
        network = LatentClassifier([_width(found.state, "fcs.0.weight", 1), *outputs])
    return fill(network, found.state)


def build_clip(found: Layout) -> TextImageModel:
    """CLIP with a vision transformer."""
    expect(found, layouts.CLIP)
    network = fill(blank_clip(found.state), {k: v for k, v in found.state.items() if k not in CLIP_SIZES})
    patch = _width(found.state, "visual.conv1.weight", 2)
    grid = round((_width(found.state, "visual.positional_embedding") - 1) ** 0.5)
    return text_image_model(network, grid * patch)


def build_face_parser(found: Layout) -> FaceParser:
    """BiSeNet for faces."""
    expect(found, layouts.FACE_PARSER)
    with torch.device("meta"):
        network = FaceParser()
    return fill(network, found.state)


def expect(found: Layout, *kinds: str) -> None:
    """Raise WeightsError unless ``found`` is one of ``kinds``."""
    if found.kind not in kinds:
        raise WeightsError("weights", f"the file holds {found.kind}, not {' or '.join(kinds)}")
