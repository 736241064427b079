"""Settings of the process that change speed or repeatability, never results' meaning."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tempcons.check import ConfigError, TempconsError

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 30
# conf/hardware, the largest first; GB of the GPU.
PRESETS_GB = {"80gb": 80, "24gb": 24, "12gb": 12, "8gb": 8}
CPU_ALLOCATOR = "DefaultCPUAllocator"


class MemoryShortageError(TempconsError):
    """Not enough memory."""


def prepare_process(num_threads: int | None, seed: int) -> None:
    """Seed everything, fix the number of threads, keep freed memory for the next picture."""
    seed_everything(seed)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    keep_freed_memory()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, and tell Lightning, which seeds further processes by these."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ |= {"PL_GLOBAL_SEED": str(seed), "PL_SEED_WORKERS": "1"}


@contextmanager
def memory_explained(hardware: str) -> Iterator[None]:
    """Out of memory inside becomes one message that names the next smaller ``hardware``.

    Raises:
        MemoryShortageError: on a GPU or, where PyTorch can't get any, on the CPU.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryShortageError("memory", first_line(error), smaller(hardware)) from error
    except RuntimeError as error:
        if CPU_ALLOCATOR not in str(error):
            raise
        hint = "end other programs, set trainer.pairs_per_step=1, or take fewer frames (clip.num_frames)"
        raise MemoryShortageError("memory", first_line(error), hint) from error


def first_line(error: Exception) -> str:
    """What an error says, without the advice below."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def smaller(hardware: str) -> str:
    """What to do where the memory of ``hardware`` was not enough."""
    if hardware not in PRESETS_GB:
        total = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 0
        fitting = [name for name, size in PRESETS_GB.items() if size <= total + 1]
        return f"set hardware={(fitting or ['8gb'])[0]}, which keeps less"
    names = list(PRESETS_GB)
    below = names[names.index(hardware) + 1 :]
    if below:
        return f"set hardware={below[0]}, which keeps less; finished stages are not made again"
    return "this is the smallest: set family.flow.size=128, anchors.window=60 or hardware=cpu"


def pick_device(accelerator: str) -> torch.device:
    """The device that stages outside of Lightning compute on.

    Raises:
        ConfigError: a GPU was asked for and none can be used.
    """
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator == "auto":
        log.info("runtime: no usable GPU, computing on the CPU")
        return torch.device("cpu")
    raise ConfigError(
        "runtime", f"trainer.accelerator={accelerator} but no usable GPU", "set trainer.accelerator=cpu"
    )


def keep_freed_memory() -> None:
    """Tell glibc to reuse big blocks instead of giving them back to the system after each layer.

    Feature maps are tens of MB; mapping and clearing their pages anew costs up to a third of a step
    on a CPU. Without glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        log.info("runtime: no glibc, its allocator stays as it is")
        return
    libc.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
