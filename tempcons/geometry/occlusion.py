"""Which pixels of frame a are seen in frame b, from the flow in both directions.

Every function takes F_{a->b} on a's grid and F_{b->a} on b's grid, (B, 2, H, W) in pixels, and returns a
mask (B, 1, H, W) on a's grid with values in [0, 1], 1 where visible.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tempcons.geometry.warp import inside, round_trip_error, warp

RELATIVE_THRESHOLD = 0.01
ABSOLUTE_THRESHOLD_PX2 = 0.5
BOUNDARY_RELATIVE = 0.01
BOUNDARY_ABSOLUTE = 0.002


def visible_xu(flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Binary forward-backward check: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5, and inside the picture.

    f is F_{a->b}(p), b is F_{b->a}(p + f). Source: the mask M_t of Xu et al. 2022, Eq. 9 (threshold of
    Sundaram et al. 2010). No gradient.
    """
    with torch.no_grad():
        back, valid = warp(flow_ba, flow_ab)
        return (_mismatch(flow_ab, back) < _tolerance(flow_ab, back)).to(flow_ab.dtype) * valid


def visible_lai(flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """The mask of Lai et al. 2018's warping error: forward-backward check and no motion boundary.

    The backward flow is sampled with its border repeated, so leaving the picture is not occlusion by itself.
    No gradient.
    """
    with torch.no_grad():
        back, _ = warp(flow_ba, flow_ab, padding="border")
        occluded = _mismatch(flow_ab, back) > _tolerance(flow_ab, back)
        return (~(occluded | motion_boundary(flow_ab))).to(flow_ab.dtype)


def motion_boundary(flow: Tensor) -> Tensor:
    """Where flow changes abruptly: |grad u|^2 + |grad v|^2 > 0.01 |f|^2 + 0.002 (bool, (B, 1, H, W)).

    Gradients are differences to the right and to the lower neighbour, zero in the last column and row.
    Source: Lai et al. 2018 (after Sundaram et al. 2010).
    """
    right = torch.zeros_like(flow)
    below = torch.zeros_like(flow)
    right[..., :, :-1] = flow[..., :, :-1] - flow[..., :, 1:]
    below[..., :-1, :] = flow[..., :-1, :] - flow[..., 1:, :]
    steepness = (right.square() + below.square()).sum(1, keepdim=True)
    return steepness > BOUNDARY_RELATIVE * _squared_length(flow) + BOUNDARY_ABSOLUTE


def visible_soft(flow_ab: Tensor, flow_ba: Tensor, k: float = 10.0) -> Tensor:
    """Soft visibility exp(-k eps), eps the round-trip error in pixels of the flow grid; 0 outside.

    Differentiable (callers detach it where masks must not be learnt). Source: Xu et al. 2022, Section 3.2
    (k = 10; the authors' released code has 5).
    """
    return torch.exp(-k * round_trip_error(flow_ab, flow_ba)) * inside(flow_ab)


def _squared_length(flow: Tensor) -> Tensor:
    return flow.square().sum(1, keepdim=True)


def _mismatch(flow_ab: Tensor, back: Tensor) -> Tensor:
    return _squared_length(flow_ab + back)


def _tolerance(flow_ab: Tensor, back: Tensor) -> Tensor:
    return RELATIVE_THRESHOLD * (_squared_length(flow_ab) + _squared_length(back)) + ABSOLUTE_THRESHOLD_PX2
