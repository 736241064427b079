"""Networks from files.

Every file is first parsed by a reader that runs nothing (:mod:`tempcons.weights.archives`) and
checks all sizes; plain state dicts are then read by ``torch.load(weights_only=True)``, here and
nowhere else, safetensors by their own library.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tempcons.check import WeightsError
from tempcons.models.clip import TextImageModel
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_parsing import FaceParser
from tempcons.models.latent_transformer import LatentClassifier, LatentTransformer
from tempcons.models.mapper import LevelsMapper
from tempcons.weights import build, layouts
from tempcons.weights.archives import read_archive
from tempcons.weights.build import LoadedEncoder, LoadedGenerator
from tempcons.weights.layouts import Layout, describe, find_generator

if TYPE_CHECKING:  # torchvision takes seconds to load
    from torchvision.models.optical_flow import RAFT

REBUILDERS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
TORCH_READS = {"collections.OrderedDict", *REBUILDERS}
Made = TypeVar("Made")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors inside name the file."""
    try:
        yield
    except WeightsError as error:
        what = error.what if str(path) in error.what else f"{path}: {error.what}"
        raise WeightsError(error.stage, what, error.hint) from error


def read_file(path: str | Path) -> Any:
    """Contents of a weights file: dictionaries of tensors, or passive stand-ins for saved networks.

    Raises:
        WeightsError: missing, empty, truncated, damaged or refused files.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            "weights", f"no file {path}", "python -m tempcons.weights list shows what there is"
        )
    if path.stat().st_size == 0:
        raise WeightsError("weights", f"{path} is empty", "delete it and fetch it again")
    with naming(path):
        return _read(path)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    archive = read_archive(path)
    if archive.container == "pickle" or not all(_torch_reads(name) for name in archive.names):
        return archive.root
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise WeightsError(
            "weights", f"PyTorch can't read it ({str(error)[:200]})", "fetch it again"
        ) from error


def _torch_reads(name: str) -> bool:
    return name in TORCH_READS or name.endswith("Storage")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise WeightsError("weights", f"no whole safetensors file ({error})", "fetch it again") from error


def inspect(path: str | Path) -> Layout:
    """What a file holds: its layout, tensors, resolution and options.

    Raises:
        WeightsError: an unreadable file, or nothing this project knows.
    """
    with naming(Path(path)):
        return describe(read_file(path))


def load_generator(path: str | Path, size: int | None = None) -> LoadedGenerator:
    """A generator in any layout; from an encoder's or mapper's file, the one it was trained with.

    Args:
        size: the resolution needed, in pixels.

    Raises:
        WeightsError: no generator in the file, another resolution, or tensors that don't fit.
    """
    with naming(Path(path)):
        root = read_file(path)
        found = find_generator(root)
        if found is None:
            raise WeightsError("weights", f"no generator in the file but: {describe(root).kind}")
        _check_resolution(found, size)
        return build.build_generator(found)


def load_encoder(path: str | Path, size: int | None = None) -> LoadedEncoder:
    """e4e, ReStyle-pSp or ReStyle-e4e in the official layout.

    Args:
        size: the generator's resolution needed, in pixels.

    Raises:
        WeightsError: another network, another resolution, or tensors that don't fit.
    """
    with naming(Path(path)):
        root = read_file(path)
        found = describe(root)
        _check_resolution(found, size)
        return build.build_encoder(found, find_generator(root))


def load_mapper(path: str | Path, n_latent: int | None = None) -> LevelsMapper:
    """StyleCLIP's levels mapper; levels that the file lacks are off.

    Args:
        n_latent: rows L, needed where the file doesn't say which generator it is for.

    Raises:
        WeightsError: another network, another number of rows, or levels that contradict the options.
    """
    return _load(path, lambda found: build.build_mapper(found, n_latent))


def load_discriminator(path: str | Path) -> Discriminator:
    """NVIDIA's discriminator from a snapshot ("D") or a bare state dict.

    Raises:
        WeightsError: none in the file, or tensors that don't fit.
    """
    with naming(Path(path)):
        root = read_file(path)
        held = root["D"] if isinstance(root, Mapping) and "D" in root else root
        return build.build_discriminator(describe(held))


def load_raft(path: str | Path) -> RAFT:
    """RAFT, large or small, from the authors' or torchvision's file.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    return _load(path, build.build_raft)


def load_face_parser(path: str | Path) -> FaceParser:
    """BiSeNet for faces.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    return _load(path, build.build_face_parser)


def load_clip(path: str | Path) -> TextImageModel:
    """CLIP with a vision transformer, in open-clip's layout.

    Raises:
        WeightsError: the package is missing, another network, or tensors that don't fit.
    """
    return _load(path, build.build_clip)


def load_latent_transformer(path: str | Path) -> LatentTransformer:
    """One attribute's latent transformer.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    return _load(path, build.build_latent_transformer)


def load_latent_classifier(path: str | Path) -> LatentClassifier:
    """The attribute classifier of the latent transformer.

    Raises:
        WeightsError: another network, or tensors that don't fit.
    """
    return _load(path, build.build_latent_classifier)


def _load(path: str | Path, make: Callable[[Layout], Made]) -> Made:
    with naming(Path(path)):
        return make(inspect(path))


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """A dictionary of tensors, whatever it belongs to.

    Raises:
        WeightsError: a file of another kind.
    """
    with naming(Path(path)):
        return layouts.tensors(read_file(path))


def load_tensor(path: str | Path) -> Tensor:
    """A file of one tensor.

    Raises:
        WeightsError: a file of another kind.
    """
    with naming(Path(path)):
        return layouts.as_tensor(read_file(path))


def _check_resolution(found: Layout, wanted: int | None) -> None:
    if wanted is not None and found.resolution is not None and found.resolution != wanted:
        raise WeightsError("weights", f"made for {found.resolution} px, this run needs {wanted} px")
