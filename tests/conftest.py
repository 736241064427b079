"""What every test runs under: no W&B account or network, few threads, repeatable numbers."""

from __future__ import annotations

import os

os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """The same random numbers for a test whatever ran before it."""
    torch.manual_seed(0)
