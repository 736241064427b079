"""A family, its latents and a text-image network, all of the smallest size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import FRAMES, SIZE, STYLE_DIM, TinyDistance, ZeroFlow, sample_codes, tiny_codes, tiny_generator
from torch import Tensor, nn

from tempcons.edits.config import AdaptConfig, EditConfig, EditSource
from tempcons.family import Family
from tempcons.geometry.quad import CropRule
from tempcons.media.frames import FrameStore
from tempcons.models.clip import TextImageModel
from tempcons.types import Aligned, Latents

NAMES = ("embedded", "ffhq")


def small_family(name: str = "embedded") -> Family:
    generator = tiny_generator()
    return Family(
        name=name,
        size=SIZE,
        crop=CropRule(),
        generator=generator,
        encoder=None,
        sample_codes=sample_codes,
        mean_code=torch.zeros(generator.n_latent, STYLE_DIM),
        alpha_interp=1.0,
        flow=ZeroFlow(),
        flow_size=SIZE,
        second_flow=ZeroFlow(),
        perceptual=TinyDistance(),
        device=torch.device("cpu"),
        records=[],
        depends={
            part: {"kind": "tiny"} for part in ("networks", "perceptual", "flow", "second_flow", "sampling")
        },
    )


def small_clip(family: Family) -> tuple[Latents, Aligned]:
    """Five frames as the family's generator draws them."""
    ids, black = np.arange(FRAMES), FrameStore(np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    latents = Latents(tiny_codes(family.generator), ids, family.generator, black, "latents")
    nowhere = np.zeros((FRAMES, 5, 2))
    quads = nowhere[:, :4]
    aligned = Aligned(
        frames=black,
        frame_ids=ids,
        landmarks=nowhere,
        quads=quads,
        raw_quads=quads,
        found=np.ones(FRAMES, bool),
        cuts=(),
        key="aligned",
    )
    return latents, aligned


def one_edit(kind: str, weights: str = "", name: str | None = None, **changes: Any) -> EditConfig:
    """An edit with a source of one kind in every family."""
    domain = "out" if kind in ("text", "generator", "checkpoint") else "in"
    sources = {family: EditSource(kind, weights) for family in NAMES}
    told: dict[str, Any] = {"strength": 1.0, "description": "", "sources": sources}
    return EditConfig(name or kind, domain, **told | changes)


def stacked(*parts: EditConfig, **changes: Any) -> EditConfig:
    """Several edits at once."""
    domain = "out" if any(part.domain == "out" for part in parts) else "in"
    layers = {part.name: part for part in parts}
    told: dict[str, Any] = {"domain": domain, "strength": 1.0, "description": "", "sources": {}}
    return EditConfig("stack", **told | changes, layers=layers)


class Colours(nn.Module):
    """In place of CLIP: a picture's mean colours in quarters, and a text's first letter as a colour."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(12, 6, bias=False)
        nn.init.orthogonal_(self.project.weight)

    def encode_image(self, pictures: Tensor) -> Tensor:
        return self.project(nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1))

    def encode_text(self, tokens: Tensor) -> Tensor:
        wanted = torch.zeros(len(tokens), 3, 4)
        for row, token in zip(wanted, tokens[:, 0].tolist(), strict=True):
            row["rgb".index(chr(token)) if chr(token) in "rgb" else slice(None)] = 1.0
        return self.project(wanted.flatten(1))


def colour_model() -> TextImageModel:
    """Knows texts that begin with r, g or b (red, green, blue); others are gray."""
    torch.manual_seed(7)
    return TextImageModel(
        Colours(), lambda texts: torch.tensor([[ord(text[0])] for text in texts]), [str, str], size=8
    )


def quick(**changes: Any) -> AdaptConfig:
    told: dict[str, Any] = {"steps": 6, "batch": 2, "lr": 0.01, "clip": {"clip-vit-b-32": 1.0}}
    return AdaptConfig(**told | changes)


def write_official(folder: Path, files: dict[str, Any]) -> None:
    """Files under the weights folder of a cache."""
    for name, contents in files.items():
        path = folder / "weights" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(contents, np.ndarray):
            np.save(path, contents)
        else:
            torch.save(contents, path)
