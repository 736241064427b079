"""E_warp against the distance to the direct edit: which settings are worth choosing between."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.sweep.drawing import BLUE, GREY, ORANGE, Canvas, Circle, Line, Text, write
from tempcons.sweep.folder import Job, swept

X, Y = "distance", "e_warp"
WIDTH, HEIGHT = 800, 560
LEFT, RIGHT, TOP, BOTTOM = 90, 30, 50, 70
TICKS = 5
# Below this share of the direct edit's detail a low E_warp is bought with blur.
SHARP = 0.9


@dataclass(frozen=True)
class Point:
    """One result in the plane.

    Attributes:
        x: distance to the direct edit.
        y: E_warp.
        label: swept settings of a job, or the name of a video to compare with.
        kind: "job" or "other".
        sharpness: as a share of the direct edit's, if known.
    """

    x: float
    y: float
    label: str
    kind: str = "job"
    sharpness: float | None = None


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
            label = ", ".join(f"{name}={job.setting(name) or '-'}" for name in settings) or job.key
            points.append(Point(job.figures[X], job.figures[Y], label, "job", job.figures.get("sharpness")))
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


def picture(points: Sequence[Point], best: Sequence[Point]) -> Canvas:
    """Axes, front and points."""
    x_top, y_top = (1.08 * max(values) or 1.0 for values in zip(*((p.x, p.y) for p in points), strict=True))

    def place(x: float, y: float) -> tuple[float, float]:
        inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + x / x_top * inner_width, HEIGHT - BOTTOM - y / y_top * inner_height

    canvas = Canvas(WIDTH, HEIGHT, "E_warp against the distance to the direct edit")
    title = f"E_warp against distance; line: front; hollow: sharpness below {SHARP} of the direct edit's"
    canvas.add(Text(LEFT, 24, title))
    for i in range(TICKS + 1):
        x, y = x_top * i / TICKS, y_top * i / TICKS
        canvas.add(
            Line(*place(0, y), *place(x_top, y), GREY, 1),
            Text(LEFT - 8, place(0, y)[1], f"{1e4 * y:.1f}", "end"),
        )
        canvas.add(Text(place(x, 0)[0], HEIGHT - BOTTOM + 16, f"{x:.3g}", "middle"))
    canvas.add(
        Text(WIDTH / 2, HEIGHT - 20, "distance to the direct edit (lower: more of the edit kept)", "middle")
    )
    canvas.add(Text(8, TOP - 10, "E_warp / 1e-4 (lower: less flicker)"))
    corners = [place(p.x, p.y) for p in best]
    canvas.add(*(Line(*a, *b, BLUE, 2) for a, b in itertools.pairwise(corners)))
    for point in points:
        canvas.add(*marks(point, point in best, place(point.x, point.y)))
    return canvas


def marks(point: Point, is_best: bool, at: tuple[float, float]) -> list[Circle | Text]:
    """A point; its label where it's on the front or something to compare with."""
    colour = ORANGE if point.kind == "other" else BLUE if is_best else GREY
    blurred = point.sharpness is not None and point.sharpness < SHARP
    found: list[Circle | Text] = [Circle(*at, 6, colour, filled=not blurred)]
    if is_best or point.kind == "other":
        right = at[0] > 0.6 * WIDTH
        found.append(
            Text(at[0] + (-10 if right else 10), at[1] - 8, point.label, "end" if right else "start")
        )
    return found
