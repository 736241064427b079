"""What every test runs under: no W&B account or network, few threads, repeatable numbers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """Seeded; and Lightning ignores SIGINT after an interrupt, which must not outlive a test."""
    torch.manual_seed(0)
    before = signal.getsignal(signal.SIGINT)
    yield
    if signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)
