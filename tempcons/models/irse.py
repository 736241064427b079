"""IR and IR-SE residual networks (from face recognition), the body of the inversion encoders.

Parameter names are those of the released encoder checkpoints: ``input_layer`` and ``body``.

Source: Deng et al., "ArcFace", CVPR 2019 (improved residual unit); Hu et al.,
"Squeeze-and-Excitation Networks", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

UNITS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
SE_REDUCTION = 16


class SqueezeExcite(nn.Module):
    """Rescale each channel by a factor computed from the mean of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.adaptive_avg_pool2d(x, 1)
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class ResidualUnit(nn.Module):
    """Improved residual unit; the stride sits in the second convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        layers = [
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.res_layer = nn.Sequential(*layers, *([SqueezeExcite(channels)] if squeeze else []))

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut_layer is None:
            shortcut = x[:, :, :: self.stride, :: self.stride]
        else:
            shortcut = self.shortcut_layer(x)
        return shortcut + self.res_layer(x)


class IRBackbone(nn.Module):
    """Body shared by the encoders; subclasses add their heads.

    Args:
        input_nc: channels of the input.
        dim: channels of the last stage (512); the stages before have 1/8, 1/4 and 1/2 of it.
        num_layers: 50, 100 or 152.
        squeeze: with squeeze-and-excitation ("ir_se") or without ("ir").
    """

    def __init__(self, input_nc: int = 3, dim: int = 512, num_layers: int = 50, squeeze: bool = True) -> None:
        super().__init__()
        if num_layers not in UNITS:
            raise ValueError(f"encoder depth must be one of {sorted(UNITS)}, got {num_layers}")
        stem = dim // 8
        self.input_layer = nn.Sequential(
            nn.Conv2d(input_nc, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        units: list[nn.Module] = []
        self.stage_ends: list[int] = []
        before = stem
        for stage, count in enumerate(UNITS[num_layers]):
            channels = stem * 2**stage
            for index in range(count):
                units.append(ResidualUnit(before, channels, 1 if index else 2, squeeze))
                before = channels
            self.stage_ends.append(len(units) - 1)
        self.body = nn.Sequential(*units)

    def stages(self, pictures: Tensor) -> Iterator[Tensor]:
        """Features at the end of each of the four stages: 1/2, 1/4, 1/8 and 1/16 of the size."""
        x = self.input_layer(pictures)
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self.stage_ends:
                yield x
