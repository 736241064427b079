"""Directions in style space (StyleCLIP's global directions).

A change of the styles that is the same for all frames equals a change of the biases of the affine
layers, so such an edit is a new generator; the codes stay as they are.

Source: Patashnik et al., "StyleCLIP", ICCV 2021, Section 6; Wu et al., "StyleSpace Analysis",
CVPR 2021.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from tempcons.check import WeightsError, check_shape
from tempcons.models.stylegan2 import EqualLinear, Generator, StyledConv, ToRGB


def style_layers(generator: Generator, with_rgb: bool) -> list[EqualLinear]:
    """Affine layers in the order of style space: per resolution its convolutions, then its RGB output."""
    # nn.ModuleList yields plain modules to a type checker.
    convs = cast(list[StyledConv], list(generator.convs))
    to_rgbs = cast(list[ToRGB], list(generator.to_rgbs))
    layers = [generator.conv1.conv.modulation]
    if with_rgb:
        layers.append(generator.to_rgb1.conv.modulation)
    for block, to_rgb in enumerate(to_rgbs):
        layers += [convs[2 * block + i].conv.modulation for i in range(2)]
        if with_rgb:
            layers.append(to_rgb.conv.modulation)
    return layers


def style_channels(generator: Generator, with_rgb: bool) -> int:
    """Length of a style vector: 6048 for the 1024 px generator without RGB outputs, 9088 with them."""
    return sum(len(layer.bias) for layer in style_layers(generator, with_rgb))


@torch.no_grad()
def style_spread(generator: Generator, with_rgb: bool, count: int = 2048, seed: int = 0) -> Tensor:
    """(S,) standard deviation of every style channel over ``count`` codes of the mapping network."""
    random = torch.Generator().manual_seed(seed)
    codes = generator.style(torch.randn(count, generator.z_dim, generator=random))
    return torch.cat([layer(codes).std(dim=0) for layer in style_layers(generator, with_rgb)])


@torch.no_grad()
def shift_styles(generator: Generator, direction: Tensor, strength: float) -> Generator:
    """A copy of the generator whose styles are moved by ``strength * direction``.

    Args:
        direction: (S,) over the convolutions, or over the convolutions and RGB outputs.

    Raises:
        WeightsError: a direction of another length.
    """
    lengths = {style_channels(generator, with_rgb): with_rgb for with_rgb in (False, True)}
    if direction.ndim != 1 or len(direction) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise WeightsError("edit", f"style direction of shape {tuple(direction.shape)}", f"wanted: {wanted}")
    edited = copy.deepcopy(generator)
    layers = style_layers(edited, lengths[len(direction)])
    for layer, change in zip(layers, direction.split([len(x.bias) for x in layers]), strict=True):
        layer.bias.add_(strength * change.to(layer.bias))
    return edited


def global_direction(
    relevance: Tensor, text_direction: Tensor, threshold: float, spread: Tensor | None = None
) -> Tensor:
    """Style direction of a text from the measured relevance of each channel.

    Args:
        relevance: (S, C) change of the CLIP embedding that each style channel causes.
        text_direction: (C,) difference of two text embeddings.
        threshold: channels of smaller relevance stay as they are (beta; STIT uses 0.2).
        spread: (S,) standard deviation of each channel, the unit of the result; default 1.

    Returns:
        (S,), largest magnitude 1 before ``spread``.

    Raises:
        ValueError: shapes that don't fit.
        WeightsError: a threshold that leaves no channel.
    """
    check_shape(relevance, (None, None), "channel relevance")
    check_shape(text_direction, (relevance.shape[1],), "text direction")
    change = relevance @ (text_direction / text_direction.norm())
    change = torch.where(change.abs() < threshold, 0, change)
    largest = change.abs().max()
    if largest == 0:
        raise WeightsError("edit", f"no style channel reaches the threshold {threshold}", "lower it")
    change = change / largest
    return change if spread is None else change * spread
