"""Codes optimised one by one: every frame's moves by itself, nothing else does, and the losses fall."""

from __future__ import annotations

import pytest
import torch
from tiny import CPU, SIZE, TinyDistance, ZeroFlow, same_state, state_copy, tiny_edited, tiny_hyper

from tempcons.training.explicit_phase import ExplicitCodePhase
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.types import Edited


def explicit_phase(edited: Edited, lr: float = 0.02) -> ExplicitCodePhase:
    hyper, in_domain = tiny_hyper(lambda_rf=0.0), edited.domain == "in"
    return ExplicitCodePhase(
        edited.generator, edited.frame_ids.tolist(), TinyDistance(), hyper, in_domain, lr
    )


def train(phase: ExplicitCodePhase, edited: Edited, folder, epochs: int, **how) -> list[float]:
    losses: list[float] = []
    phase.on_train_epoch_end = lambda: losses.append(phase.trainer.callback_metrics["loss"].item())  # type: ignore[method-assign]
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", seed=0)
    callback = FlowMaskCallback(ZeroFlow(), SIZE, edited.domain == "in")
    fit(phase, data, folder, CPU, "test", epochs=epochs, callbacks=[callback], **how)
    return losses


def test_it_starts_from_the_direct_edit_and_lowers_the_losses(tmp_path):
    edited = tiny_edited()
    phase = explicit_phase(edited)
    assert torch.equal(phase.refined_codes(edited.codes), edited.codes)
    losses = train(phase, edited, tmp_path, epochs=6)
    assert losses[-1] < 0.9 * losses[0]


def test_only_the_codes_of_frames_that_are_seen_move(tmp_path):
    edited = tiny_edited()
    phase, before = explicit_phase(edited), state_copy(edited.generator)
    train(phase, edited, tmp_path, epochs=1, steps=1)
    moved = (phase.residual != 0).flatten(1).any(dim=1)
    anchor = edited.frame_ids.tolist().index(edited.anchor_id)
    assert moved.sum() == 2 and moved[anchor]  # one pair: no frame learns from another
    assert same_state(phase.generator, before)


def test_a_stopped_run_goes_on(tmp_path):
    edited = tiny_edited()
    whole, half = explicit_phase(edited), explicit_phase(edited)
    train(whole, edited, tmp_path / "whole", epochs=2)
    train(half, edited, tmp_path / "half", epochs=1)
    again = explicit_phase(edited)
    train(again, edited, tmp_path / "half", epochs=2)
    torch.testing.assert_close(again.residual, whole.residual)


@pytest.mark.parametrize("domain", ["in", "out"])
def test_the_terms_are_those_of_phase_1(tmp_path, domain):
    edited = tiny_edited(domain)
    phase = explicit_phase(edited)
    train(phase, edited, tmp_path, epochs=1)
    found = {name for name in phase.trainer.callback_metrics if name.startswith("loss/")}
    assert found == {"loss/photo", "loss/eps", "loss/rf"}
