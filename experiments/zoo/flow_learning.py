"""What RAFT-small learns from: its flow after every update, and the correlation of its features alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import RAFT

from experiments.zoo.synthetic_motion import MotionPair
from tempcons.geometry.warp import inside, pixel_grid
from tempcons.models.raft_view import STRIDE, CentredView


def sequence_loss(flows: list[Tensor], pair: MotionPair, discount: float, hidden_weight: float) -> Tensor:
    """Mean absolute error of all updates' flows, later ones weighing more (RAFT's Eq. 7).

    Args:
        flows: (B, 2, S, S) of every update, in px.
        discount: weight of an update's error relative to the next one's.
        hidden_weight: weight of points that are hidden or outside in the other frame.
    """
    weight = hidden_weight + (1 - hidden_weight) * pair.visible
    errors = [((flow - pair.flow).abs() * weight).mean() for flow in flows]
    last = len(errors) - 1
    return torch.stack([discount ** (last - i) * error for i, error in enumerate(errors)]).sum()


def all_updates(model: RAFT, a: Tensor, b: Tensor, updates: int, view: CentredView) -> list[Tensor]:
    """F_{a->b} (B, 2, H, W) in px after every update; gradients reach the weights.

    Under autocast networks are in half precision, and correlations and positions are not.
    """
    size, single = a.shape[-2:], torch.autocast(a.device.type, enabled=False)
    first, second = view.enter(a), view.enter(b)
    found_in = model.feature_encoder(torch.cat([first, second])).float()
    with single:
        model.corr_block.build_pyramid(*found_in.chunk(2))
    features = model.context_encoder(first)
    state = model.update_block.hidden_state_size
    hidden, context = torch.tanh(features[:, :state]), F.relu(features[:, state:])
    height, width = context.shape[-2:]
    start = pixel_grid(height, width, context.float()).expand(len(context), -1, -1, -1)
    flow, found = torch.zeros_like(start), []
    for _ in range(updates):
        flow = flow.detach()
        with single:
            seen = model.corr_block.index_pyramid(centroids_coords=start + flow)
        hidden, change = model.update_block(hidden, context, seen, flow)
        flow = flow + change.float()
        with single:
            found.append(view.leave(flow, None, *size))
    return found


def matching_loss(model: RAFT, pair: MotionPair, view: CentredView) -> Tensor:
    """Cross entropy of finding frame a's visible cells in frame b by the correlation of features alone.

    The correlations are those that the updates read. They learn in minutes from this what they hardly learn
    through updates that know nothing yet.
    """
    features = model.feature_encoder(torch.cat([view.enter(pair.a), view.enter(pair.b)]))
    height, width = features.shape[-2:]
    first, second = features.flatten(2).chunk(2)
    found = (first.transpose(1, 2) @ second / math.sqrt(first.shape[1])).log_softmax(2)
    cells = pixel_grid(height, width, features)
    places = ((cells * STRIDE + 0.5) / view.upscale - 0.5).permute(0, 2, 3, 1)
    grid = (2 * places / (pair.flow.shape[-1] - 1) - 1).expand(len(pair.a), -1, -1, -1)
    moved = F.grid_sample(pair.flow, grid, padding_mode="border", align_corners=True)
    target = cells + moved * view.upscale / STRIDE
    weight = (F.grid_sample(pair.visible, grid, align_corners=True) * inside(target - cells))[:, 0]
    entropy = matching_entropy(found, target.flatten(2), height, width)
    return (entropy * weight.flatten(1)).sum() / weight.sum().clamp(min=1)


def matching_entropy(found: Tensor, target: Tensor, height: int, width: int) -> Tensor:
    """(B, N) cross entropy of log probabilities of all cells with points' bilinear shares of four of them.

    Args:
        found: (B, N, height * width) log probabilities.
        target: (B, 2, N) points in cells, x first.
    """
    low = target.floor()
    right, below = (target - low).unbind(1)
    entropy = torch.zeros_like(right)
    for step_x, share_x in ((0, 1 - right), (1, right)):
        for step_y, share_y in ((0, 1 - below), (1, below)):
            x = (low[:, 0] + step_x).clamp(0, width - 1)
            y = (low[:, 1] + step_y).clamp(0, height - 1)
            at = (y * width + x).long()[..., None]
            entropy = entropy - share_x * share_y * found.gather(2, at)[..., 0]
    return entropy


def cropped(pair: MotionPair, side: int, random: torch.Generator) -> MotionPair:
    """A random square of each pair; points that leave it count as hidden."""
    batch, _, size, _ = pair.a.shape
    corners = torch.randint(size - side + 1, (2, batch, 1), generator=random, device=random.device)
    rows, columns = corners + torch.arange(side, device=random.device)
    at = torch.arange(batch, device=random.device)[:, None, None]

    def cut(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2).contiguous()

    a, b, flow, visible = (cut(x) for x in (pair.a, pair.b, pair.flow, pair.visible))
    return MotionPair(a, b, flow, visible * inside(flow))
