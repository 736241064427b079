"""RAFT's recurrent part for frozen weights: nothing is computed at every update that stays the same.

The arithmetic is torchvision's up to the order of sums. A convolution of channels laid side by side is the
sum of the convolutions of its parts: the context's share is computed before the updates, once for a pair, and
the gates z and r, which read the same, are one convolution. The correlation of b with a is that of a with
b, transposed. On a CPU the convolutions need fewer products (models/fixed_convolution.py).

Source: Teed and Deng 2020, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.geometry.warp import pixel_grid
from tempcons.models.fixed_convolution import FixedConvolution

if TYPE_CHECKING:  # torchvision takes seconds to load
    from torchvision.models.optical_flow import RAFT
    from torchvision.models.optical_flow.raft import ConvGRU, MotionEncoder


class CorrelationPyramid:
    """Correlation of each position of one picture with all of the other, at falling resolution.

    Args:
        volume: (B, h, w, h, w) correlations: of a position of the first picture with all of the second.
        levels: resolutions, each half of the one before.
        radius: of the neighbourhood looked up.
    """

    def __init__(self, volume: Tensor, levels: int, radius: int) -> None:
        batch, height, width = volume.shape[:3]
        level = volume.reshape(batch * height * width, 1, height, width)
        self.levels = [level]
        for _ in range(levels - 1):
            level = F.avg_pool2d(level, kernel_size=2)
            self.levels.append(level)
        side = 2 * radius + 1
        # x changes slowest: the order of the channels that the weights were trained on.
        steps = torch.arange(-radius, radius + 1, device=volume.device, dtype=volume.dtype)
        self.around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).view(1, side, side, 2)

    def look_up(self, positions: Tensor) -> Tensor:
        """(B, levels (2 radius + 1)^2, h, w) correlations around positions (B, 2, h, w) in px, x first."""
        batch, _, height, width = positions.shape
        centre = positions.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for level, volume in enumerate(self.levels):
            limits = centre.new_tensor([volume.shape[-1] - 1, volume.shape[-2] - 1])
            grid = (centre / 2**level + self.around) * (2 / limits) - 1
            values = F.grid_sample(volume, grid.to(volume.dtype), align_corners=True)
            found.append(values.view(batch, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2).contiguous()


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """(B, h, w, h, w) correlations of features (B, C, h, w)."""
    batch, channels, height, width = first.shape
    scaled = first.flatten(2).transpose(1, 2) / math.sqrt(channels)
    return (scaled @ second.flatten(2)).view(batch, height, width, height, width)


def both_ways(volume: Tensor) -> Tensor:
    """(2B, h, w, h, w): the correlations of pairs (a, b), then those of (b, a)."""
    return torch.cat([volume, volume.permute(0, 3, 4, 1, 2)])


@dataclass(frozen=True)
class SplitGRU:
    """A convolutional GRU whose input's first channels, the context, stay the same from update to update.

    Attributes:
        gates: z and r of (hidden state, other input), before the context's share.
        candidate: q of the same.
        gates_context: (B, 2 C_h, h, w) share of context and bias in z and r.
        candidate_context: (B, C_h, h, w) the same of q.
    """

    gates: FixedConvolution
    candidate: FixedConvolution
    gates_context: Tensor
    candidate_context: Tensor

    @classmethod
    def of(cls, gru: ConvGRU, context: Tensor) -> SplitGRU:
        """Take a GRU's weights apart and compute the context's share."""
        hidden, last = gru.convz.out_channels, gru.convz.out_channels + context.shape[1]
        convolutions = (gru.convz, gru.convr, gru.convq)
        weight = torch.cat([c.weight for c in convolutions])
        bias = torch.cat([c.bias for c in convolutions])
        share = F.conv2d(context, weight[:, hidden:last], bias, padding=gru.convz.padding)
        changing = torch.cat([weight[:, :hidden], weight[:, last:]], dim=1)
        gates, candidate = changing.split([2 * hidden, hidden])
        return cls(
            FixedConvolution(gates), FixedConvolution(candidate), *share.split([2 * hidden, hidden], dim=1)
        )

    def __call__(self, hidden: Tensor, changing: Tensor) -> Tensor:
        """The next hidden state (B, C_h, h, w)."""
        seen = torch.cat([hidden, changing], dim=1)
        gates = self.gates(seen) + self.gates_context
        z, r = torch.sigmoid(gates).chunk(2, dim=1)
        seen = torch.cat([r * hidden, changing], dim=1)
        candidate = self.candidate(seen) + self.candidate_context
        return torch.lerp(hidden, torch.tanh(candidate), z)


@dataclass(frozen=True)
class Motion:
    """RAFT's motion encoder: flow and correlations to features.

    Attributes:
        encoder: torchvision's.
        correlation: its second convolution of the correlations; None in ``raft_small``.
        flow: its second convolution of the flow.
        together: its last one.
    """

    encoder: MotionEncoder
    correlation: FixedConvolution | None
    flow: FixedConvolution
    together: FixedConvolution

    @classmethod
    def of(cls, encoder: MotionEncoder) -> Motion:
        second = encoder.convcorr2
        correlation = None if isinstance(second, nn.Identity) else _fixed(second[0])
        return cls(encoder, correlation, _fixed(encoder.convflow2[0]), _fixed(encoder.conv[0]))

    def __call__(self, flow: Tensor, correlation: Tensor) -> Tensor:
        """(B, C, h, w) features, flow (B, 2, h, w) among them."""
        seen = self.encoder.convcorr1(correlation)
        if self.correlation is not None:
            seen = F.relu(self.correlation(seen))
        moved = F.relu(self.flow(self.encoder.convflow1(flow)))
        return torch.cat([F.relu(self.together(torch.cat([seen, moved], dim=1))), flow], dim=1)


def _fixed(convolution: nn.Conv2d) -> FixedConvolution:
    return FixedConvolution(convolution.weight, convolution.bias)


def split_grus(model: RAFT, context: Tensor) -> list[SplitGRU]:
    """The GRUs of the update block: two in ``raft_large``, one in ``raft_small``."""
    from torchvision.models.optical_flow.raft import ConvGRU

    block = model.update_block.recurrent_block
    return [SplitGRU.of(gru, context) for gru in (block.convgru1, block.convgru2) if isinstance(gru, ConvGRU)]


def recurrent_flow(
    model: RAFT, volume: Tensor, context: Tensor, updates: int, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Flow at an eighth of the size, after all updates.

    Gradients reach ``volume`` and ``context``; as in the paper, none flow through the positions looked up, so
    that the flow of all updates but the last carries none.

    Args:
        model: frozen RAFT.
        volume: (B, h, w, h, w) correlations.
        context: (B, C, h, w) output of the context encoder.
        updates: number of them.
        first: (B, 2, h, w) flow to start from; None: no motion.

    Returns:
        (B, 2, h, w) flow in px of its own grid, and the last hidden state (B, C_h, h, w).
    """
    block = model.update_block
    hidden, fixed = context.split(
        [block.hidden_state_size, context.shape[1] - block.hidden_state_size], dim=1
    )
    hidden, fixed = torch.tanh(hidden), F.relu(fixed)
    grus, motion_of = split_grus(model, fixed), Motion.of(block.motion_encoder)
    last = _fixed(block.flow_head.conv1)
    pyramid = CorrelationPyramid(volume, model.corr_block.num_levels, model.corr_block.radius)
    start = pixel_grid(context.shape[-2], context.shape[-1], context).expand(len(context), -1, -1, -1)
    flow = torch.zeros_like(start) if first is None else first.to(start)
    for update in range(updates):
        motion = motion_of(flow, pyramid.look_up(start + flow))
        for gru in grus:
            hidden = gru(hidden, motion)
        with torch.set_grad_enabled(torch.is_grad_enabled() and update == updates - 1):
            flow = flow + block.flow_head.conv2(F.relu(last(hidden)))
    return flow, hidden
