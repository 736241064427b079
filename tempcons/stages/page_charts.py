"""Figures of every frame as curves that a page can show: inline SVG, a legend with values, worst frames."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WORST = 4
COLOURS = 6  # line-0 .. line-5 in the style sheet
NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)

Curve = list[float | None]
Curves = dict[str, dict[str, Curve]]


@dataclass(frozen=True)
class Measure:
    """A per-frame figure: its key in the rows, how it is called, and the factor it is shown with.

    The short name may hold soft hyphens, for narrow screens.
    """

    key: str
    title: str
    short: str
    unit: str
    factor: float


MEASURES = (
    Measure("e_warp", "E_warp to the next frame", "E_warp", "in 1e-4, lower is steadier", 1e4),
    Measure("e_long", "E_long, over a long gap", "E_long", "in 1e-4, lower is steadier", 1e4),
    Measure("distance", "Distance to the direct edit", "dis\u00adtance", "lower is closer", 1.0),
    Measure("sharpness_abs", "Sharpness", "sharp\u00adness", "in 1e-4, variance of the Laplacian", 1e4),
    Measure("motion_px", "Motion to the next frame", "motion", "pixels", 1.0),
)


@dataclass(frozen=True)
class ChartStyle:
    """How the variants are told apart: names to show, and which are controls (dashed)."""

    labels: Mapping[str, str]
    controls: Collection[str]

    def classes(self, variant: str, place: int) -> str:
        """CSS classes of a variant's line."""
        return f"line-{place % COLOURS}" + (" control-line" if variant in self.controls else "")


def collect_curves(rows: Sequence[Mapping[str, Any]], frames: int) -> Curves:
    """Measure -> variant -> value of every frame in shown units; None where nothing was measured.

    Args:
        rows: ``variant``, ``frame`` (position from 0) and figures.
        frames: number of frames.
    """
    variants = dict.fromkeys(str(row["variant"]) for row in rows)
    curves: Curves = {m.key: {name: [None] * frames for name in variants} for m in MEASURES}
    for row in rows:
        for measure in MEASURES:
            value = row.get(measure.key)
            if isinstance(value, int | float) and math.isfinite(value):
                curves[measure.key][str(row["variant"])][int(row["frame"])] = value * measure.factor
    return {key: by for key, by in curves.items() if any(v is not None for c in by.values() for v in c)}


def draw_charts(curves: Curves, style: ChartStyle) -> str:
    """A legend that shows the values at the current frame, and one chart per measure."""
    shown = [measure for measure in MEASURES if measure.key in curves]
    if not shown:
        return "<p>Nothing was measured frame by frame.</p>"
    charts = "".join(chart(m, curves[m.key], style, m is shown[0]) for m in shown)
    return f'{_legend(shown, curves, style)}<div class="charts">{charts}</div>'


def worst_frames(curves: Curves, style: ChartStyle, frame_ids: Sequence[int]) -> str:
    """Buttons that go to the frames with the largest E_warp of each variant; controls are left out."""
    items = []
    for variant, curve in curves.get("e_warp", {}).items():
        if variant in style.controls:
            continue
        buttons = "".join(_worst_button(at, curve[at], frame_ids) for at in find_worst(curve))
        items.append(f"<li><strong>{escape(style.labels[variant])}</strong>{buttons}</li>")
    return f'<ul class="worst">{"".join(items)}</ul>' if items else "<p>None was measured.</p>"


def find_worst(curve: Curve) -> list[int]:
    """Positions of the largest values, largest first."""
    measured = [(value, -at) for at, value in enumerate(curve) if value is not None]
    return [-at for _, at in sorted(measured, reverse=True)[:WORST]]


def _worst_button(at: int, value: float | None, frame_ids: Sequence[int]) -> str:
    source = f" <span>(source {frame_ids[at]})</span>" if frame_ids else ""
    return f'<button type="button" data-seek="{at}">{at}→{at + 1}: {value:#.3g}{source}</button>'


def _legend(shown: Sequence[Measure], curves: Curves, style: ChartStyle) -> str:
    head = "".join(f'<th scope="col">{escape(measure.short)}</th>' for measure in shown)
    variants = curves[shown[0].key]
    rows = "".join(_legend_row(name, shown, style, place) for place, name in enumerate(variants))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Values at the current frame">'
        f'<table class="legend"><thead><tr><th scope="col">at this frame</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _legend_row(variant: str, shown: Sequence[Measure], style: ChartStyle, place: int) -> str:
    """A switch for the variant's lines, and cells that the page's script fills."""
    name, title = escape(variant), escape(style.labels[variant])
    line = f'<line class="curve {style.classes(variant, place)}" x1="0" y1="5" x2="26" y2="5"/>'
    swatch = f'<svg viewBox="0 0 26 10" aria-hidden="true">{line}</svg>'
    box = f'<input type="checkbox" class="box-{place % COLOURS}" checked data-variant="{name}">'
    cells = "".join(f'<td data-value="{m.key}" data-variant="{name}"></td>' for m in shown)
    return f'<tr><th scope="row"><label>{box}{swatch}{title}</label></th>{cells}</tr>'


def chart(measure: Measure, curves: Mapping[str, Curve], style: ChartStyle, first: bool) -> str:
    """One measure's curves over the frames; one value of them all must be known."""
    last = max(1, len(next(iter(curves.values()))) - 1)
    top = nice_top(max(v for curve in curves.values() for v in curve if v is not None))
    lines = "".join(
        _lines(measure, v, curve, top, style.classes(v, i)) for i, (v, curve) in enumerate(curves.items())
    )
    levels = "".join(f"<span>{level:.3g}</span>" for level in (0, top / 2, top))
    middle = [] if last % 2 else [str(last // 2)]
    along = "".join(f"<span>{text}</span>" for text in ("frame 0", *middle, str(last)))
    unit = f'<span class="quiet">({escape(measure.unit)})</span>'
    return (
        f'<figure class="chart{" first" if first else ""}">'
        f"<figcaption>{escape(measure.title)} {unit}</figcaption>"
        f'<div class="plot"><div class="ticks up" aria-hidden="true">{levels}</div>'
        f'<svg viewBox="0 0 {last} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(_spoken(measure, curves, style))}">'
        f'<path class="grid" d="M0 0H{last}M0 50H{last}M0 100H{last}"/>{lines}'
        '<line class="cursor" x1="0" x2="0" y1="0" y2="100"/></svg>'
        f'<div class="ticks along" aria-hidden="true">{along}</div></div></figure>'
    )


def _spoken(measure: Measure, curves: Mapping[str, Curve], style: ChartStyle) -> str:
    """The chart in words: the mean of every line."""
    means = []
    for variant, curve in curves.items():
        measured = [value for value in curve if value is not None]
        if measured:
            means.append(f"{style.labels[variant]} {sum(measured) / len(measured):.3g}")
    return f"{measure.title} by frame; means: {', '.join(means)}"


def _lines(measure: Measure, variant: str, curve: Curve, top: float, classes: str) -> str:
    """The curve of one variant; dots where E_warp is worst, or on every value where few were measured."""
    points = [(at, _height(value, top)) for at, value in enumerate(curve) if value is not None]
    joined = "L".join(f"{at} {height}" for at, height in points)
    drawn = (
        f'<path class="curve {classes}" data-variant="{escape(variant)}" d="M{joined}"/>' if points else ""
    )
    marked = {at for at, _ in points} if len(points) < len(curve) / 2 else set()
    if measure.key == "e_warp" and "control-line" not in classes:
        marked |= set(find_worst(curve))
    dots = "".join(f"M{at} {height}h0" for at, height in points if at in marked)
    if dots:
        drawn += f'<path class="dots {classes}" data-variant="{escape(variant)}" d="{dots}"/>'
    return drawn


def _height(value: float, top: float) -> str:
    return f"{100 * (1 - value / top):.2f}"


def nice_top(largest: float) -> float:
    """A round number not below ``largest``, for the top of an axis."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (*NICE, 20) if step * power >= largest)
