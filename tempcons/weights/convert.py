"""Generator weights from one layout to the other: NVIDIA's (StyleGAN2-ADA) and the PyTorch port's.

Both hold the same numbers under other names, with a few extra axes of size 1. The low-pass
filters differ by the gain of the zero insertion: the port stores it (they sum to 4), NVIDIA
applies it when called (they sum to 1). Filters of layers that don't resample exist in NVIDIA's
layout only and are never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tempcons.check import WeightsError
from tempcons.models.stylegan2 import Generator, blur_kernel

FILTER_GAIN = 4.0
State = Mapping[str, Tensor]


def key_pairs(size: int, n_mlp: int) -> Iterator[tuple[str, str]]:
    """(NVIDIA's key, the port's key) of every tensor that both layouts have."""
    for index in range(n_mlp):
        for part in ("weight", "bias"):
            yield f"mapping.fc{index}.{part}", f"style.{index + 1}.{part}"
    yield "synthesis.b4.const", "input.input"
    yield from _conv_pairs("synthesis.b4.conv1", "conv1", 0)
    yield from _rgb_pairs("synthesis.b4.torgb", "to_rgb1")
    for block, resolution in enumerate(_resolutions(size)):
        prefix = f"synthesis.b{resolution}"
        first, second = 2 * block, 2 * block + 1
        yield from _conv_pairs(f"{prefix}.conv0", f"convs.{first}", first + 1)
        yield f"{prefix}.conv0.resample_filter", f"convs.{first}.conv.blur.kernel"
        yield from _conv_pairs(f"{prefix}.conv1", f"convs.{second}", second + 1)
        yield from _rgb_pairs(f"{prefix}.torgb", f"to_rgbs.{block}")
        yield f"{prefix}.resample_filter", f"to_rgbs.{block}.upsample.kernel"


def _resolutions(size: int) -> list[int]:
    return [2**k for k in range(3, size.bit_length())]


def _conv_pairs(nvidia: str, port: str, noise: int) -> Iterator[tuple[str, str]]:
    yield f"{nvidia}.weight", f"{port}.conv.weight"
    yield f"{nvidia}.affine.weight", f"{port}.conv.modulation.weight"
    yield f"{nvidia}.affine.bias", f"{port}.conv.modulation.bias"
    yield f"{nvidia}.noise_strength", f"{port}.noise.weight"
    yield f"{nvidia}.bias", f"{port}.activate.bias"
    yield f"{nvidia}.noise_const", f"noises.noise_{noise}"


def _rgb_pairs(nvidia: str, port: str) -> Iterator[tuple[str, str]]:
    yield f"{nvidia}.weight", f"{port}.conv.weight"
    yield f"{nvidia}.affine.weight", f"{port}.conv.modulation.weight"
    yield f"{nvidia}.affine.bias", f"{port}.conv.modulation.bias"
    yield f"{nvidia}.bias", f"{port}.bias"


def unused_filters(size: int) -> list[str]:
    """Keys of NVIDIA's layout without a counterpart: filters of layers that don't resample."""
    names = ["synthesis.b4.resample_filter", "synthesis.b4.conv1.resample_filter"]
    return names + [f"synthesis.b{r}.conv1.resample_filter" for r in _resolutions(size)]


def nvidia_config(state: State) -> dict:
    """Constructor arguments of :class:`Generator` read from shapes in NVIDIA's layout.

    Raises:
        WeightsError: no such generator, or a variant this project has no use for.
    """
    if "mapping.embed.weight" in state:
        raise WeightsError(
            "weights", "a class-conditional generator", "only unconditional ones are supported"
        )
    if any(key.endswith(".skip.weight") for key in state):
        raise WeightsError("weights", "a generator of architecture 'resnet'", "only 'skip' is supported")
    convs = _numbered(state, r"synthesis\.b(\d+)\.conv1\.weight")
    mapping = _numbered(state, r"mapping\.fc(\d+)\.weight")
    if not convs or "synthesis.b4.conv1.affine.weight" not in state:
        raise WeightsError("weights", "no generator in NVIDIA's layout: no synthesis.b4.conv1")
    return _config(convs, mapping, state["synthesis.b4.conv1.affine.weight"], 0)


def port_config(state: State) -> dict:
    """Constructor arguments of :class:`Generator` read from shapes in the port's layout.

    Raises:
        WeightsError: no such generator.
    """
    if "conv1.conv.weight" not in state or "conv1.conv.modulation.weight" not in state:
        raise WeightsError("weights", "no generator in the port's layout: no conv1.conv")
    convs = {4: state["conv1.conv.weight"]}
    for index, weight in _numbered(state, r"convs\.(\d+)\.conv\.weight").items():
        if index % 2:
            convs[2 ** (index // 2 + 3)] = weight
    mapping = {i - 1: w for i, w in _numbered(state, r"style\.(\d+)\.weight").items()}
    return _config(convs, mapping, state["conv1.conv.modulation.weight"], 1)


def _numbered(state: State, pattern: str) -> dict[int, Tensor]:
    found = ((re.fullmatch(pattern, key), value) for key, value in state.items())
    return dict(sorted((int(match[1]), value) for match, value in found if match and len(match[1]) < 6))


def _config(convs: dict[int, Tensor], mapping: dict[int, Tensor], affine: Tensor, axis: int) -> dict:
    """Check that the numbering has no gaps, and read the sizes."""
    size = max(convs)
    if sorted(convs) != [4, *_resolutions(size)] or size < 8:
        raise WeightsError("weights", f"generator with blocks at {sorted(convs)} px", "some are missing")
    if sorted(mapping) != list(range(len(mapping))) or not mapping:
        raise WeightsError("weights", f"mapping network with layers {sorted(mapping)}", "some are missing")
    tensors = [*convs.values(), *mapping.values(), affine]
    if any(t.ndim < 2 for t in tensors) or any(t.ndim <= axis for t in convs.values()):
        raise WeightsError("weights", "a generator whose weights have too few axes")
    return {
        "size": size,
        "style_dim": affine.shape[1],
        "n_mlp": len(mapping),
        "channels": {resolution: weight.shape[axis] for resolution, weight in convs.items()},
        "z_dim": mapping[0].shape[1],
    }


def blank_generator(config: dict) -> Generator:
    """A generator without memory for its weights, to be filled by ``load_state_dict(assign=True)``."""
    with torch.device("meta"):
        return Generator(**config)


def to_port(state: State) -> tuple[dict[str, Tensor], Tensor | None]:
    """NVIDIA's layout to the port's, and the mean code (D,) if it is stored.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors.
    """
    config = nvidia_config(state)
    wanted = blank_generator(config).state_dict()
    pairs = dict(key_pairs(config["size"], config["n_mlp"]))
    ignored = {"mapping.w_avg", *unused_filters(config["size"])}
    _check_keys(state, set(pairs), ignored, "NVIDIA's")
    converted = {}
    for nvidia, port in pairs.items():
        gain = FILTER_GAIN if nvidia.endswith("resample_filter") else 1.0
        converted[port] = _reshaped(state[nvidia], wanted[port].shape, nvidia)
        if gain != 1.0:
            converted[port] = converted[port] * gain
    return {key: converted[key] for key in wanted}, state.get("mapping.w_avg")


def to_nvidia(state: State, latent_avg: Tensor | None = None) -> dict[str, Tensor]:
    """The port's layout to NVIDIA's; the opposite of :func:`to_port`.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors.
    """
    config = port_config(state)
    pairs = dict(key_pairs(config["size"], config["n_mlp"]))
    _check_keys(state, set(pairs.values()), set(), "the port's")
    converted = {}
    for nvidia, port in pairs.items():
        value = state[port]
        if nvidia.endswith("resample_filter"):
            value = value / FILTER_GAIN
        converted[nvidia] = value.reshape(_nvidia_shape(nvidia, value))
    converted |= {key: blur_kernel().to(state["input.input"]) for key in unused_filters(config["size"])}
    if latent_avg is not None:
        converted["mapping.w_avg"] = latent_avg
    return converted


def _nvidia_shape(key: str, value: Tensor) -> torch.Size:
    shape = value.shape
    if key.endswith("noise_strength"):
        return torch.Size(())
    if key.endswith("noise_const"):
        return shape[2:]
    if key.endswith("torgb.bias"):
        return shape[1:2]
    if key.endswith(("const", "conv0.weight", "conv1.weight", "torgb.weight")):
        return shape[1:]
    return shape


def _check_keys(state: State, needed: set[str], optional: set[str], layout: str) -> None:
    if problem := describe_keys(needed - set(state), set(state) - needed - optional):
        raise WeightsError("weights", f"{problem} for a generator in {layout} layout", "is the file whole?")


def describe_keys(missing: set[str], unexpected: set[str]) -> str:
    """ "2 missing tensors (a, b) and 1 unexpected tensors (c)", or nothing."""
    parts = []
    for word, keys in (("missing", sorted(missing)), ("unexpected", sorted(unexpected))):
        if keys:
            more = ", ..." if len(keys) > 3 else ""
            parts.append(f"{len(keys)} {word} tensors ({', '.join(keys[:3])}{more})")
    return " and ".join(parts)


def _reshaped(value: Tensor, shape: torch.Size, key: str) -> Tensor:
    """``value`` with the axes of size 1 that ``shape`` has; any other difference is an error."""
    if [n for n in value.shape if n != 1] != [n for n in shape if n != 1]:
        raise WeightsError("weights", f"{key} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    return value.reshape(shape)
