"""A second process on a CPU: what the result is measured beside is made while this one makes the result.

A training step on small pictures gains little from a second thread, so two trainings side by side, with half
of the threads each, end far sooner than one after the other. The process only fills the cache. This one then
asks for everything as if it were alone: what is there it reuses, what is being made it waits for, and what is
missing because the process failed it makes itself, and tells the user what there is to tell.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

STOP_S = 10.0
LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"


@contextmanager
def beside(work: Callable[..., None], told: Path, *arguments: Any) -> Iterator[None]:
    """Run ``work`` in a process of its own while the block runs, each with half of the threads.

    When the block ends, so does the process. When the process ends first, the block keeps its half: rounding
    depends on the number of threads, and the same command should give the same numbers however the two were
    timed. With one thread nothing is started.

    Args:
        work: a function of a module; what it makes must be of use though it may end at any point.
        told: file that gets all that the process prints.
        arguments: of ``work``; they are sent to the process.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=run, args=(work, told, threads // 2, *arguments), name="beside", daemon=True
    )
    torch.set_num_threads(threads - threads // 2)
    process.start()
    log.info("a second process makes what the result is measured beside; it prints into %s", told)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        stop(process, told)


def stop(process: BaseProcess, told: Path) -> None:
    """End the process, and say so if it had ended badly before."""
    if process.exitcode:
        log.warning("the second process failed (%s tells how); this one did its work", told)
    process.terminate()
    process.join(STOP_S)
    if process.is_alive():
        process.kill()


def run(work: Callable[..., None], told: Path, threads: int, *arguments: Any) -> None:
    """What the process does: ``work`` with so many threads, for as long as its parent lives."""
    # Apart from the terminal: its Ctrl-C is for the parent, which then ends this process.
    os.setsid()
    with told.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    work(*arguments)


def end_with_parent() -> None:
    """Leave at once when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
