"""How steady the crop is before and after smoothing, and the figures of full frames, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from tempcons.geometry.quad import jitter_px, shake_px
from tempcons.stages.align import id_ranges
from tempcons.stages.page_charts import ChartStyle, Curve, Measure, chart
from tempcons.stages.page_tables import figure
from tempcons.types import Aligned

SHAKE = Measure("shake", "Shake of the crop's corners", "shake", "source pixels", 1.0)
NAMES = {"raw": "as detected", "smoothed": "smoothed"}
COLUMNS = {
    "e_warp": ("E_warp", "in 1e-4, lower is steadier"),
    "seam_jump": ("seam", "jump at the border, levels of 255"),
    "border_flicker": ("flicker", "around the border, levels of 255"),
}


@dataclass(frozen=True)
class AlignmentFacts:
    """What page and manifest say about the way from the frame and back.

    Attributes:
        frame_ids: (T,) of the clip.
        aligned: where the face is.
        full_frame: figures of full frames; empty where none were made.
    """

    frame_ids: np.ndarray
    aligned: Aligned
    full_frame: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> list[int]:
        """Frames of the clip in which no face was found."""
        seen = self.aligned.frame_ids[self.aligned.found]
        return self.frame_ids[~np.isin(self.frame_ids, seen)].tolist()

    @property
    def jitter(self) -> dict[str, float]:
        """Of the crop's corners in source pixels, before and after smoothing."""
        tracks = {"before": self.aligned.raw_quads, "after": self.aligned.quads}
        scenes = self.aligned.scenes
        return {name: jitter_px([quads[s.start : s.stop] for s in scenes]) for name, quads in tracks.items()}

    @property
    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {"jitter_px": self.jitter, "cuts": list(self.aligned.cuts), "missing": self.missing}


def alignment_section(facts: AlignmentFacts | None) -> str:
    """HTML of the section."""
    if facts is None:
        return "<p>Nothing was aligned.</p>"
    before, after = facts.jitter.values()
    cuts = ", ".join(map(str, facts.aligned.cuts)) or "none"
    gaps = id_ranges(facts.missing) or "none"
    said = (
        f"<p>The crop's corners shake by {before:.2f} px as detected, by {after:.2f} px smoothed. "
        f"Scene cuts before frames: {cuts}. Frames without a face: {gaps}.</p>"
    )
    return said + _shake_chart(facts.aligned) + _table(facts.full_frame)


def shake_curves(aligned: Aligned) -> dict[str, Curve]:
    """Shake of every frame but those at the ends of a scene, before and after smoothing."""
    curves: dict[str, Curve] = {}
    for name, quads in (("raw", aligned.raw_quads), ("smoothed", aligned.quads)):
        curve: Curve = [None] * len(quads)
        for scene in aligned.scenes:
            values: np.ndarray = shake_px(quads[scene.start : scene.stop])
            curve[scene.start + 1 : scene.start + 1 + len(values)] = values.tolist()
        curves[name] = curve
    return curves


def _shake_chart(aligned: Aligned) -> str:
    curves = shake_curves(aligned)
    if all(value is None for value in curves["raw"]):
        return ""
    style = ChartStyle(NAMES, ())
    key = "".join(
        f'<svg viewBox="0 0 26 10" width="26" height="10" aria-hidden="true">'
        f'<line class="curve {style.classes(name, place)}" x1="0" y1="5" x2="26" y2="5"/></svg> {label} '
        for place, (name, label) in enumerate(NAMES.items())
    )
    return f'<div class="charts">{chart(SHAKE, curves, style, False)}</div><p class="quiet">{key}</p>'


def _table(figures: Mapping[str, Any]) -> str:
    if not figures:
        return '<p class="quiet">No full frames were made; phase=full or phase=stitch makes them.</p>'
    head = "".join(f'<th scope="col">{title}<span>{hint}</span></th>' for title, hint in COLUMNS.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>'
        + "".join(f"<td>{figure(key, row.get(key), None)}</td>" for key in COLUMNS)
        + "</tr>"
        for name, row in figures.items()
        if name != "conditions"
    )
    return (
        f'<table class="figures"><thead><tr><th scope="col">full frames</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
