"""What each measured value depends on, in the words that stand beside it in every table."""

from __future__ import annotations

from tempcons.geometry import occlusion
from tempcons.media.frames import FrameStore
from tempcons.metrics.ewarp import E_LONG_GAPS, E_LONG_STEP
from tempcons.metrics.flicker import FLICKER_FROM

THRESHOLD = f"{occlusion.RELATIVE_THRESHOLD} (|f|^2 + |b|^2) + {occlusion.ABSOLUTE_THRESHOLD_PX2} px^2"
BOUNDARY = f"{occlusion.BOUNDARY_RELATIVE} |f|^2 + {occlusion.BOUNDARY_ABSOLUTE} px^2"
XU2022 = {
    "preset": "xu2022",
    "channel_rule": "sum",
    "flow_source": "output",
    "mask_rule": "forward-backward check, inside the picture",
    "threshold": THRESHOLD,
}
LAI2018 = {
    "preset": "lai2018",
    "channel_rule": "mean",
    "flow_source": "input",
    "mask_rule": "forward-backward check, no motion boundaries, border repeated",
    "threshold": f"{THRESHOLD}; {BOUNDARY}",
}
NEIGHBOURS = {"pairs": "t, t+1"}
MOTION = {"unit": "px", "rule": "mean flow length over visible pixels"}
SHARPNESS = {"rule": "variance of the 4-neighbour Laplacian of Rec. 601 luma"}
FLICKER = {"rule": f"luma power above {FLICKER_FROM} cycles a frame"}
SHARE = {"relative_to": "direct edit"}


def conditions(frames: FrameStore, anchor: int, flow_name: str, perceptual_name: str) -> dict[str, dict]:
    """Metric -> its conditions: value range, size, flow network and source, channel and mask rule, ..."""
    height, width = frames.size
    video = {"value_range": "[0, 1]", "size": f"{width}x{height}", "frames": len(frames)}
    distance = {"value_range": "[-1, 1]", "network": perceptual_name}
    return _of_flow(video | {"flow_network": flow_name}, anchor) | {
        "sharpness_abs": video | SHARPNESS,
        "sharpness": video | SHARPNESS | SHARE,
        "distance": video | distance | SHARE,
        "flicker": video | FLICKER | SHARE,
        "identity": video | {"rule": "cosine similarity of face embeddings", "relative_to": "input"},
    }


def _of_flow(video: dict, anchor: int) -> dict[str, dict]:
    """The conditions of what depends on a flow network."""
    xu = video | XU2022
    gaps = {gap: f"t, t+{gap}; every {E_LONG_STEP}th t" for gap in E_LONG_GAPS}
    return {
        "e_warp": xu | NEIGHBOURS,
        "e_long": xu | {"pairs": f"anchor {anchor}, every {E_LONG_STEP}th frame"},
        **{f"e_long_gap{gap}": xu | {"pairs": pairs} for gap, pairs in gaps.items()},
        "e_warp_input_flow": xu | NEIGHBOURS | {"flow_source": "input"},
        "e_warp_lai2018": video | LAI2018 | NEIGHBOURS,
        "motion_px": xu | NEIGHBOURS | MOTION,
        "motion": xu | NEIGHBOURS | MOTION | SHARE,
    }
