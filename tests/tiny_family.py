"""A family of random networks, the smallest that the whole pipeline runs on, and a clip with a known face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from small_family import small_family
from tiny import SIZE, STYLE_DIM, ZeroFlow, tiny_codes, tiny_generator
from torch import Tensor, nn
from videos import encode

from tempcons.family import Family
from tempcons.geometry.paste import paste
from tempcons.geometry.quad import CropRule, quad_from_landmarks
from tempcons.geometry.region import edge_mask

CROP = CropRule(0.65, 0.4)
FACE = np.array([[24.0, 16], [36, 16], [30, 24], [26, 31], [34, 31]])


class TinyEncoder(nn.Module):
    """Codes around one code, a little apart by the brightness of the picture."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", tiny_codes(tiny_generator(), 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.mean + pictures.mean(dim=(1, 2, 3)).view(-1, 1, 1)


class SecondZeroFlow(ZeroFlow):
    """The second opinion."""

    name = "zero again"


def tiny_family() -> Family:
    """32 px, everything random."""
    return replace(
        small_family(),
        crop=CROP,
        encoder=TinyEncoder(),
        mean_code=tiny_codes(tiny_generator(), 1)[0],
        second_flow=SecondZeroFlow(),
    )


def face_frames(total: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) with a face that the tiny generator can make, and its landmarks (T, 5, 2)."""
    generator = tiny_generator()
    points = FACE + np.arange(total)[:, None, None] * [0.5, 0.25]
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    background = np.stack([2 * x + 30, 2 * y + 40, x + y + 20], axis=-1).astype(np.uint8)
    with torch.no_grad():
        pictures = generator.synthesis(tiny_codes(generator, 1)).clamp(-1, 1)
    frames = [
        paste(background, pictures[0], quad_from_landmarks(p, CROP), edge_mask(SIZE, 0)) for p in points
    ]
    return np.stack(frames), points


def face_clip(
    folder: Path, total: int = 6, size: tuple[int, int] = (48, 64), **how: object
) -> tuple[Path, Path]:
    """A video of :func:`face_frames` with sound, and its landmarks as a .npy file."""
    frames, points = face_frames(total, size)
    np.save(folder / "points.npy", points)
    return encode(folder / "talk.mp4", frames, **how), folder / "points.npy"  # type: ignore[arg-type]


def direction(folder: Path) -> Path:
    """An edit's direction for the tiny generator."""
    random = np.random.default_rng(7).standard_normal(STYLE_DIM).astype(np.float32)
    np.save(folder / "direction.npy", 0.5 * random)
    return folder / "direction.npy"
