"""What a report page shows, made of a moving square: four variants, two controls, and some hostile text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from videos import moving_square

from tempcons.media.frames import FrameStore
from tempcons.media.write import VideoSettings, write_video
from tempcons.stages.page import PageContent
from tempcons.training.mask_panels import PairMasks

FRAMES, FPS = 16, 8.0
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"&"
VARIANTS = ("input", "direct", "phase1", "phase2")
CONTROLS = ("smoothed_codes", "flow_warped_mean")
WORST = 9


def page_content(folder: Path) -> PageContent:
    """A page of 16 frames, 48x64; frame 9 of every variant has the largest error."""
    frames = {name: tinted(tint) for name, tint in zip(VARIANTS, (0, 40, 80, 120), strict=True)}
    videos = {}
    for name, store in frames.items():
        videos[name] = write_video(folder / f"{name}.mp4", store, VideoSettings(FPS, crf=4))
    measured = (*VARIANTS[1:], *CONTROLS)
    return PageContent(
        title=f"a run {HOSTILE}",
        videos=videos,
        metrics={
            **{name: summary(place) for place, name in enumerate(measured[:3])},
            "controls": {name: summary(place) for place, name in enumerate(CONTROLS)},
        },
        per_frame=[row(name, t) for name in measured for t in range(FRAMES)],
        frames=frames,
        fps=FPS,
        settings={"clip": {"path": HOSTILE, HOSTILE: [1, 2]}, "lambda_r": 50.0},
        provenance={"weights": [{"name": "generator"}, {"name": HOSTILE}], "seed": 0},
        frame_ids=list(range(40, 40 + FRAMES)),
        slice_row=0.5,
        masks={"phase1": {40: pair_masks(0.0), 47: pair_masks(2.0)}, "phase2": {55: pair_masks(1.0, False)}},
    )


def pair_masks(motion_px: float, in_domain: bool = True) -> PairMasks:
    """Masks that grow from left to right, and one flow to the right everywhere."""
    ramp = torch.linspace(0, 1, 16).expand(1, 16, 16)
    flow = torch.zeros(2, 16, 16)
    flow[0] = motion_px
    return PairMasks(
        torch.zeros(3, 16, 16), flow, ramp, 1 - ramp if in_domain else None, torch.ones_like(ramp)
    )


def tinted(blue: int) -> FrameStore:
    """The moving square with a constant blue channel, so that variants can be told apart."""
    frames = moving_square(FRAMES)
    frames[..., 2] = blue
    return FrameStore(frames)


def summary(place: int) -> dict:
    """Figures with a value that can't be measured."""
    figures = {"e_warp": 0.0797e-4 / (1 + place), "e_long": None, "distance": 0.1 * place}
    return figures | {"sharpness": 1.0, "motion": 0.9, "conditions": {"e_warp": {"flow_network": "dis"}}}


def row(variant: str, t: int) -> dict:
    """Figures of one frame; the last has no next frame to compare with."""
    error = None if t == FRAMES - 1 else (3e-4 if t == WORST else 1e-4 + 1e-6 * t)
    later = {"e_long": 2e-4} if t in (4, 8) else {}
    plain = {"distance": 0.00824 * float(np.sin(t) ** 2), "sharpness_abs": 1.18e-4, "motion_px": 0.0566}
    return {"variant": variant, "frame": t, "e_warp": error} | plain | later
