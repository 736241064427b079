"""Masks that a phase computed are kept for a few frames, and outlive a kill."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tiny import CPU, FRAMES, SIZE, TinyDistance, ZeroFlow, sample_codes, tiny_edited, tiny_hyper

from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.mask_panels import MaskRecorder, PairMasks, load_masks, spread
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.types import Domain


class Seen(FlowMaskCallback):
    """Remembers the masks of every pair by what the anchor and the frame looked like."""

    def __init__(self, in_domain: bool) -> None:
        super().__init__(ZeroFlow(), SIZE, in_domain)
        self.calls: list = []

    def pair(self, anchor, frame, difference):
        geometry = super().pair(anchor, frame, difference)
        self.calls.append((frame.detach(), difference, geometry))
        return geometry


def record(
    folder: Path, domain: Domain = "in", epochs: int = 2, **hyper: float
) -> tuple[dict[int, PairMasks], Seen]:
    edited = tiny_edited(domain)
    settings = tiny_hyper(**hyper)
    seen = Seen(domain == "in")
    watched = spread([(edited.anchor_id, i) for i in edited.frame_ids.tolist() if i != edited.anchor_id])
    recorder = MaskRecorder(folder / "masks.safetensors", watched, 10.0)
    phase = GeneratorTunePhase(edited.generator, sample_codes, TinyDistance(), settings, domain == "in", 1.0)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", 2)
    callbacks: list[pl.Callback] = [seen, recorder]
    fit(phase, data, folder / "checkpoint", CPU, "test", epochs=epochs, callbacks=callbacks)
    return load_masks(folder / "masks.safetensors"), seen


def test_frames_are_spread_over_the_clip():
    assert spread([(56, i) for i in range(40, 72) if i != 56]) == [(56, i) for i in (40, 50, 61, 71)]
    assert spread([(6, 8), (6, 4)]) == [(6, 4), (6, 8)]
    assert spread([(1, 2), (4, 2), (4, 5)]) == [(1, 2), (4, 5)], "a frame of two windows has one anchor"
    assert spread([]) == []


def test_the_last_epoch_is_kept_and_nothing_is_computed_again(tmp_path):
    masks, seen = record(tmp_path)
    edited = tiny_edited()
    assert list(masks) == [i for i in edited.frame_ids.tolist() if i != edited.anchor_id]
    assert len(seen.calls) == 2 * (FRAMES - 1) / 2, "one call for every step of both epochs"
    frames, difference, geometry = seen.calls[-1]
    for at in range(len(frames)):
        (kept,) = [m for m in masks.values() if torch.allclose(m.picture, frames[at], atol=2e-3)]
        torch.testing.assert_close(kept.fused, geometry.mask_i[at], atol=1e-3, rtol=0)
        torch.testing.assert_close(kept.difference, difference[1][at], atol=1e-3, rtol=0)
        torch.testing.assert_close(kept.flow, geometry.flow_i_to_a[at])
        assert (kept.visible == 1).all(), "nothing moves"


def test_out_of_domain_has_no_perceptual_difference(tmp_path):
    masks, _ = record(tmp_path, "out")
    assert all(m.difference is None for m in masks.values())


def test_losses_without_flow_leave_no_file(tmp_path):
    masks, _ = record(tmp_path, lambda_photo=0.0, lambda_eps=0.0)
    assert masks == {} and not (tmp_path / "masks.safetensors").exists()


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_fit_that_was_killed_before_its_end_has_them_too(tmp_path, epochs):
    """The checkpoint of the last epoch is there, the artefact isn't: no step is left to do."""
    before, _ = record(tmp_path, epochs=2)
    (tmp_path / "masks.safetensors").unlink()
    after, seen = record(tmp_path, epochs=epochs)
    assert list(after) == list(before)
    same = all(torch.equal(before[i].picture, after[i].picture) for i in before)
    assert same == (epochs == 2) and bool(seen.calls) == (epochs == 3)
