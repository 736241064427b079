"""Flow and visibility that the consistent target was solved with, of a few frames, for people to look at."""

from __future__ import annotations

import torch

from tempcons.family import Family
from tempcons.geometry.warp import warp
from tempcons.stages.page_masks import Masks
from tempcons.training.anchors import window_pairs
from tempcons.training.mask_panels import PairMasks, spread
from tempcons.training.target_video import pair_flows
from tempcons.types import Edited


@torch.no_grad()
def target_masks(edited: Edited, family: Family) -> Masks:
    """Masks by frame id of frames spread over the clip, each beside its anchor; {} for a single frame.

    They are computed again, the same way: solving keeps the flow of all pairs in memory only.
    """
    pairs = spread(window_pairs(edited.anchor_windows))
    if not pairs:
        return {}
    family.place()
    taken = sorted({at for pair in pairs for at in pair})
    pictures = edited.frames.pictures(taken).to(family.device)
    flows = pair_flows(pictures, [(taken.index(a), taken.index(i)) for a, i in pairs], family.flow)
    _, inside = warp(pictures[flows.first], flows.backward)
    counted = flows.seen_second * inside
    parts = [part.cpu() for part in (pictures[flows.second], flows.backward, flows.seen_second, counted)]
    ids = edited.frame_ids.tolist()
    return {
        ids[i]: PairMasks(picture, flow, visible, None, fused)
        for (_, i), picture, flow, visible, fused in zip(pairs, *parts, strict=True)
    }
