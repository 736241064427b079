"""Which network a file holds: recognised by key names, sizes read from shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tempcons.check import WeightsError
from tempcons.models.raft_keys import PARALLEL_PREFIX
from tempcons.models.stylegan2 import num_layers
from tempcons.weights.convert import nvidia_config, port_config
from tempcons.weights.inert import ArrayRef, ModuleRef, Passive, TensorRef, refuse, short

PORT, NVIDIA = "stylegan2-port", "stylegan2-ada"
DISCRIMINATOR = "stylegan2-ada-discriminator"
E4E, RESTYLE_PSP, RESTYLE_E4E = "e4e", "restyle-psp", "restyle-e4e"
MAPPER = "styleclip-mapper"
TRANSFORMER, CLASSIFIER = "latent-transformer", "latent-classifier"
RAFT_ORIGINAL, RAFT_TORCHVISION = "raft-original", "raft-torchvision"
CLIP = "clip"
FACE_PARSER = "face-parsing"
TENSOR = "tensor"

RESTYLE_TYPES = {"BackboneEncoder": RESTYLE_PSP, "ProgressiveBackboneEncoder": RESTYLE_E4E}
GENERATOR_KEYS = ("g_ema", "G_ema", "generator", "G")
RESOLUTIONS = tuple(2**k for k in range(3, 11))
MAX_MODULES = 10_000


@dataclass(frozen=True)
class Layout:
    """A recognised network.

    Attributes:
        kind: one of the names above.
        state: its tensors without prefixes, under the file's own names.
        resolution: pixels of the generator it is for, None where the file doesn't say.
        latent_avg: mean code, (D,) or (L, D).
        opts: options stored with it.
    """

    kind: str
    state: dict[str, Tensor]
    resolution: int | None = None
    latent_avg: Tensor | None = None
    opts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        empty = [key for key, value in self.state.items() if value.numel() == 0]
        if empty:
            raise WeightsError(
                "weights", f"tensors without numbers: {', '.join(empty[:3])}", "is the file whole?"
            )


def describe(root: Any) -> Layout:
    """Recognise the contents of a file.

    Raises:
        WeightsError: nothing this project knows.
    """
    if isinstance(root, ModuleRef):
        return _describe_module(root)
    if isinstance(root, (Tensor, TensorRef, ArrayRef)):
        return Layout(TENSOR, {"": as_tensor(root)})
    if not isinstance(root, Mapping):
        raise WeightsError("weights", f"the file holds a {type(root).__name__}, no network and no tensor")
    if "state_dict" in root:
        return _describe_wrapped(root)
    generator = find_generator(root)
    if generator is not None:
        return generator
    if "T_net_state_dict" in root:
        return _describe_bare(tensors(root["T_net_state_dict"]))
    return _describe_bare(tensors(root))


def find_generator(root: Any) -> Layout | None:
    """The generator in a file that may hold other networks too, None if there is none."""
    if isinstance(root, ModuleRef):
        return _describe_module(root)
    if not isinstance(root, Mapping):
        return None
    for key in GENERATOR_KEYS:
        if isinstance(root.get(key), ModuleRef):
            return _describe_module(root[key])
        if isinstance(root.get(key), Mapping):
            return _generator(tensors(root[key]), root.get("latent_avg"))
    if isinstance(root.get("state_dict"), Mapping):
        decoder = with_prefix(tensors(root["state_dict"]), "decoder.")
        return _generator(decoder, root.get("latent_avg")) if decoder else None
    if "conv1.conv.weight" in root or "synthesis.b4.const" in root:
        return _generator(
            tensors({k: v for k, v in root.items() if k != "latent_avg"}), root.get("latent_avg")
        )
    return None


def _generator(state: dict[str, Tensor], latent_avg: Any, opts: dict[str, Any] | None = None) -> Layout:
    mean = None if latent_avg is None else as_tensor(latent_avg)
    if "synthesis.b4.const" in state:
        return Layout(
            NVIDIA, state, nvidia_config(state)["size"], state.get("mapping.w_avg", mean), opts or {}
        )
    return Layout(PORT, state, port_config(state)["size"], mean, opts or {})


def _describe_module(module: ModuleRef) -> Layout:
    state = module_state(module)
    arguments = {k: v for k, v in module.arguments.items() if isinstance(k, str)}
    if "synthesis.b4.const" in state:
        return _generator(state, None, arguments)
    if "b4.conv.weight" in state and "b4.out.weight" in state:
        size = max(int(m[1]) for m in (re.match(r"b(\d{1,5})\.", key) for key in state) if m)
        return Layout(DISCRIMINATOR, state, size, opts=arguments)
    raise WeightsError("weights", f"a saved {short(module.class_name)} is no StyleGAN2 network")


def _describe_wrapped(root: Mapping[str, Any]) -> Layout:
    """Files with "state_dict" and "opts": encoders (with their decoder) and StyleCLIP's mappers."""
    state = tensors(root["state_dict"])
    opts = options(root.get("opts"))
    mean = None if root.get("latent_avg") is None else as_tensor(root["latent_avg"])
    decoder = with_prefix(state, "decoder.")
    size = port_config(decoder)["size"] if decoder else None
    if mapper := with_prefix(state, "mapper."):
        _only_levels(mapper, opts)
        return Layout(MAPPER, mapper, size or _resolution(opts.get("stylegan_size")), mean, opts)
    if encoder := with_prefix(state, "encoder."):
        return Layout(_encoder_kind(encoder, opts), encoder, size or _encoder_size(opts), mean, opts)
    return _describe_bare(state)


def _only_levels(mapper: dict[str, Tensor], opts: dict[str, Any]) -> None:
    if opts.get("work_in_stylespace"):
        raise WeightsError("weights", "a StyleCLIP mapper that works in style space", "only W+ is supported")
    if not any("_mapping.mapping." in key for key in mapper):
        kind = opts.get("mapper_type", "unknown")
        raise WeightsError(
            "weights", f"a StyleCLIP mapper of type {short(kind)}", "only LevelsMapper is supported"
        )


def _encoder_kind(encoder: dict[str, Tensor], opts: dict[str, Any]) -> str:
    named = opts.get("encoder_type")
    if "input_layer.0.weight" not in encoder:
        raise WeightsError(
            "weights", f"an encoder of type {short(named)}", "supported: e4e and ReStyle for faces"
        )
    if "latlayer1.weight" in encoder:
        return E4E
    if not isinstance(named, str) or named not in RESTYLE_TYPES:
        known = ", ".join(RESTYLE_TYPES)
        raise WeightsError(
            "weights", f"a ReStyle encoder of type {short(named)} in its opts", f"known: {known}"
        )
    return RESTYLE_TYPES[named]


def _encoder_size(opts: dict[str, Any]) -> int | None:
    return _resolution(opts.get("stylegan_size")) or _resolution(opts.get("output_size"))


def _resolution(value: Any) -> int | None:
    """A stated resolution, if it can be one."""
    return value if isinstance(value, int) and value in RESOLUTIONS else None


def _describe_bare(state: dict[str, Tensor]) -> Layout:
    """State dicts without a wrapper."""
    plain = {k.removeprefix(PARALLEL_PREFIX): v for k, v in state.items()}
    if "conv1.conv.weight" in plain or "synthesis.b4.const" in plain:
        return _generator(plain, None)
    if "fnet.conv1.weight" in plain:
        return Layout(RAFT_ORIGINAL, plain)
    if "feature_encoder.convnormrelu.0.weight" in plain:
        return Layout(RAFT_TORCHVISION, plain)
    if "dense.0.weight" in plain:
        rows = sum(key.endswith(".weight") for key in plain)
        return Layout(TRANSFORMER, plain, _resolution_of_rows(rows))
    if "visual.conv1.weight" in plain and "token_embedding.weight" in plain:
        return Layout(CLIP, plain)
    if "cp.resnet.conv1.weight" in plain:
        return Layout(FACE_PARSER, plain)
    if "fcs.0.weight" in plain:
        return Layout(CLASSIFIER, plain)
    if any("_mapping.mapping." in key for key in plain):
        return Layout(MAPPER, plain)
    if "b4.out.weight" in plain:
        size = max(int(m[1]) for m in (re.match(r"b(\d{1,5})\.", key) for key in plain) if m)
        return Layout(DISCRIMINATOR, plain, size)
    some = ", ".join(sorted(plain)[:3]) or "nothing"
    raise WeightsError(
        "weights", f"a file of {len(plain)} tensors that no supported network has ({some}, ...)"
    )


def _resolution_of_rows(rows: int) -> int | None:
    return next((r for r in RESOLUTIONS if num_layers(r) == rows), None)


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose key starts with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def options(opts: Any) -> dict[str, Any]:
    """Training options stored as a dictionary or a namespace."""
    if isinstance(opts, Passive):
        opts = opts.attributes
    return {k: v for k, v in opts.items() if isinstance(k, str)} if isinstance(opts, Mapping) else {}


def as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (TensorRef, ArrayRef)):
        return value.tensor()
    raise WeightsError("weights", f"a {type(value).__name__} where a tensor was expected")


def tensors(state: Any) -> dict[str, Tensor]:
    """A dictionary of tensors.

    Raises:
        WeightsError: other values or keys in it.
    """
    if not isinstance(state, Mapping) or any(not isinstance(key, str) for key in state):
        raise WeightsError("weights", f"a {type(state).__name__} where a dictionary of tensors was expected")
    wrong = [k for k, v in state.items() if not isinstance(v, (Tensor, TensorRef, ArrayRef))]
    if wrong:
        raise WeightsError("weights", f"no network in a file with entries {', '.join(sorted(state)[:6])}")
    return {key: as_tensor(value) for key, value in state.items()}


def module_state(module: ModuleRef) -> dict[str, Tensor]:
    """Parameters and buffers of a saved network and its parts, under their usual names."""
    found: dict[str, Tensor] = {}
    for count, (prefix, part) in enumerate(_parts(module, "", 0)):
        if count > MAX_MODULES:
            raise refuse("a saved network without end")
        left_out = part.state.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            entries = part.state.get(group, {})
            if not isinstance(entries, Mapping):
                raise refuse(f"a saved network whose {group} are no dictionary")
            named = {k: v for k, v in entries.items() if v is not None and k not in left_out}
            found |= {f"{prefix}{key}": as_tensor(value) for key, value in named.items()}
    return found


def _parts(module: ModuleRef, prefix: str, depth: int) -> Iterator[tuple[str, ModuleRef]]:
    children = module.state.get("_modules", {})
    if depth > 16 or not isinstance(children, Mapping):
        raise refuse("a saved network nested too deeply")
    yield prefix, module
    for name, child in children.items():
        if child is None:
            continue
        if not isinstance(child, ModuleRef):
            raise refuse(f"a saved network with a part of type {type(child).__name__}")
        yield from _parts(child, f"{prefix}{name}.", depth + 1)
