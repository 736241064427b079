"""Errors a user can act on, and checks at the door of public functions."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line's checks come before the seconds that importing torch takes
    from torch import Tensor


class TempconsError(Exception):
    """A problem the user can mend: which stage, which thing, what was found, what to do.

    ``train.py`` and the command-line tools print it as one message and exit with code 1.
    """

    def __init__(self, stage: str, what: str, hint: str = "") -> None:
        self.stage, self.what, self.hint = stage, what, hint
        super().__init__(f"{stage}: {what}" + (f"; {hint}" if hint else ""))

    def __reduce__(self) -> tuple:
        return type(self), (self.stage, self.what, self.hint)


class InputError(TempconsError):
    """A clip, folder or picture that can't be used."""


class ConfigError(TempconsError):
    """Settings that are wrong or don't go together."""


class WeightsError(TempconsError):
    """Network weights that are missing, damaged or of another shape."""


def near_names(name: str, known: Iterable[str]) -> str:
    """'did you mean a, b?' for a misspelt name, or the list of all names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names)}"


def check_number(name: str, value: float, low: float = -math.inf, above: bool = False) -> None:
    """Raise ConfigError unless a setting is finite and at least ``low`` (or above it)."""
    if not math.isfinite(value):
        raise ConfigError("config", f"{name} = {value}", "a finite number expected")
    if value < low or (above and value == low):
        wanted = f"{low:g} or more" if not above else f"more than {low:g}" if low else "it must be positive"
        raise ConfigError("config", f"{name} = {value}", wanted)


def check_shape(tensor: Tensor, shape: Sequence[int | None], name: str) -> None:
    """Raise ValueError unless ``tensor`` has ``shape`` (None matches anything)."""
    fits = tensor.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = "x".join("*" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} must be {wanted}, got {'x'.join(map(str, tensor.shape))}")


def check_pictures(tensor: Tensor, name: str) -> None:
    """Raise ValueError unless ``tensor`` is a (B, 3, H, W) float picture batch."""
    check_shape(tensor, (None, 3, None, None), name)
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point in [-1, 1], got {tensor.dtype}")


def check_range(tensor: Tensor, low: float, high: float, name: str, slack: float = 1e-3) -> None:
    """Raise ValueError if values leave [low, high]; catches pictures on 0..255 or [0, 1] scales."""
    smallest, largest = tensor.min().item(), tensor.max().item()
    if not (smallest >= low - slack and largest <= high + slack):
        raise ValueError(f"{name} must lie in [{low}, {high}], got [{smallest:.4g}, {largest:.4g}]")
