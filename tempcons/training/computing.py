"""How a fit is computed: memory formats, checkpointing, compilation, TF32; not what is learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.training.settings import TrainerConfig


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Matrix products in TF32 inside, where the GPU has it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class HowToCompute(pl.Callback):
    """Sets the networks of a module up for a fit, in the process that fits, and puts them back after it.

    Args:
        config: channels_last, checkpointing, compile and fused_adam.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        config = self.config
        if config.channels_last:
            lay_out(pl_module, torch.channels_last)
        for network in pl_module.modules():
            if isinstance(network, Generator):
                network.checkpointing = config.checkpointing
            if config.compile and isinstance(network, Generator | FeatureDistance):
                compile_in_place(network)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for optimiser in trainer.optimizers:
            # One that goes on from a checkpoint is as it was saved.
            if self.config.fused_adam and isinstance(optimiser, torch.optim.Adam) and not optimiser.state:
                fuse(optimiser)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.config.channels_last:
            lay_out(pl_module, torch.contiguous_format)
        for network in pl_module.modules():
            if isinstance(network, Generator):
                network.checkpointing = False
            if isinstance(network, Generator | FeatureDistance):
                undo_compilation(network)


@torch.no_grad()
def lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Give 4-dimensional weights a memory format, which feature maps then take over.

    Not ``Module.to``: it refuses the generator's 5-dimensional weights, which are convolved as 4-dimensional.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


COMPILED = {Generator: "synthesis", FeatureDistance: "_taps"}


def compile_in_place(network: nn.Module) -> None:
    """The network's costly method through ``torch.compile``, from its next call on."""
    name = next(name for kind, name in COMPILED.items() if isinstance(network, kind))
    compiled: Any = torch.compile(getattr(network, name))
    # On the object, beside the class's own: weights, names and copies stay as they are.
    object.__setattr__(network, name, compiled)


def undo_compilation(network: nn.Module) -> None:
    """The class's own method again."""
    for name in COMPILED.values():
        network.__dict__.pop(name, None)


def fuse(optimiser: torch.optim.Adam) -> None:
    """One kernel for all weights of a group, from the first step on."""
    for group in optimiser.param_groups:
        group["fused"], group["foreach"] = True, False
