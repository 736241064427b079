"""One GPU for each job of a sweep, never two jobs on one."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
WAIT_S = 1.0
_taken: list[FileLock] = []


def take_gpu(folder: Path | None = None) -> str | None:
    """Reserve a free GPU for this process until it ends, and hide the others from it.

    Waits while all are taken. A process that ran one job keeps its GPU for the next, since CUDA can't
    change over. Without GPUs, or with several devices asked for by the launcher itself, nothing is done.

    Args:
        folder: where the locks are; the machine's temporary folder if None.

    Returns:
        The GPU as CUDA_VISIBLE_DEVICES names it, or None.
    """
    names = visible_gpus()
    if _taken or not names:
        return os.environ.get(VISIBLE)
    places = folder or Path(tempfile.gettempdir())
    waiting = False
    while True:
        for name in names:
            lock = FileLock(places / f"tempcons-gpu-{name.replace('/', '_')}.lock", mode=0o666)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _taken.append(lock)
            os.environ[VISIBLE] = name
            log.info("sweep: this job has GPU %s", name)
            return name
        if not waiting:
            log.info("sweep: all %d GPUs are taken, waiting", len(names))
            waiting = True
        time.sleep(WAIT_S)


def visible_gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; CUDA is not started by asking."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
