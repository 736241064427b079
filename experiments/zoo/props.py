"""Things drawn on faces, so that a direction's labels are true by construction: glasses and a beard.

Pictures are (B, 3, S, S) in [-1, 1]; landmarks (B, 5, 2) as shares of the side, in the order left eye, right
eye, nose, left and right corner of the mouth (left and right as seen).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.zoo.blur import blurred
from experiments.zoo.looks import plane

LENS = (0.155, 0.115)  # half axes of a lens, in distances between the eyes times 0.376: shares of the side
RIM = 0.036
MOUTH, NARROWEST = 0.328, 0.75  # width of a mean mouth; a turned face has no smaller beard than this share


def glasses(picture: Tensor, points: Tensor) -> Tensor:
    """Dark rounded frames round the eyes, a bridge, temples, and lenses that reflect a little."""
    x, y = plane(picture)
    x, y = x[None], y[None]
    eyes = points[:, :2]
    reach = (eyes[:, 1] - eyes[:, 0]).norm(dim=1).view(-1, 1, 1) / 0.376
    slope = (eyes[:, 1, 1] - eyes[:, 0, 1]) / (eyes[:, 1, 0] - eyes[:, 0, 0])
    frame, lens = torch.zeros_like(x * reach), torch.zeros_like(x * reach)
    for at, side in ((0, -1), (1, 1)):
        ex, ey = (eyes[:, at, axis].view(-1, 1, 1) for axis in (0, 1))
        u = (x - ex - 0.012 * side * reach) / reach
        v = (y - ey - slope.view(-1, 1, 1) * (x - ex) - 0.012 * reach) / reach
        far = (u / LENS[0]).abs() ** 3.2 + (v / LENS[1]).abs() ** 3.2
        far = far.clamp_min(1e-6) ** (1 / 3.2)
        edge = (far - 1).abs() * LENS[1]
        frame = torch.maximum(frame, torch.sigmoid((RIM * 0.5 - edge) / 0.004))
        lens = torch.maximum(lens, torch.sigmoid((1 - far) * LENS[1] / 0.004))
        temple = torch.sigmoid((side * u - LENS[0]) / 0.004) * torch.sigmoid(
            (LENS[0] + 0.10 - side * u) / 0.02
        )
        temple = temple * torch.sigmoid((RIM * 0.45 - (v + 0.045).abs()) / 0.004)
        frame = torch.maximum(frame, temple)
    middle = (eyes[:, 0] + eyes[:, 1]) / 2
    u, v = (x - middle[:, 0].view(-1, 1, 1)) / reach, (y - middle[:, 1].view(-1, 1, 1)) / reach
    bridge = torch.sigmoid((0.030 - u.abs()) / 0.004) * torch.sigmoid((RIM * 0.5 - (v + 0.03).abs()) / 0.004)
    frame = torch.maximum(frame, bridge)[:, None]
    value = (picture + 1) / 2
    value = value + 0.05 * lens[:, None] * (1 - value)
    value = torch.lerp(
        value, value.new_tensor([0.06, 0.05, 0.05]).view(1, 3, 1, 1).expand_as(value), 0.95 * frame
    )
    return value * 2 - 1


def beard(picture: Tensor, points: Tensor) -> Tensor:
    """Dark hair on chin, jaws, cheeks' lower part and upper lip; the mouth stays free."""
    x, y = plane(picture)
    mouth = points[:, 3:].mean(1)
    width = ((points[:, 4, 0] - points[:, 3, 0]) / MOUTH).clamp_min(NARROWEST).view(-1, 1, 1)
    u, v = (x - mouth[:, 0].view(-1, 1, 1)) / width, (y - mouth[:, 1].view(-1, 1, 1)) / width
    side = u.abs()
    cheek = torch.sigmoid((v - 0.045 + 1.25 * (side - 0.15).clamp(0)) / 0.022) * torch.sigmoid(
        (v + 0.24) / 0.03
    )
    jaw = cheek * torch.sigmoid((0.385 - side - 0.45 * v.clamp(0)) / 0.02)
    below_nose = torch.sigmoid((v + 0.115 - 0.25 * (side - 0.05).clamp(0)) / 0.014)
    moustache = below_nose * torch.sigmoid((0.20 - side) / 0.02) * torch.sigmoid((0.02 - v) / 0.02)
    lips = torch.sigmoid((1 - ((u / 0.155) ** 2 + ((v - 0.005) / 0.058) ** 2).sqrt()) / 0.08)
    hair = torch.maximum(jaw, moustache) * (1 - lips)
    size = picture.shape[-1]
    noise = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0)).to(picture)
    strands = (1 + 0.5 * blurred(noise, 1.0)).clamp(0.4, 1.6)
    value = (picture + 1) / 2
    brown = value.new_tensor([0.035, 0.025, 0.020]).view(1, 3, 1, 1)
    dark = (0.22 * value + brown) * strands
    return torch.lerp(value, dark, 0.95 * hair[:, None]).clamp(0, 1) * 2 - 1


Prop = Callable[[Tensor, Tensor], Tensor]
PROPS: dict[str, Prop] = {"eyeglasses": glasses, "beard": beard}
