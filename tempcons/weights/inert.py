"""What a pickle may name, and the passive values that stand for it.

A pickle is a program that names functions and calls them. Here a name is only looked up in
:data:`CALLS`, :data:`STORAGES` and :data:`PASSIVE`; nothing is imported, and tensors stay
descriptions (:class:`TensorRef`) until someone asks for their numbers.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tempcons.check import WeightsError

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NUMPY_KINDS = "fiub"
MAX_AXES = 16
MAX_EMPTY = 1 << 40


def refuse(what: str) -> WeightsError:
    return WeightsError(
        "weights", what, "the file is damaged, or made to do harm: get it from its official page"
    )


def short(value: Any) -> str:
    """What a value looks like, without following nested values to their end."""
    return reprlib.repr(value)[:60]


@dataclass(frozen=True)
class Name:
    """A global that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False)
class StorageRef:
    """Raw numbers of tensors: how many, of what type, and where they will be read from."""

    dtype: torch.dtype
    key: str
    numel: int
    source: Callable[[], bytes] | None = None

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def tensor(self) -> Tensor:
        """All numbers, flat."""
        if self.source is None:
            raise refuse(f"storage {self.key!r} has no data")
        data = self.source()
        if len(data) != self.nbytes:
            raise refuse(f"storage {self.key!r} should hold {self.nbytes} bytes but has {len(data)}")
        if not data:
            return torch.empty(0, dtype=self.dtype)
        return torch.frombuffer(bytearray(data), dtype=self.dtype)


@dataclass(eq=False, repr=False)
class TensorRef:
    """A tensor's view of its storage; checked when made, read by :meth:`tensor`."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        return torch.as_strided(self.storage.tensor(), self.size, self.stride, self.offset).clone(
            memory_format=torch.contiguous_format
        )


@dataclass(eq=False, repr=False)
class ArrayRef:
    """A NumPy array: its type, shape and bytes."""

    dtype: np.dtype | None = None
    shape: tuple[int, ...] = ()
    data: bytes = b""
    fortran: bool = False

    def tensor(self) -> Tensor:
        if self.dtype is None:
            raise refuse("a NumPy array without numbers")
        array: np.ndarray = np.ndarray(self.shape, self.dtype, self.data, order="F" if self.fortran else "C")
        return torch.from_numpy(np.ascontiguousarray(array.astype(self.dtype.newbyteorder("="))))


@dataclass(eq=False, repr=False)
class DTypeRef:
    dtype: np.dtype


@dataclass(eq=False, repr=False)
class ModuleRef:
    """A network saved as an object: its class name, tensors, parts and constructor arguments."""

    class_name: str
    state: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments given by name."""
        kwargs = self.state.get("_init_kwargs")
        return dict(kwargs) if isinstance(kwargs, dict) else {}


@dataclass(eq=False, repr=False)
class Passive:
    """An object whose class is never made: only its attributes are kept."""

    name: Name
    attributes: dict[str, Any] = field(default_factory=dict)


class Attributes(dict):
    """Stands for dictionaries with attribute access (``EasyDict``)."""


def whole(value: Any, what: str) -> int:
    """``value`` if it is a whole number from 0 up, else an error."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refuse(f"{what} is {short(value)}, not a whole number from 0 up")
    return value


def whole_tuple(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_AXES:
        raise refuse(f"{what} is {short(value)}, not a tuple of at most {MAX_AXES} numbers")
    return tuple(whole(item, what) for item in value)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    """A tensor's header, refused unless the storage holds every number it claims.

    Headers that repeat numbers (stride 0) are refused too: they make a huge tensor of few bytes.
    """
    if not isinstance(storage, StorageRef):
        raise refuse("a tensor without a storage")
    offset = whole(offset, "tensor offset")
    size, stride = whole_tuple(size, "tensor size"), whole_tuple(stride, "tensor stride")
    if len(size) != len(stride):
        raise refuse(f"tensor of size {size} with strides {stride}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    empty = 0 in size
    if empty and math.prod(n for n in size if n) > MAX_EMPTY:
        raise refuse(f"an empty tensor of size {size}")
    if not empty and (last >= storage.numel or math.prod(size) > storage.numel):
        raise refuse(f"tensor header of size {size} asks for more than the {storage.numel} numbers stored")
    return (
        TensorRef(storage, 0, size, (0,) * len(size)) if empty else TensorRef(storage, offset, size, stride)
    )


def rebuild_parameter(tensor: Any, *_: Any) -> TensorRef:
    if not isinstance(tensor, TensorRef):
        raise refuse("a parameter that is no tensor")
    return tensor


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise refuse(f"_codecs.encode with encoding {short(encoding)}")
    return text.encode("latin1")


def numpy_dtype(code: Any, *_: Any) -> DTypeRef:
    if not isinstance(code, str) or len(code) > 4:
        raise refuse(f"NumPy type {short(code)}")
    try:
        dtype = np.dtype(code)
    except TypeError as error:
        raise refuse(f"NumPy type {code!r}") from error
    if dtype.kind not in NUMPY_KINDS or dtype.itemsize > 8:
        raise refuse(f"NumPy type {code!r}")
    return DTypeRef(dtype)


def numpy_scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, DTypeRef) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise refuse("a NumPy number of the wrong size")
    return np.frombuffer(data, dtype.dtype)[0].item()


def numpy_array(*_: Any) -> ArrayRef:
    return ArrayRef()


def fill_array(array: ArrayRef, state: Any) -> None:
    """Take an array's (version, shape, type, column-major, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], DTypeRef):
        raise refuse("a NumPy array with an unknown state")
    shape, dtype, data = whole_tuple(state[1], "array shape"), state[2].dtype, state[4]
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise refuse(f"NumPy array header of shape {shape} does not fit its bytes")
    array.shape, array.dtype, array.data, array.fortran = shape, dtype, data, bool(state[3])


def fill_dtype(dtype: DTypeRef, state: Any) -> None:
    """Take a NumPy type's byte order."""
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
        raise refuse("a NumPy type with an unknown state")
    dtype.dtype = dtype.dtype.newbyteorder(state[1])


def persistent_module(meta: Any) -> ModuleRef:
    """A network of NVIDIA's snapshots. The source text they carry (``module_src``) is never looked at."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise refuse("a snapshot object of an unknown kind")
    name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise refuse("a snapshot object without class name and state")
    return ModuleRef(name, state)


def ordered_dict(pairs: Any = ()) -> dict:
    if not isinstance(pairs, (tuple, list)) or any(
        not isinstance(p, (tuple, list)) or len(p) != 2 for p in pairs
    ):
        raise refuse("an OrderedDict of something else than pairs")
    return {plain_key(key): value for key, value in pairs}


def plain_set(items: Any = ()) -> set:
    if not isinstance(items, (tuple, list)):
        raise refuse("a set of something else than a list")
    return {plain_key(item) for item in items}


def plain_key(key: Any) -> Any:
    """``key`` if it is a plain value: hashing nested tuples can take for ever."""
    if not isinstance(key, (str, int, float, bytes, type(None))):
        raise refuse(f"a dictionary key of type {type(key).__name__}")
    return key


CALLS: dict[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": persistent_module,
    "collections.OrderedDict": ordered_dict,
    "builtins.set": plain_set,
    "__builtin__.set": plain_set,
    "torch._utils._rebuild_parameter": rebuild_parameter,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "numpy.core.multiarray.scalar": numpy_scalar,
    "numpy._core.multiarray.scalar": numpy_scalar,
    "numpy.core.multiarray._reconstruct": numpy_array,
    "numpy._core.multiarray._reconstruct": numpy_array,
    "numpy.dtype": numpy_dtype,
    "_codecs.encode": encode,
}
OBJECTS = {"dnnlib.util.EasyDict": Attributes, "dnnlib.EasyDict": Attributes, "collections.OrderedDict": dict}
PASSIVE = {
    "argparse.Namespace",
    "torch.Size",
    "torch.device",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
}
