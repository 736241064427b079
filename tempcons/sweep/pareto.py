"""E_warp against the distance to the direct edit: which settings are worth choosing between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.stages.page_tables import label
from tempcons.sweep.drawing import BLUE, GREY, ORANGE, PALE, Canvas, Circle, Line, Text, write
from tempcons.sweep.folder import Job, swept
from tempcons.sweep.plot_words import BOTTOM, LEFT, RADIUS, RIGHT, TOP, Place, Size, labels, once

X, Y = "distance", "e_warp"
TICKS = 5
# Below this share of the direct edit's detail a low E_warp is bought with blur.
SHARP = 0.9
# Jobs that differ in one of these edit other pictures, or have another direct edit: no front joins them.
APART = ("align", "clip", "edit", "family", "inversion")
LEGEND = f"line: the front; orange: to compare with; hollow: less than {SHARP} of the direct edit's sharpness"


@dataclass(frozen=True)
class Point:
    """One result in the plane.

    Attributes:
        x: distance to the direct edit.
        y: E_warp.
        label: swept settings of a job, or the name of a video to compare with.
        kind: "job" or "other".
        sharpness: as a share of the direct edit's, if known.
        key: of the job.
        group: settings that must be the same for two jobs to be compared.
    """

    x: float
    y: float
    label: str
    kind: str = "job"
    sharpness: float | None = None
    key: str = ""
    group: str = ""

    def __str__(self) -> str:
        sharp = "" if self.sharpness is None else f", sharpness {self.sharpness:.3f}"
        return f"{self.label}: E_warp {1e4 * self.y:.2f}e-4, distance {self.x:.4f}{sharp}"


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in one figure without losing in the other, by distance.

    Of equal points one stays.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not best or point.y < best[-1].y:
            best.append(point)
    return best


def fronts(points: Sequence[Point]) -> list[list[Point]]:
    """The front of every group of jobs; other points are on none."""
    jobs = [point for point in points if point.kind == "job"]
    groups = dict.fromkeys(point.group for point in jobs)
    return [front([point for point in jobs if point.group == group]) for group in groups]


def points_of(jobs: Sequence[Job]) -> list[Point]:
    """Jobs, and once each the direct edits and controls they are compared with.

    Raises:
        InputError: no job has both figures.
    """
    settings = swept(jobs)
    grouping = [name for name in settings if name.split(".")[0] in APART]
    points, others = [], {}
    for job in jobs:
        if X in job.figures and Y in job.figures:
            place = (job.figures[X], job.figures[Y], job.label(settings) or job.key)
            points.append(Point(*place, "job", job.figures.get("sharpness"), job.key, job.label(grouping)))
        for name, figures in job.others.items():
            if figures.get(X) is not None and figures.get(Y) is not None:
                place = (figures[X], figures[Y], label(name))
                others[place] = Point(*place, "other", figures.get("sharpness"))
    if not points:
        raise InputError("sweep", f"no job has both {X} and {Y}", "give the clip two frames or more")
    return points + list(others.values())


def draw(jobs: Sequence[Job], path: Path) -> list[Point]:
    """Plot ``jobs`` to a .png or .svg file.

    Returns:
        The jobs on a front.

    Raises:
        InputError: nothing to draw, or another file type.
    """
    if path.suffix not in (".png", ".svg"):
        raise InputError("sweep", f"can't draw {path.name}", "give a name that ends in .png or .svg")
    points = points_of(jobs)
    write(path, picture(points))
    return [point for line in fronts(points) for point in line]


def picture(points: Sequence[Point], size: Size | None = None, legend: bool = True) -> Canvas:
    """Axes, fronts and points."""
    size = size or Size()
    lines = fronts(points)
    best = [point for line in lines for point in line]
    x_ticks, y_ticks = (ticks(max(values)) for values in zip(*((p.x, p.y) for p in points), strict=True))

    def place(x: float, y: float) -> Place:
        inner_width, inner_height = size.width - LEFT - RIGHT, size.height - TOP - BOTTOM
        return LEFT + x / x_ticks[-1] * inner_width, size.height - BOTTOM - y / y_ticks[-1] * inner_height

    canvas = Canvas(size.width, size.height, "E_warp against the distance to the direct edit")
    canvas.add(Text(8, 20, "E_warp / 1e-4 (lower: less flicker)"))
    if legend:
        canvas.add(Text(size.width - 8, 20, LEGEND, "end"))
    for y in y_ticks:
        left = place(0, y)
        canvas.add(
            Line(*left, *place(x_ticks[-1], y), PALE, 1), Text(LEFT - 8, left[1], f"{1e4 * y:.4g}", "end")
        )
    for x in x_ticks:
        canvas.add(Text(place(x, 0)[0], size.height - BOTTOM + 16, f"{x:.4g}", "middle"))
    canvas.add(
        Text(
            size.width / 2,
            size.height - 20,
            "distance to the direct edit (lower: more of the edit kept)",
            "middle",
        )
    )
    for line in lines:
        corners = [place(p.x, p.y) for p in line]
        canvas.add(*(Line(*a, *b, BLUE, 2) for a, b in itertools.pairwise(corners)))
    # Those to choose between lie on top.
    upwards = sorted(points, key=lambda p: (p.kind == "job", p in best))
    dots = [dot(p, p in best, place(p.x, p.y)) for p in upwards]
    canvas.add(*dots)
    # The front's words first: where it is crowded, others go without.
    named = [(place(p.x, p.y), p.label) for p in [*best, *points] if p in best or p.kind == "other"]
    canvas.add(*labels(once(named), [(shape.x, shape.y) for shape in dots], size))
    return canvas


def ticks(largest: float) -> list[float]:
    """0 and round numbers up to the first that is ``largest`` or more."""
    if largest <= 0:
        return [0.0, 1.0]
    power = 10 ** math.floor(math.log10(largest / TICKS))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k * TICKS >= largest)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def dot(point: Point, is_best: bool, at: Place) -> Circle:
    """A point; hollow where a low error is bought with blur."""
    colour = ORANGE if point.kind == "other" else BLUE if is_best else GREY
    blurred = point.sharpness is not None and point.sharpness < SHARP
    return Circle(*at, RADIUS, colour, not blurred, str(point), point.key)
