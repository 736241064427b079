"""Augmentation for a discriminator with few pictures (ADA): one resampling, one colour matrix, adaptive.

Each kind of change is applied to each picture with probability p. Both are linear in the picture, so
gradients reach the generator through them. p follows how sure the discriminator is of real pictures.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020 (the
pixel blitting, geometric and colour groups; reflection at the border instead of a padded filter bank).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Strengths:
    """Standard deviations of the changes (ADA's, but shifts and turns smaller: faces are aligned)."""

    shift: float = 0.06
    log_scale: float = 0.2 * math.log(2)
    turn: float = 0.15
    brightness: float = 0.2
    log_contrast: float = 0.5 * math.log(2)
    log_saturation: float = math.log(2)
    hue: float = 0.4


class Drawn:
    """Random numbers for a batch: zero where a change does not happen."""

    def __init__(self, batch: int, p: float, random: torch.Generator) -> None:
        self.batch, self.p, self.random = batch, p, random

    def normal(self, deviation: float) -> Tensor:
        """(B,) normally distributed with probability p, else 0."""
        device = self.random.device
        happens = torch.rand(self.batch, generator=self.random, device=device) < self.p
        return torch.randn(self.batch, generator=self.random, device=device) * deviation * happens

    def sign(self) -> Tensor:
        """(B,) -1 with probability p / 2, else 1."""
        device = self.random.device
        return 1 - 2 * (torch.rand(self.batch, generator=self.random, device=device) < self.p / 2).float()


def geometric(drawn: Drawn, strengths: Strengths) -> Tensor:
    """(B, 2, 3) affine maps for ``affine_grid``: mirror, turn, scale (also unevenly), shift."""
    angle, scale = drawn.normal(strengths.turn), torch.exp(drawn.normal(strengths.log_scale))
    uneven = torch.exp(drawn.normal(strengths.log_scale))
    c, s = angle.cos(), angle.sin()
    across, down = scale * uneven * drawn.sign(), scale / uneven
    # Fractions of the side, in coordinates that span two units.
    x, y = 2 * drawn.normal(strengths.shift), 2 * drawn.normal(strengths.shift)
    return torch.stack(
        [torch.stack([across * c, -down * s, x], 1), torch.stack([across * s, down * c, y], 1)], 1
    )


def colour(drawn: Drawn, strengths: Strengths) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) matrices and (B, 3) offsets: hue, saturation, contrast, brightness."""
    batch, device = drawn.batch, drawn.random.device
    identity = torch.eye(3, device=device)
    gray = torch.full((3, 3), 1 / 3, device=device)
    saturation = torch.exp(drawn.normal(strengths.log_saturation)).view(batch, 1, 1)
    saturated = gray + saturation * (identity - gray)
    turned = hue_rotation(drawn.normal(strengths.hue))
    contrast = torch.exp(drawn.normal(strengths.log_contrast)).view(batch, 1, 1)
    brightness = drawn.normal(strengths.brightness)
    return contrast * (saturated @ turned), brightness[:, None].expand(-1, 3)


def hue_rotation(angle: Tensor) -> Tensor:
    """(B, 3, 3) rotations about the gray axis (Rodrigues)."""
    third = math.sqrt(1 / 3)
    cross = angle.new_tensor([[0, -third, third], [third, 0, -third], [-third, third, 0]])
    c, s = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return c * torch.eye(3, device=angle.device) + s * cross + (1 - c) / 3


def moved(pictures: Tensor, maps: Tensor) -> Tensor:
    """Pictures (B, C, S, S) resampled by (B, 2, 3) affine maps, mirrored beyond their border."""
    grid = F.affine_grid(maps, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid.to(pictures.dtype), padding_mode="reflection", align_corners=False)


def augment(
    pictures: Tensor, p: float, random: torch.Generator, strengths: Strengths | None = None
) -> Tensor:
    """Changed pictures (B, 3, S, S); with p = 0 they are as they were."""
    if p <= 0:
        return pictures
    drawn, strengths = Drawn(len(pictures), p, random), strengths or Strengths()
    pictures = moved(pictures, geometric(drawn, strengths))
    matrix, offset = colour(drawn, strengths)
    mixed = torch.einsum("bij,bjhw->bihw", matrix.to(pictures.dtype), pictures)
    return mixed + offset[:, :, None, None].to(pictures.dtype)


def gray(pictures: Tensor) -> Tensor:
    """The luminance of pictures (B, 3, S, S), in all three channels."""
    weights = pictures.new_tensor(LUMA).view(1, 3, 1, 1)
    return (pictures * weights).sum(1, keepdim=True).expand_as(pictures)


def adapted(p: float, sureness: float, pictures: int, target: float, full_after: int) -> float:
    """The next p: up if the discriminator is too sure of real pictures, else down.

    Args:
        sureness: mean sign of its logits for real pictures since the last change.
        pictures: real pictures seen since then.
        full_after: pictures in which p can go from 0 to 1.
    """
    change = math.copysign(pictures / full_after, sureness - target)
    return min(1.0, max(0.0, p + change))


def strength_at(share: float) -> float:
    """Of :func:`input_changes`, by the share of a training: at its end pictures are as users' will be."""
    return max(0.2, 1 - share)


def input_changes(
    pictures: Tensor,
    tintable: Tensor,
    random: torch.Generator,
    strength: float = 1.0,
    moved_share: float = 1.0,
) -> Tensor:
    """What an encoder should bear: mirror images, small errors of the alignment, tone, tinted gray pictures.

    Args:
        pictures: (B, 3, S, S) in [-1, 1].
        tintable: (B,) pictures without colours; half of them get a random warm or cold tone.
        strength: scales everything but mirroring.
        moved_share: of the pictures, that are moved; the others keep the sharpness that resampling takes.
    """
    batch, device = len(pictures), random.device
    small = Strengths(shift=0.01 * strength, log_scale=0.02 * strength, turn=0.035 * strength)
    drawn = Drawn(batch, 1.0, random)
    maps = geometric(drawn, small)
    if moved_share < 1:
        stays = torch.rand(batch, generator=random, device=device) >= moved_share
        in_place = torch.zeros_like(maps)
        in_place[:, 0, 0], in_place[:, 1, 1] = maps[:, 0, 0].sign(), 1.0
        maps = torch.where(stays[:, None, None], in_place, maps)
    pictures = moved(pictures, maps)
    chosen = tintable & (torch.rand(batch, generator=random, device=device) < 0.5 * strength)
    warm = drawn.normal(0.12) + 0.05
    tone = torch.stack([warm, drawn.normal(0.03), -warm], 1) * chosen[:, None]
    contrast = torch.exp(drawn.normal(0.08 * strength)).view(-1, 1, 1, 1)
    pictures = pictures * contrast + drawn.normal(0.05 * strength).view(-1, 1, 1, 1)
    return (pictures + tone[:, :, None, None] * (1 - 0.7 * pictures.square())).clamp(-1, 1)
