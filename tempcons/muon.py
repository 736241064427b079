"""Muon: convolution kernels learn by steps that turn and stretch all directions alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
# Of the iteration, and how often it is applied. Source: Jordan 2024.
NEWTON_SCHULZ, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
# A step of orthogonal rows has this root mean square, times the rate, as Adam's has. Source: Liu 2025.
RMS = 0.2
NORM_FLOOR = 1e-7
# Kernels of more output channels are Adam's: their products would take longer than the rest of a step.
WIDEST = 128


def orthogonalised(matrix: Tensor) -> Tensor:
    """(M, N) matrix with all singular values brought near 1 (0.7 to 1.2), singular vectors as they are.

    Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks", Newton-Schulz
    iteration of fifth order. Near 1 is enough there, and five products of the shorter side are all it takes.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=NORM_FLOOR)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def is_kernel(parameter: Tensor) -> bool:
    """Whether a generator's parameter (1, O, I, K, K) is a convolution's of more than one pixel, O <= 128."""
    return parameter.ndim == 5 and parameter.shape[-1] > 1 and parameter.shape[1] <= WIDEST


class Muon(torch.optim.Adam):
    """Adam, but for groups with ``momentum``: there Muon, on each kernel as an (O, I K K) matrix.

    Adam scales every weight by itself, so a step in a kernel follows the few directions in which
    its gradients agree. Muon's step has all directions of the momentum at one strength, and a
    generator comes nearer to a clip in as many steps (docs/speed.md).

    ``torch.optim.Muon`` takes matrices only, and Lightning's own loop one optimiser.

    Source: Jordan 2024; the size of a step after Liu 2025, "Muon is Scalable for LLM Training", so that rates
    mean what they mean for Adam.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of every group; returns what ``closure`` does."""
        # First and with all groups in place: it clears every gradient.
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        groups = self.param_groups
        # Adam's own step is told of its own groups alone.
        self.param_groups = [group for group in groups if group.get("momentum") is None]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("momentum") is not None:
                for parameter in group["params"]:
                    self._turn(parameter, group["momentum"], group["lr"])
        return result

    def _turn(self, parameter: Tensor, momentum: float, rate: float) -> None:
        """One step of one kernel, in place; nothing where it has no gradient."""
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:
            # Adam looks for a step wherever there is a state, when it goes on from a checkpoint.
            state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(parameter)}
        state["step"] += 1
        mean = state["momentum"]
        mean.lerp_(parameter.grad, 1 - momentum)
        # Nesterov's: the momentum as it will be after one more gradient like this.
        ahead = mean.lerp(parameter.grad, 1 - momentum)
        matrix = ahead.reshape(parameter.shape[1], -1)
        step = orthogonalised(matrix) * (RMS * math.sqrt(max(matrix.shape)))
        parameter.sub_(step.reshape(parameter.shape), alpha=rate)


def with_kernels(
    parameters: Iterable[nn.Parameter], rate: float, kernel_rate: float | None
) -> list[dict[str, Any]]:
    """Groups for :class:`Muon`: kernels by Muon at ``kernel_rate``, all else by Adam at ``rate``.

    Args:
        parameters: of a generator; kernels are those that :func:`is_kernel` tells.
        rate: of Adam.
        kernel_rate: of Muon; None: Adam takes the kernels too.
    """
    kernels: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:
        (kernels if kernel_rate is not None and is_kernel(parameter) else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": others, "lr": rate}]
    if kernels:
        groups.append({"params": kernels, "lr": kernel_rate, "momentum": MOMENTUM})
    return groups
