"""Phase 3 on a face in a frame: the seam falls, the edit stays, out-of-domain edits are refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CPU, SIZE, tiny_codes, tiny_generator, tiny_hyper
from tiny_family import CROP, face_clip

from tempcons.check import ConfigError
from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.stages import align, clip, phase3, stitch
from tempcons.store.artefact import Store
from tempcons.training.context import PhaseContext
from tempcons.training.stitch_phase import TuningConfig
from tempcons.types import Aligned, Clip, Edited, Stitched, StitchTuned

TOTAL = 4
TUNING = TuningConfig(steps=60, steps_after=20, batch=2, lr=5e-3, lambda_content=0.1, reach=0.1, edge=0.1)
HARD = stitch.StitchConfig("feather", "face", 0.0, TUNING)


def context() -> PhaseContext:
    return PhaseContext("tiny", tiny_hyper(), CPU, 0)


def edit_of(aligned: Aligned, strength: float = 0.4) -> Edited:
    """Codes that are moved along a direction and shake from frame to frame."""
    generator, random = tiny_generator(), torch.Generator().manual_seed(3)
    move = strength * torch.randn(1, 1, generator.style_dim, generator=random)
    shake = 0.15 * torch.randn(TOTAL, 1, generator.style_dim, generator=random)
    codes = tiny_codes(generator, 1) + move + shake
    with torch.no_grad():
        frames = FrameStore(to_frames(generator.synthesis(codes)))
    return Edited(
        codes=codes,
        frame_ids=aligned.frame_ids,
        generator=generator,
        frames=frames,
        aligned=aligned.frames,
        domain="in",
        anchor_id=int(aligned.frame_ids[1]),
        key="shaken",
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("phase3")


@pytest.fixture(scope="module")
def store(place) -> Store:
    return Store(place / "cache")


@pytest.fixture(scope="module")
def face(place, store) -> tuple[Clip, Aligned]:
    source, points = face_clip(place, TOTAL)
    taken = clip.run(clip.ClipConfig(str(source)), store)
    config = align.AlignConfig(landmarks_path=str(points), smoothing_s=0)
    return taken, align.run(taken, config, CROP, SIZE, store)


@pytest.fixture(scope="module")
def tuned(face, store) -> StitchTuned:
    return phase3.run(face[0], face[1], edit_of(face[1]), HARD, context(), store)


@pytest.fixture(scope="module")
def result(face, store, tuned) -> Stitched:
    return stitch.run(face[0], face[1], tuned, HARD, store, before=edit_of(face[1]))


def test_jump_and_flicker_fall_by_half_against_plain_pasting(result) -> None:
    """Both are pasted with a hard border, so that only the tuning differs."""
    for figure in ("seam_jump", "border_flicker"):
        plain, now = (result.seams[name][figure] for name in ("plain_paste", "stitched"))
        assert plain and now is not None
        assert now < 0.5 * plain, figure


def test_the_edit_stays(face, tuned) -> None:
    edit, aligned = edit_of(face[1]), face[1]
    content = phase3.masks_at(face[0], face[1], 0, SIZE, "face", TUNING).content
    made, wanted, source = (x.frames.array[0][content].astype(float) for x in (tuned, edit, aligned))
    assert np.abs(made - wanted).mean() < 0.5 * np.abs(source - wanted).mean()


def test_ids_and_frames_are_the_edits(face, tuned) -> None:
    assert tuned.frame_ids.tolist() == face[1].frame_ids.tolist()
    assert tuned.frames.array.shape == (TOTAL, SIZE, SIZE, 3)


def test_the_artefact_says_which_region_and_keeps_no_parts(store, tuned) -> None:
    folder = store.root / "phase3" / tuned.key
    assert store.info(folder)["face_region"] == "ellipse around 5 landmarks"
    assert sorted(p.name for p in folder.iterdir()) == ["frames.npy", "manifest.json"]


def test_the_log_names_the_region(face, store, caplog) -> None:
    brief = replace(HARD, tuning=replace(TUNING, steps=1, steps_after=1))
    with caplog.at_level(logging.INFO):
        phase3.run(
            face[0], face[1], edit_of(face[1], 0.3), brief, context(), Store(store.root.parent / "other")
        )
    assert "face region is the ellipse around 5 landmarks" in caplog.text


def test_out_of_domain_is_refused(face, store) -> None:
    outside = replace(edit_of(face[1]), domain="out")
    with pytest.raises(ConfigError, match=r"out-of-domain.*Section 3\.4"):
        phase3.run(face[0], face[1], outside, HARD, context(), store)
