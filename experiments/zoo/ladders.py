"""Does a perceptual distance put known distortions in the order in which people do?"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.zoo.augment import gray
from experiments.zoo.blur import blurred

# Distortions of growing strength, in the order in which people find them worse.
LADDERS: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 1.0, 2.0, 4.0),
    "noise": (0.02, 0.05, 0.1, 0.2),
    "shift": (1, 2, 4, 8),
    "colour": (0.05, 0.1, 0.2, 0.4),
    "contrast": (0.9, 0.75, 0.5, 0.25),
}


def distorted(pictures: Tensor, kind: str, strength: float) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] with one distortion of a ladder."""
    random = torch.Generator().manual_seed(0)
    if kind == "blur":
        return blurred(pictures, strength, int(3 * strength) + 1, "reflect")
    if kind == "noise":
        noise = torch.randn(pictures.shape, generator=random).to(pictures)
        return (pictures + 2 * strength * noise).clamp(-1, 1)
    if kind == "shift":
        step = int(strength)
        return F.pad(pictures, (step, 0, 0, 0), mode="replicate")[..., : pictures.shape[-1]]
    if kind == "colour":
        tone = pictures.new_tensor([1.0, -0.3, -1.0]).view(1, 3, 1, 1)
        return (pictures + strength * tone).clamp(-1, 1)
    return torch.lerp(gray(pictures).mean(dim=(2, 3), keepdim=True), pictures, strength)


@torch.no_grad()
def ladder_order(distance: Callable[[Tensor, Tensor], Tensor], pictures: Tensor) -> dict[str, float]:
    """Share of neighbouring steps of every ladder, over pictures, that a distance puts in the right order."""
    found = {}
    for kind, strengths in LADDERS.items():
        steps = torch.stack([distance(distorted(pictures, kind, s), pictures) for s in strengths])
        found[kind] = round((steps[1:] > steps[:-1]).float().mean().item(), 4)
    return found
