"""E_warp against the distance to the direct edit: which settings are worth choosing between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.sweep.drawing import BLUE, FONT, GREY, ORANGE, PALE, Canvas, Circle, Line, Text, write
from tempcons.sweep.folder import Job, swept

X, Y = "distance", "e_warp"
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 50, 70
# width of a letter, about
LETTER = 7
TICKS = 5
# Below this share of the direct edit's detail a low E_warp is bought with blur.
SHARP = 0.9
LEGEND = f"line: the front; orange: to compare with; hollow: less than {SHARP} of the direct edit's sharpness"


Place = tuple[float, float]


@dataclass(frozen=True)
class Size:
    """Of a plot in px; narrow ones have no room for a legend."""

    width: int = 800
    height: int = 560

    @property
    def is_narrow(self) -> bool:
        return self.width < 600


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
    """

    x: float
    y: float
    label: str
    kind: str = "job"
    sharpness: float | None = None
    key: str = ""

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


def points_of(jobs: Sequence[Job]) -> list[Point]:
    """Jobs, and once each the direct edits and controls they are compared with.

    Raises:
        InputError: no job has both figures.
    """
    settings = swept(jobs)
    points, others = [], {}
    for job in jobs:
        if X in job.figures and Y in job.figures:
            place = (job.figures[X], job.figures[Y], job.label(settings) or job.key)
            points.append(Point(*place, "job", job.figures.get("sharpness"), job.key))
        for name, figures in job.others.items():
            if figures.get(X) is not None and figures.get(Y) is not None:
                place = (figures[X], figures[Y], name)
                others[place] = Point(*place, "other", figures.get("sharpness"))
    if not points:
        raise InputError("sweep", f"no job has both {X} and {Y}", "give the clip two frames or more")
    return points + list(others.values())


def draw(jobs: Sequence[Job], path: Path) -> list[Point]:
    """Plot ``jobs`` to a .png or .svg file.

    Returns:
        The front.

    Raises:
        InputError: nothing to draw, or another file type.
    """
    if path.suffix not in (".png", ".svg"):
        raise InputError("sweep", f"can't draw {path.name}", "give a name that ends in .png or .svg")
    points = points_of(jobs)
    best = front([point for point in points if point.kind == "job"])
    write(path, picture(points, best))
    return best


def picture(points: Sequence[Point], best: Sequence[Point], size: Size | None = None) -> Canvas:
    """Axes, front and points."""
    size = size or Size()
    x_ticks, y_ticks = (ticks(max(values)) for values in zip(*((p.x, p.y) for p in points), strict=True))

    def place(x: float, y: float) -> Place:
        inner_width, inner_height = size.width - LEFT - RIGHT, size.height - TOP - BOTTOM
        return LEFT + x / x_ticks[-1] * inner_width, size.height - BOTTOM - y / y_ticks[-1] * inner_height

    canvas = Canvas(size.width, size.height, "E_warp against the distance to the direct edit")
    canvas.add(Text(8, 20, "E_warp / 1e-4 (lower: less flicker)"))
    if not size.is_narrow:
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
    corners = [place(p.x, p.y) for p in best]
    canvas.add(*(Line(*a, *b, BLUE, 2) for a, b in itertools.pairwise(corners)))
    canvas.add(*(dot(point, point in best, place(point.x, point.y)) for point in points))
    named = [point for point in points if point in best or point.kind == "other"]
    canvas.add(*labels([(place(point.x, point.y), point.label) for point in named], size))
    return canvas


def ticks(largest: float) -> list[float]:
    """0 and round numbers up to the first that is ``largest`` or more."""
    if largest <= 0:
        return [0.0, 1.0]
    power = 10 ** math.floor(math.log10(largest / TICKS))
    step = next(power * k for k in (1, 2, 5, 10) if power * k * TICKS >= largest)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def dot(point: Point, is_best: bool, at: Place) -> Circle:
    """A point; hollow where a low error is bought with blur."""
    colour = ORANGE if point.kind == "other" else BLUE if is_best else GREY
    blurred = point.sharpness is not None and point.sharpness < SHARP
    return Circle(*at, 6, colour, not blurred, str(point), point.key)


def labels(wanted: Sequence[tuple[Place, str]], size: Size) -> list[Text]:
    """Words beside their points, where they neither leave the picture nor cover each other."""
    found: list[Text] = []
    for (x, y), words in wanted:
        tries = [
            Text(x + across, y + down, words, "start" if across > 0 else "end")
            for down in (-10, 10, -24, 24, -38, 38)
            for across in (10, -10)
        ]
        free = (
            text for text in tries if not any(overlap(text, other) for other in found) and inside(text, size)
        )
        if (text := next(free, None)) or not size.is_narrow:
            found.append(text or tries[0])
    return found


def span(text: Text) -> tuple[float, float]:
    """Left and right end of some words, about."""
    width = LETTER * len(text.words)
    return (text.x, text.x + width) if text.anchor == "start" else (text.x - width, text.x)


def overlap(a: Text, b: Text) -> bool:
    """Whether two labels cover each other."""
    (a0, a1), (b0, b1) = span(a), span(b)
    return a0 < b1 and b0 < a1 and abs(a.y - b.y) < FONT


def inside(text: Text, size: Size) -> bool:
    """Whether a label stays clear of the axes' numbers."""
    left, right = span(text)
    return left > LEFT and right < size.width and TOP / 2 < text.y < size.height - BOTTOM
