"""The paper's own figures and the layout of its tables.

Source: Xu, AlBahar, Huang, "Temporally Consistent Semantic Video Editing", ECCV 2022, Tables 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONDITIONS = (
    "the paper's figures: 20 RAVDESS clips at 1024 px, StyleGAN2-ADA, RAFT, LPIPS (AlexNet); with other "
    "clips, sizes and networks compare changes against the direct edit, not the figures themselves"
)
DIRECT, AVERAGE = "direct", "average"
# Columns of the paper's tables, by the names that variants of a run have; "ours" is its last phase.
DVP, TRANSFORMER, OURS = "dvp", "latent_transformer", "ours"
E_WARP, DISTANCE = "e_warp", "distance"

Figures = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class EditTable:
    """A table with one row for each edit.

    Attributes:
        title: the paper's.
        methods: columns of E_warp, in order.
        rows: (metric, method) -> figure by edit, and of the rows "direct" and "average".
    """

    title: str
    methods: tuple[str, ...]
    rows: Mapping[str, Figures]


def _two(dvp: float, ours: float, dvp_lpips: float, ours_lpips: float) -> dict[tuple[str, str], float]:
    return {
        (E_WARP, DVP): dvp,
        (E_WARP, OURS): ours,
        (DISTANCE, DVP): dvp_lpips,
        (DISTANCE, OURS): ours_lpips,
    }


def _three(dvp: float, lt: float, ours: float, dvp_lpips: float, ours_lpips: float) -> Figures:
    return {**_two(dvp, ours, dvp_lpips, ours_lpips), (E_WARP, TRANSFORMER): lt}


TABLE_1 = EditTable(
    "Table 1: out-of-domain editing",
    (DVP, OURS),
    {
        DIRECT: {(E_WARP, DIRECT): 0.0098, (DISTANCE, DIRECT): 0.0},
        "nada_sketch": _two(0.0036, 0.0085, 0.2404, 0.1314),
        "nada_pixar": _two(0.0031, 0.0025, 0.1074, 0.1178),
        "nada_disney_princess": _two(0.0040, 0.0078, 0.2062, 0.1204),
        "nada_elf": _two(0.0042, 0.0108, 0.2289, 0.1310),
        "nada_zombie": _two(0.0040, 0.0085, 0.2033, 0.1370),
        AVERAGE: _two(0.0038, 0.0076, 0.1972, 0.1275),
    },
)
TABLE_2 = EditTable(
    "Table 2: in-domain editing",
    (DVP, TRANSFORMER, OURS),
    {
        DIRECT: {(E_WARP, DIRECT): 0.0076, (DISTANCE, DIRECT): 0.0},
        "angry": _two(0.0033, 0.0032, 0.2452, 0.1100),
        "beard": _three(0.0038, 0.0064, 0.0030, 0.2444, 0.1033),
        "eyeglasses": _three(0.0039, 0.0066, 0.0034, 0.1226, 0.1097),
        "depp": _two(0.0037, 0.0031, 0.2452, 0.2024),
        "surprised": _two(0.0035, 0.0028, 0.1415, 0.1012),
        # The LPIPS of its rows for DVP has the mean 0.1998; this is what the paper prints.
        AVERAGE: _three(0.0036, 0.0065, 0.0031, 0.1760, 0.1253),
    },
)
# Phases of a run -> (domain, metric) -> figure.
TABLE_3: Mapping[str, Figures] = {
    "direct": {
        ("in", E_WARP): 0.0076,
        ("in", DISTANCE): 0.0,
        ("out", E_WARP): 0.0098,
        ("out", DISTANCE): 0.0,
    },
    "latent": {
        ("in", E_WARP): 0.0064,
        ("in", DISTANCE): 0.2108,
        ("out", E_WARP): 0.0094,
        ("out", DISTANCE): 0.1428,
    },
    "generator": {
        ("in", E_WARP): 0.0027,
        ("in", DISTANCE): 0.2463,
        ("out", E_WARP): 0.0057,
        ("out", DISTANCE): 0.1375,
    },
    "both": {
        ("in", E_WARP): 0.0031,
        ("in", DISTANCE): 0.1253,
        ("out", E_WARP): 0.0076,
        ("out", DISTANCE): 0.1275,
    },
}
TABLE_3_TITLE = "Table 3: what each phase does"
FIGURE_6_TITLE = "Fig. 6: codes by one MLP (phase 1) and codes optimised one by one"
