"""The U-Net of Deep Video Prior (Lei, Xing and Chen 2020): a network that is trained on one video alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import check_shape

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)
SLOPE = 0.2


class VideoPriorNet(nn.Module):
    """Maps an original frame to an edited one; what flickers is learnt last.

    Five levels of width, 2, 4, 8 and 16 times width; max-pooling down, bilinear enlargement with a linear 3x3
    convolution up, skips joined by concatenation; biases, no normalisation, leaky ReLU 0.2, linear output.
    Weights start Glorot-uniform, biases at zero.

    Differs from the released code: sides that are no multiple of 16 are padded by repeating the border and
    cut back (there, pictures lose their right and lower border), and enlarging uses half-pixel centres.

    Args:
        outputs: output pictures: 1, or 2 for iteratively reweighted training.
        width: channels of the first level.
        seed: of the initial weights.
    """

    def __init__(self, outputs: int = 1, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        first = nn.Sequential(nn.Conv2d(3, width, 1), _leaky(), *_convolution(width, width))
        self.down = nn.ModuleList([first])
        self.reduce, self.merge = nn.ModuleList(), nn.ModuleList()
        for wide, narrow in zip(widths[1:], widths[:-1], strict=True):
            self.down.append(nn.Sequential(*_convolution(narrow, wide), *_convolution(wide, wide)))
            self.reduce.append(nn.Conv2d(wide, narrow, 3, padding=1))
            last = _convolution(narrow, narrow) if narrow > width else []
            self.merge.append(nn.Sequential(*_convolution(2 * narrow, narrow), *last))
        self.output = nn.Conv2d(width, 3 * outputs, 3, padding=1)
        self._initialise(seed)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) frames on [0, 1] to (B, 3 * outputs, H, W), about [0, 1] but not bounded."""
        check_shape(frames, (None, 3, None, None), "frames")
        height, width = frames.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        x = F.pad(frames, padding, mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(LEVELS - 1)):
            enlarged = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = self.merge[level](torch.cat([self.reduce[level](enlarged), skips[level]], dim=1))
        return self.output(x)[..., :height, :width]

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight, generator=generator)
                module.bias.zero_()


def _leaky() -> nn.Module:
    return nn.LeakyReLU(SLOPE)


def _convolution(channels: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, outputs, 3, padding=1), _leaky()]
