"""Aligned frames -> which part of each is face, by the segmentation network where its weights are there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tempcons.media.frames import FrameStore, write_frames
from tempcons.progress import track
from tempcons.store.artefact import Store
from tempcons.types import Aligned
from tempcons.weights import registry

log = logging.getLogger(__name__)

STAGE = "parsing"
VERSION = 1
NAME = "face-parsing"
BATCH = 4


def run(aligned: Aligned, device: torch.device, store: Store) -> Aligned:
    """The same with its face regions, or without if there is no network: the landmarks then tell.

    Raises:
        WeightsError: weights that are there but aren't the network's.
    """
    if not registry.entry(NAME).path.is_file():
        fetch = f"python -m tempcons.weights fetch {NAME}"
        log.info("stitch: no segmentation network (%s), the face region is told by landmarks", fetch)
        return aligned
    depends = {"version": VERSION, "aligned": aligned.key, "sha256": registry.record(NAME)["sha256"]}
    folder = store.produce(STAGE, depends, lambda partial: _make(partial, aligned, device))
    return replace(aligned, regions=FrameStore.open(folder / "frames.npy"), regions_key=folder.name)


def records(aligned: Aligned) -> list[dict[str, str]]:
    """The network, for the manifest, if it was used."""
    return [] if aligned.regions is None else [registry.record(NAME)]


def _make(folder: Path, aligned: Aligned, device: torch.device) -> dict[str, Any]:
    from tempcons.weights.load import load_face_parser

    parser = load_face_parser(registry.entry(NAME).path).to(device)

    def regions() -> Iterator[Tensor]:
        starts = range(0, len(aligned.frames), BATCH)
        for at in track(starts, "parsing the face", len(starts)):
            pictures = aligned.frames.pictures(slice(at, at + BATCH)).to(device)
            yield (2.0 * parser.face(pictures) - 1).expand(-1, 3, -1, -1)

    write_frames(folder / "frames.npy", (len(aligned.frames), *aligned.frames.size), regions())
    return {}
