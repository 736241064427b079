"""Image operators whose looks adapted generators learn: pictures (B, 3, S, S) in [-1, 1] to such pictures.

They are drawn for aligned faces: the crop puts the eyes, the nose and the mouth at known places (``FACE``,
the means over the pictures that the family was trained on), so that an operator can enlarge eyes, sink
sockets or paint ears without a detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.filters import bilateral_blur
from torch import Tensor

from experiments.zoo.blur import blurred

# Where the crop of the embedded family has a face's parts, (x, y) as shares of the side.
FACE = {
    "eye_left": (0.312, 0.338),
    "eye_right": (0.688, 0.338),
    "nose": (0.500, 0.554),
    "mouth_left": (0.336, 0.743),
    "mouth_right": (0.664, 0.743),
    "mouth": (0.500, 0.750),
}
SIDES = (-1, 1)


def plane(picture: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (S, S) of every pixel's centre, as shares of the side."""
    size = picture.shape[-1]
    at = (torch.arange(size, device=picture.device) + 0.5) / size
    return at.expand(size, size), at[:, None].expand(size, size)


def blob(
    picture: Tensor, centre: tuple[float, float], radius: tuple[float, float], turn: float = 0.0
) -> Tensor:
    """(S, S) soft spot of height 1: a Gaussian of these radii (standard deviations), turned by radians."""
    x, y = plane(picture)
    x, y = x - centre[0], y - centre[1]
    cosine, sine = math.cos(turn), math.sin(turn)
    u, v = cosine * x + sine * y, cosine * y - sine * x
    return torch.exp(-0.5 * ((u / radius[0]) ** 2 + (v / radius[1]) ** 2))


def pull(picture: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """The picture whose pixel at p shows what was at p + (dx, dy), shares of the side."""
    x, y = plane(picture)
    grid = 2 * torch.stack([x + dx, y + dy], -1) - 1
    return F.grid_sample(
        picture, grid.expand(len(picture), -1, -1, -1), padding_mode="reflection", align_corners=False
    )


def swell(
    picture: Tensor, centre: tuple[float, float], radius: tuple[float, float], by: float
) -> tuple[Tensor, Tensor]:
    """Displacement for :func:`pull` that enlarges (shrinks, if negative) what is around a centre."""
    x, y = plane(picture)
    weight = -by * blob(picture, centre, radius)
    return weight * (x - centre[0]), weight * (y - centre[1])


def toned(gray: Tensor, dark: tuple[float, float, float], light: tuple[float, float, float]) -> Tensor:
    """Luminance (B, 1, S, S) in [0, 1] drawn from a dark to a light colour."""
    low, high = (gray.new_tensor(c).view(1, 3, 1, 1) for c in (dark, light))
    return low + (high - low) * gray


def painted(picture: Tensor, colour: tuple[float, float, float], mask: Tensor) -> Tensor:
    """The picture (in [0, 1]) with a colour laid over it where ``mask`` says so."""
    return torch.lerp(picture, picture.new_tensor(colour).view(1, 3, 1, 1).expand_as(picture), mask)


def smoothed(picture: Tensor, times: int = 2) -> Tensor:
    """Edges kept, texture gone (picture in [0, 1])."""
    for _ in range(times):
        picture = bilateral_blur(picture, (7, 7), 0.12, (2.5, 2.5), border_type="replicate")
    return picture


def dark_in(gray: Tensor, where: Tensor, below: float, width: float = 0.06) -> Tensor:
    """Mask of what is darker than its surroundings there: irises, lashes, brows, the line of the mouth."""
    surround = blurred(gray, 8.0)
    return torch.sigmoid((below * surround - gray) / width) * where


def pencil_sketch(picture: Tensor) -> Tensor:
    """Gray pencil on paper: shading by a dodge blend, contours by a difference of Gaussians."""
    gray = rgb_to_grayscale((picture + 1) / 2)
    soft = blurred(gray, 6.0, 15)
    shading = (gray / (soft + 0.05)).clamp(0, 1).pow(1.5)
    narrow = blurred(gray, 0.8, 4)
    wide = blurred(gray, 1.6, 6)
    contour = 1 + torch.tanh(((narrow - 0.985 * wide) - 0.002).clamp(max=0) * 30)
    tone = 0.30 + 0.70 * torch.sigmoid((gray - 0.30) * 7)
    drawing = (0.55 * shading + 0.45 * tone) * contour
    paper = torch.tensor([1.0, 0.985, 0.955], device=picture.device).view(1, 3, 1, 1)
    return (drawing * paper).clamp(0, 1) * 2 - 1


def cartoon(picture: Tensor) -> Tensor:
    """Smooth, warm and saturated: edges kept, texture gone, a lifted and stretched tone curve."""
    x = (picture + 1) / 2
    x = smoothed(x)
    gray = rgb_to_grayscale(x)
    skin = torch.cat([0.16 + 0.92 * gray, 0.02 + 0.86 * gray.pow(1.15), 0.03 + 0.78 * gray.pow(1.35)], 1)
    saturated = gray + 1.6 * (x - gray)
    x = 0.5 * saturated + 0.5 * skin
    x = x + 0.5 * (x - blurred(x, 4.0, 10))
    return ((x - 0.5) * 1.25 + 0.56).clamp(0, 1) * 2 - 1


def disney_princess(picture: Tensor) -> Tensor:
    """Large bright eyes with lashes, a small nose, a narrow jaw, red lips and rosy, even skin."""
    parts = [swell(picture, FACE[e], (0.115, 0.115), 0.50) for e in ("eye_left", "eye_right")]
    parts += [swell(picture, FACE["nose"], (0.09, 0.08), -0.40)]
    dx, dy = (torch.stack([p[i] for p in parts]).sum(0) for i in (0, 1))
    x, y = plane(picture)
    jaw = torch.sigmoid((y - 0.72) / 0.06) * torch.exp(-0.5 * ((x - 0.5) / 0.30) ** 2)
    x = smoothed((pull(picture, dx + 0.30 * jaw * (x - 0.5), dy) + 1) / 2, 2)
    gray = rgb_to_grayscale(x)
    skin = toned(gray.pow(0.85), (0.16, 0.05, 0.06), (1.0, 0.88, 0.78))
    x = 0.35 * (gray + 1.3 * (x - gray)) + 0.65 * skin
    for side, eye in zip(SIDES, ("eye_left", "eye_right"), strict=True):
        x = painted(x, (0.95, 0.40, 0.42), 0.24 * blob(x, (0.5 + side * 0.22, 0.58), (0.065, 0.045)))
        x = princess_eye(x, gray, FACE[eye], side)
    lips = toned(gray.pow(0.8), (0.30, 0.0, 0.05), (1.0, 0.40, 0.48))
    x = torch.lerp(x, lips, 0.85 * blurred(disc(x, FACE["mouth"], (0.105, 0.050))[None, None], 1.2))
    x = x + 0.4 * (x - blurred(x, 4.0))
    return ((x - 0.5) * 1.12 + 0.55).clamp(0, 1) * 2 - 1


def princess_eye(x: Tensor, gray: Tensor, at: tuple[float, float], side: int) -> Tensor:
    """A white ball, a blue iris with its light, and lashes; as far as the eye there is open, that is dark."""
    ex, ey = at
    iris = disc(x, (ex, ey), (0.052, 0.062))
    is_open = (dark_in(gray, iris, 0.95).sum(dim=(2, 3), keepdim=True) / iris.sum()).clamp(0, 1)
    ball = disc(x, (ex, ey + 0.006), (0.100, 0.054))
    x = painted(x, (0.97, 0.96, 0.96), 0.85 * is_open * ball)
    x = painted(x, (0.13, 0.36, 0.66), 0.95 * is_open * iris * ball)
    x = painted(x, (0.02, 0.03, 0.07), 0.95 * is_open * disc(x, (ex, ey), (0.026, 0.032)))
    x = painted(x, (1.0, 1.0, 1.0), 0.95 * is_open * disc(x, (ex - 0.020, ey - 0.022), (0.014, 0.014)))
    lid = disc(x, (ex + 0.006 * side, ey - 0.004), (0.122, 0.072)) * (
        1 - disc(x, (ex, ey + 0.022), (0.108, 0.064))
    )
    return painted(x, (0.09, 0.03, 0.05), 0.95 * lid)


def disc(picture: Tensor, centre: tuple[float, float], radius: tuple[float, float]) -> Tensor:
    """(S, S) mask of an ellipse with these half axes, its edge about a pixel of 128 wide."""
    x, y = plane(picture)
    far = (((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2).sqrt()
    return torch.sigmoid((1 - far) * min(radius) / 0.005)


def zombie(picture: Tensor) -> Tensor:
    """Gray-green mottled skin, sunken sockets round milky eyes, hollow cheeks, blood at the mouth."""
    x = (picture + 1) / 2
    gray = rgb_to_grayscale(x)
    gray = (gray + 1.1 * (blurred(gray, 1.0) - blurred(gray, 4.0))).clamp(0, 1)
    mottle = blurred(mottles(picture), 3.0) * 9
    gray = (gray * (1 - 0.13 * torch.relu(mottle))).clamp(0, 1)
    x = toned(gray.pow(1.15), (0.02, 0.05, 0.04), (0.74, 0.84, 0.62))
    for side, eye in zip(SIDES, ("eye_left", "eye_right"), strict=True):
        ex, ey = FACE[eye]
        socket = blob(x, (ex, ey + 0.015), (0.105, 0.080))
        x = painted(x, (0.10, 0.03, 0.06), 0.85 * socket)
        eye_at = blob(x, (ex, ey + 0.005), (0.050, 0.024))
        x = painted(x, (0.90, 0.88, 0.72), 0.85 * eye_at * (1 - 0.7 * dark_in(gray, eye_at, 0.6)))
        x = painted(
            x, (0.05, 0.08, 0.05), 0.55 * blob(x, (0.5 + side * 0.27, 0.66), (0.05, 0.12), side * 0.35)
        )
    x = painted(x, (0.30, 0.02, 0.03), 0.75 * blob(x, FACE["mouth"], (0.125, 0.035)))
    for at, reach in ((0.40, 0.09), (0.47, 0.14), (0.58, 0.10)):
        x = painted(x, (0.32, 0.01, 0.02), 0.85 * blob(x, (at, 0.79 + reach / 2), (0.014, reach / 2)))
    x = painted(x, (0.36, 0.03, 0.03), 0.8 * blob(x, (0.74, 0.56), (0.012, 0.075), 0.5))
    return ((x - 0.5) * 1.2 + 0.47).clamp(0, 1) * 2 - 1


def mottles(picture: Tensor) -> Tensor:
    """(1, 1, S, S) noise, the same one always."""
    size = picture.shape[-1]
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0)).to(picture)


def elf(picture: Tensor) -> Tensor:
    """Pointed ears beside a narrower face, slanted eyes and brows, a pointed chin, cool light skin."""
    x, y = plane(picture)
    inside = (1 - ((x - 0.5) / 0.5).abs() ** 4).clamp(0)
    dx = (0.28 + 0.35 * torch.sigmoid((y - 0.78) / 0.05)) * inside * (x - 0.5)
    dy = torch.zeros_like(dx)
    for side, eye in zip(SIDES, ("eye_left", "eye_right"), strict=True):
        ex, ey = 0.5 + (FACE[eye][0] - 0.5) * 0.8, FACE[eye][1]
        weight = blob(picture, (ex, ey - 0.02), (0.10, 0.10))
        dx = dx - weight * (0.42 * side * (y - ey) + 0.25 * (x - ex))
        dy = dy + weight * (0.42 * side * (x - ex) - 0.25 * (y - ey))
    x01 = smoothed((pull(picture, dx, dy) + 1) / 2, 1)
    gray = rgb_to_grayscale(x01)
    dark, light = (0.05, 0.08, 0.07), (1.0, 0.97, 0.88)
    out = 0.35 * x01 + 0.65 * toned(gray.pow(0.85), dark, light)
    for eye in ("eye_left", "eye_right"):
        at = (0.5 + (FACE[eye][0] - 0.5) * 0.8, FACE[eye][1])
        where = blob(out, at, (0.055, 0.030))
        out = painted(out, (0.10, 0.55, 0.30), 0.8 * dark_in(gray, where, 0.85))
    cheek = gray[..., 62:80, 40:88].mean(dim=(2, 3), keepdim=True).clamp(0.3, 0.9).pow(0.85)
    for side in SIDES:
        ear, inner = ear_masks(picture, side)
        shade = (1.05 - 0.35 * (y - 0.1)).clamp(0, 1.1)
        out = out * (1 - 0.7 * blurred(ear[None, None], 1.6) * (1 - ear))
        out = torch.lerp(out, toned(cheek * shade, dark, light).expand_as(out), ear)
        out = painted(out, (0.35, 0.30, 0.26), 0.55 * inner)
    return ((out - 0.5) * 1.15 + 0.52).clamp(0, 1) * 2 - 1


def ear_masks(picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(S, S) masks of a pointed ear beside the face, and of its hollow."""
    x, y = plane(picture)
    u = side * (x - 0.5)

    def leaf(root: tuple[float, float], tip: tuple[float, float], width: float) -> Tensor:
        ax, ay = tip[0] - root[0], tip[1] - root[1]
        length = (ax**2 + ay**2) ** 0.5
        along = ((u - root[0]) * ax + (y - root[1]) * ay) / length**2
        across = ((u - root[0]) * ay - (y - root[1]) * ax) / length
        half = width * torch.sin(torch.pi * along.clamp(0, 1).pow(0.6))
        return torch.sigmoid((half - across.abs()) / 0.005) * (half > 0) * (along / 0.35).clamp(0, 1).pow(0.7)

    return leaf((0.275, 0.60), (0.485, 0.05), 0.080), leaf((0.325, 0.50), (0.455, 0.16), 0.032)


@dataclass(frozen=True)
class Look:
    """An image operator, and whether it draws without colours."""

    operator: Callable[[Tensor], Tensor]
    gray: bool = False


LOOKS = {
    "sketch": Look(pencil_sketch, gray=True),
    "pixar": Look(cartoon),
    "disney_princess": Look(disney_princess),
    "elf": Look(elf),
    "zombie": Look(zombie),
}
