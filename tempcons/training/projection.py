"""Codes by optimisation: every frame's W+ code is moved until the generator renders the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.check import ConfigError, check_number
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator


@dataclass(frozen=True)
class ProjectionConfig:
    """Settings of the optimisation.

    Attributes:
        steps: optimiser steps for each batch of frames.
        batch: frames optimised together.
        lr: peak learning rate (Adam).
        rise, fall: shares of the steps in which the rate rises linearly, and falls as a cosine.
        size: side in px, at most, at which pictures are compared.
        lambda_l2: weight of the mean squared error.
        lambda_perceptual: weight of the perceptual distance.
    """

    steps: int = 450
    batch: int = 4
    lr: float = 0.01
    rise: float = 0.05
    fall: float = 0.25
    size: int = 256
    lambda_l2: float = 0.1
    lambda_perceptual: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "size"):
            check_number(f"inversion.projection.{name}", getattr(self, name), 1)
        check_number("inversion.projection.lr", self.lr, 0, above=True)
        for name in ("rise", "fall", "lambda_l2", "lambda_perceptual"):
            check_number(f"inversion.projection.{name}", getattr(self, name), 0)
        if self.rise > 1 or self.fall > 1:
            what = f"inversion.projection has rise {self.rise}, fall {self.fall}"
            raise ConfigError("config", what, "shares of the steps, 1 at most")
        if not self.lambda_l2 and not self.lambda_perceptual:
            raise ConfigError(
                "config", "inversion.projection has no loss", "set lambda_l2 or lambda_perceptual"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        left = 1 - step / self.steps
        falling = min(1.0, left / self.fall) if self.fall else 1.0
        rising = min(1.0, (step + 1) / max(1.0, self.rise * self.steps))
        return self.lr * rising * 0.5 * (1 - math.cos(math.pi * falling))


def project(
    frames: Tensor, start: Tensor, generator: Generator, perceptual: FeatureDistance, config: ProjectionConfig
) -> Tensor:
    """(B, L, D) codes of pictures (B, 3, S, S) in [-1, 1], all starting at the mean code (L, D).

    Schedule and start as in the projector of Karras 2020 and PTI; unlike them in W+ instead of W, and
    without noise on the codes, so that the same frames give the same codes.
    """
    target = at_size(frames, config.size)
    fixed = perceptual.features(target)
    codes = start.to(frames).expand(len(frames), -1, -1).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([codes])
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        pictures = at_size(generator.synthesis(codes), config.size)
        distance = perceptual.distance_of_features(perceptual.features(pictures.clamp(-1, 1)), fixed)
        # Sums over the batch: a frame's code doesn't depend on the frames beside it.
        squared = (pictures - target).square().mean(dim=(1, 2, 3))
        loss = config.lambda_perceptual * distance.sum() + config.lambda_l2 * squared.sum()
        [codes.grad] = torch.autograd.grad(loss, [codes])
        optimiser.step()
    return codes.detach()


def at_size(pictures: Tensor, side: int) -> Tensor:
    """Pictures at ``side`` px by averaging over areas; smaller ones as they are."""
    return pictures if pictures.shape[-1] <= side else F.adaptive_avg_pool2d(pictures, (side, side))
