"""Masks and flow of a few frames as pictures: for the page, and as one labelled sheet for dashboards."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tempcons.media.range import to_frames
from tempcons.stages.page_slices import encode_png
from tempcons.training.logging import TARGET
from tempcons.training.mask_panels import PairMasks

LARGEST_SIDE = 192
COLUMNS = ("picture", "flow to the anchor", "visible", "perceptual difference", "counts")
KEY_SIDE = 49
TARGET_NOTE = (
    "The direct edit was made consistent along this flow before the phases learned it. A pixel is visible "
    "where flow there and back ends where it began, and counts where its flow stays inside the picture too."
)
PHASE_NOTE = (
    "As the losses saw them in the last epoch. A pixel is visible where flow there and back ends where it "
    "began, and differs where the edit changed it; either makes it count."
)
LABEL_HEIGHT, GAP, INK, PAPER = 16, 4, (0, 0, 0), (255, 255, 255)

Masks = Mapping[int, PairMasks]


def flow_picture(flow: Tensor, full_px: float) -> np.ndarray:
    """(H, W, 3) uint8: the hue is the direction of a flow (2, H, W), the saturation its length.

    No motion is white; ``full_px`` and more is fully saturated.
    """
    x, y = flow.numpy()
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    saturation = np.clip(np.hypot(x, y) / full_px, 0, 1)
    # Each channel is full around its own hue and falls off linearly, as in the HSV hexagon.
    away = np.abs((6 * hue[..., None] - np.array([0, 2, 4]) + 3) % 6 - 3)
    pure = np.clip(2 - away, 0, 1)
    return np.rint(255 * (1 - saturation[..., None] * (1 - pure))).astype(np.uint8)


def flow_key() -> np.ndarray:
    """The colours of all directions: rightward flow is drawn on the right."""
    line = np.linspace(-1, 1, KEY_SIDE, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    picture = flow_picture(torch.from_numpy(np.stack([x, y])), 1.0)
    picture[np.hypot(x, y) > 1] = 255
    return picture


def full_motion(masks: Masks) -> float:
    """Length in px that is drawn fully saturated: the 99th percentile of all pixels, 1 at least."""
    lengths = np.concatenate([pair.flow.norm(dim=0).numpy().ravel() for pair in masks.values()])
    return max(1.0, float(np.quantile(lengths, 0.99)))


def panels(pair: PairMasks, full_px: float) -> list[np.ndarray | None]:
    """The pictures of :data:`COLUMNS`, uint8 (H, W, 3); None for a mask that isn't used."""
    gray = [None if mask is None else _gray(mask) for mask in (pair.visible, pair.difference, pair.fused)]
    return [to_frames(pair.picture[None])[0], flow_picture(pair.flow, full_px), *gray]


def section(by_phase: Mapping[str, Masks], labels: Mapping[str, str], frame_ids: Sequence[int]) -> str:
    """HTML of all phases' panels; a click on a row's button goes to its frame."""
    if not by_phase:
        return "<p>No masks were recorded: nothing was optimised, or the losses needed no flow.</p>"
    return "".join(
        _phase(labels[phase], TARGET_NOTE if phase == TARGET else PHASE_NOTE, masks, frame_ids)
        for phase, masks in by_phase.items()
    )


def _phase(title: str, note: str, masks: Masks, frame_ids: Sequence[int]) -> str:
    full_px = full_motion(masks)
    drawn = {list(frame_ids).index(i): panels(pair, full_px) for i, pair in masks.items()}
    used = [at for at in range(len(COLUMNS)) if any(row[at] is not None for row in drawn.values())]
    head = "".join(f'<th scope="col">{COLUMNS[at]}</th>' for at in used)
    rows = "".join(
        _row(title, at, {COLUMNS[column]: row[column] for column in used}) for at, row in drawn.items()
    )
    return (
        f'<h3>{escape(title)}</h3><p class="quiet">{note}</p>'
        f'<p class="quiet key"><img alt="colours of flow by direction" src="{_source(flow_key())}">'
        f"The hue is the direction of the flow, the strongest colour {full_px:.3g} px or more.</p>"
        f'<table class="masks"><thead><tr><th scope="col">frame</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(title: str, at: int, pictures: Mapping[str, np.ndarray | None]) -> str:
    """The pictures of the frame at a position; a dash for a mask that isn't used."""
    cells = "".join(
        "<td>&ndash;</td>"
        if picture is None
        else f'<td><img alt="{name}, {escape(title)}, frame {at}" src="{_source(picture)}"></td>'
        for name, picture in pictures.items()
    )
    return f'<tr><th scope="row"><button type="button" data-seek="{at}">{at}</button></th>{cells}</tr>'


def write_sheet(path: Path, masks: Masks) -> Path:
    """All panels of a phase as one labelled PNG, written under a temporary name."""
    full_px = full_motion(masks)
    rows = [(f"frame {i}", panels(pair, full_px)) for i, pair in masks.items()]
    side = max(picture.shape[0] for _, row in rows for picture in row if picture is not None)
    step, below = side + GAP, side + GAP + LABEL_HEIGHT
    sheet = Image.new("RGB", (len(COLUMNS) * step - GAP, len(rows) * below), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for down, (name, row) in enumerate(rows):
        for across, (column, picture) in enumerate(zip(COLUMNS, row, strict=True)):
            label = f"{name}: {column}" if across == 0 else column
            pen.text((across * step + 2, down * below + 2), label, fill=INK, font=font)
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (across * step, down * below + LABEL_HEIGHT))
    temporary = path.with_name(f".{path.name}.part")
    sheet.save(temporary, format="PNG")
    temporary.replace(path)
    return path


def _gray(mask: Tensor) -> np.ndarray:
    values = np.rint(255 * mask[0].numpy()).astype(np.uint8)
    return values[..., None].repeat(3, axis=2)


def _source(picture: np.ndarray) -> str:
    """A picture as an address, made smaller if it is large."""
    side = max(picture.shape[:2])
    if side > LARGEST_SIDE:
        smaller = Image.fromarray(picture).reduce(-(-side // LARGEST_SIDE))
        picture = np.asarray(smaller)
    return f"data:image/png;base64,{b64encode(encode_png(picture)).decode()}"
