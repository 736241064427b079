"""Lines, circles and words, written as SVG or PNG alike; no plotting library is needed for a few dots."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

BLUE, ORANGE, BLACK = "#1f5fbf", "#c8600a", "#202020"
GREY, PALE = "#9a9a9a", "#e2e2e2"
# CSS classes, so that a page can give the colours another shade in dark mode.
CLASSES = {BLUE: "best", ORANGE: "other", BLACK: "ink", GREY: "plain", PALE: "rule"}
FONT = 13
# PNGs are drawn larger than they are and made smaller, for smooth edges.
OVERSAMPLE = 2


@dataclass(frozen=True)
class Line:
    """From (x0, y0) to (x1, y1)."""

    x0: float
    y0: float
    x1: float
    y1: float
    colour: str
    width: int


@dataclass(frozen=True)
class Circle:
    """Around (x, y); in an SVG ``name`` is shown when pointed at, and ``key`` names it for scripts."""

    x: float
    y: float
    radius: int
    colour: str
    filled: bool = True
    name: str = ""
    key: str = ""


@dataclass(frozen=True)
class Text:
    """Words at (x, y), the middle of their height; ``anchor``: start, middle or end."""

    x: float
    y: float
    words: str
    anchor: str = "start"


Shape = Line | Circle | Text


@dataclass
class Canvas:
    """Shapes in the order drawn, on white."""

    width: int
    height: int
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw on top."""
        self.shapes += shapes


def write(path: Path, canvas: Canvas) -> None:
    """Write a .png or .svg under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    if path.suffix == ".svg":
        temporary.write_text(svg(canvas))
    else:
        png(canvas).save(temporary, "PNG")
    temporary.replace(path)


def svg(canvas: Canvas) -> str:
    """The canvas as an SVG document."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {canvas.width} {canvas.height}" '
        f'font-family="sans-serif" font-size="{FONT}" role="img">'
    )
    ground = f'<rect class="ground" width="{canvas.width}" height="{canvas.height}" fill="white"/>'
    body = [head, f"<title>{escape(canvas.title)}</title>", ground, *map(element, canvas.shapes), "</svg>"]
    return "\n".join(body) + "\n"


def element(shape: Shape) -> str:
    """One shape as an SVG element."""
    match shape:
        case Line(x0, y0, x1, y1, colour, width):
            ends = f'x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"'
            return f'<line class="{CLASSES[colour]}" {ends} stroke="{colour}" stroke-width="{width}"/>'
        case Circle():
            return circle(shape)
        case Text(x, y, words, anchor):
            at = f'x="{x:.1f}" y="{y:.1f}" dy="0.35em" text-anchor="{anchor}"'
            return f'<text class="ink" {at} fill="{BLACK}">{escape(words)}</text>'


def circle(shape: Circle) -> str:
    """A circle as an SVG element."""
    fill = shape.colour if shape.filled else "white"
    classes = CLASSES[shape.colour] + ("" if shape.filled else " hollow")
    around = f'cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius}"'
    known = f' data-job="{escape(shape.key)}"' if shape.key else ""
    name = f"<title>{escape(shape.name)}</title>" if shape.name else ""
    look = f'fill="{fill}" stroke="{shape.colour}" stroke-width="2"'
    return f'<circle class="{classes}"{known} {around} {look}>{name}</circle>'


def png(canvas: Canvas) -> Image.Image:
    """The canvas as a picture."""
    size = canvas.width * OVERSAMPLE, canvas.height * OVERSAMPLE
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for shape in canvas.shapes:
        paint(pen, shape)
    return picture.resize((canvas.width, canvas.height), Image.Resampling.LANCZOS)


def paint(pen: ImageDraw.ImageDraw, shape: Shape) -> None:
    """One shape with a pen."""
    k = OVERSAMPLE
    match shape:
        case Line(x0, y0, x1, y1, colour, width):
            pen.line((k * x0, k * y0, k * x1, k * y1), colour, k * width)
        case Circle(x, y, radius, colour, filled, _, _):
            box = (k * (x - radius), k * (y - radius), k * (x + radius), k * (y + radius))
            pen.ellipse(box, colour if filled else "white", colour, 2 * k)
        case Text(x, y, words, anchor):
            side = {"start": "lm", "middle": "mm", "end": "rm"}[anchor]
            pen.text((k * x, k * y), words, BLACK, ImageFont.load_default(k * FONT), side)
