"""Where the words of a plot stand: beside their points, clear of everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tempcons.sweep.drawing import FONT, Text

LEFT, RIGHT, TOP, BOTTOM = 70, 30, 50, 70
# width of a letter, about
LETTER = 7
# of a point
RADIUS = 6
# Points of one name that lie closer share their words.
NEAR = 70

Place = tuple[float, float]


@dataclass(frozen=True)
class Size:
    """Of a plot in px; narrow ones have no room for a legend."""

    width: int = 800
    height: int = 560

    @property
    def is_narrow(self) -> bool:
        return self.width < 600


def once(wanted: Sequence[tuple[Place, str]]) -> list[tuple[Place, str]]:
    """Without words that stand near their like already."""
    kept: list[tuple[Place, str]] = []
    for at, words in wanted:
        if not any(words == other and math.dist(at, place) < NEAR for place, other in kept):
            kept.append((at, words))
    return kept


def labels(wanted: Sequence[tuple[Place, str]], dots: Sequence[Place], size: Size) -> list[Text]:
    """Words beside their points, where they neither leave the picture nor cover dots or each other.

    Those without such a place are left out: pages name a dot that is pointed at.
    """
    found: list[Text] = []
    for (x, y), words in wanted:
        tries = [
            Text(x + across, y + down, words, "start" if across > 0 else "end")
            for down in ((0, -14, 14) if size.is_narrow else (0, -14, 14, -26, 26, -38, 38))
            for across in (RADIUS + 5, -RADIUS - 5)
        ]
        free = (
            text
            for text in tries
            if inside(text, size)
            and not any(overlap(text, other) for other in found)
            and not any(covers(text, dot) for dot in dots)
        )
        if text := next(free, None):
            found.append(text)
    return found


def covers(text: Text, dot: Place) -> bool:
    """Whether words touch a dot."""
    left, right = span(text)
    return left < dot[0] + RADIUS and dot[0] - RADIUS < right and abs(text.y - dot[1]) < RADIUS + FONT / 2


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
