"""One GPU for each job of a sweep, never two jobs on one."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE, SLURM = "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"
WAIT_S = 1.0
_taken: list[FileLock] = []


def take_gpu(folder: Path | None = None) -> str | None:
    """Reserve a free GPU for this process until it ends, and hide the others from it.

    Waits while all are taken. A process that ran one job keeps its GPU for the next, since CUDA can't
    change over. Nothing is done without GPUs, or under Slurm, which gives each job its own.

    Args:
        folder: where the locks are; the machine's temporary folder if None.

    Returns:
        The GPU as CUDA_VISIBLE_DEVICES names it, or None.
    """
    if _taken or SLURM in os.environ:
        return os.environ.get(VISIBLE)
    names = visible_gpus()
    if not names:
        return None
    places = folder or Path(tempfile.gettempdir())
    name = first_free(names, places)
    if name is None:
        log.info("sweep: all %d GPUs are taken, waiting", len(names))
    while name is None:
        time.sleep(WAIT_S)
        name = first_free(names, places)
    os.environ[VISIBLE] = name
    log.info("sweep: this job has GPU %s", name)
    return name


def first_free(names: Sequence[str], folder: Path) -> str | None:
    """Lock and name the first GPU that no other process has locked; None if there is none."""
    for name in names:
        lock = FileLock(folder / f"tempcons-gpu-{name.replace('/', '_')}.lock", mode=0o666)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _taken.append(lock)
        return name
    return None


def visible_gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; CUDA is not started by asking."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
