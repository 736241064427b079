"""Settings of the process that change speed or repeatability, never results' meaning."""

from __future__ import annotations

import ctypes
import logging
import sys

import pytorch_lightning as pl
import torch

from tempcons.check import ConfigError

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 30


def prepare_process(num_threads: int | None, seed: int) -> None:
    """Seed everything, fix the number of threads, keep freed memory for the next picture."""
    pl.seed_everything(seed, workers=True, verbose=False)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    keep_freed_memory()


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
