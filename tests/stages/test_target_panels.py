"""Panels of the target: the flow it was solved with, of frames spread over the clip."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch
from tiny import FRAMES, ZeroFlow, tiny_edited

from tempcons.stages.page_masks import section
from tempcons.stages.target_panels import target_masks
from tempcons.types import AnchorWindow


class Drift(ZeroFlow):
    """Everything moves a pixel to the right from the first picture to the second."""

    def pair(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        forward, backward = (torch.zeros_like(a[:, :2]) for _ in range(2))
        forward[:, 0], backward[:, 0] = 1.0, -1.0
        return forward, backward


def family(flow: ZeroFlow) -> Any:
    return SimpleNamespace(flow=flow, device=torch.device("cpu"), place=lambda: None)


def test_frames_stand_beside_their_anchor():
    edited = tiny_edited("in")
    masks = target_masks(edited, family(ZeroFlow()))
    assert list(masks) == [i for i in edited.frame_ids.tolist() if i != edited.anchor_id][: len(masks)]
    for at, frame_id in enumerate(edited.frame_ids.tolist()):
        if frame_id in masks:
            found = masks[frame_id]
            torch.testing.assert_close(found.picture, edited.frames.pictures([at])[0])
            assert (found.flow == 0).all() and (found.visible == 1).all() and (found.fused == 1).all()
            assert found.difference is None


def test_what_leaves_the_picture_does_not_count():
    edited = tiny_edited("in")
    found = next(iter(target_masks(edited, family(Drift())).values()))
    assert (found.flow[0] == -1).all(), "from the frame to the anchor"
    assert (found.visible[..., 1:] == 1).all(), "there and back ends where it began"
    assert (found.fused[..., 0] == 0).all() and (found.fused[..., 1:] == 1).all()


def test_the_page_has_no_column_for_a_mask_that_is_not_used():
    edited = tiny_edited("in")
    masks = target_masks(edited, family(ZeroFlow()))
    html = section({"target": masks}, {"target": "target of both phases"}, edited.frame_ids.tolist())
    assert "perceptual difference" not in html and "flow to the anchor" in html
    assert "before the phases learned it" in html


def test_a_single_frame_has_none():
    edited = tiny_edited("in")
    alone = replace(edited, windows=cast(Any, (AnchorWindow(0, range(1)),)))
    assert target_masks(alone, family(ZeroFlow())) == {} and FRAMES > 1
