"""Both phases on a tiny generator: what may change does, what may not stays to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import (
    CPU,
    SIZE,
    TinyDistance,
    ZeroFlow,
    same_state,
    sample_codes,
    state_copy,
    tiny_codes,
    tiny_edited,
    tiny_generator,
    tiny_hyper,
)
from torch import Tensor

from tempcons.models.mapper import LevelsMapper
from tempcons.models.perceptual import Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.generator_phase import GeneratorTunePhase, freeze_last_layers
from tempcons.training.hyper import Hyper, PhaseHyper
from tempcons.training.latent_phase import LatentMLPPhase
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.phase import ConsistencyPhase
from tempcons.types import Domain, Edited


class LoggedTerms(FlowMaskCallback):
    """Keeps the loss terms of the last epoch."""

    def on_train_end(self, trainer, pl_module):
        self.terms = {k.removeprefix("loss/") for k in trainer.callback_metrics if k.startswith("loss/")}


def train(phase: ConsistencyPhase, edited: Edited, folder: Path, epochs: int = 1) -> LoggedTerms:
    hyper = phase.hyper
    callback = LoggedTerms(ZeroFlow(), SIZE, edited.domain == "in", hyper.visibility, hyper.difference_scale)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, hyper.pairs, seed=0)
    fit(phase, data, folder, CPU, "test", epochs=epochs, callbacks=[callback])
    return callback


def latent_phase(edited: Edited, hyper: Hyper | None = None) -> LatentMLPPhase:
    torch.manual_seed(3)
    generator = edited.generator
    mapper = LevelsMapper(generator.style_dim, generator.n_latent, init="random")
    return LatentMLPPhase(generator, mapper, TinyDistance(), hyper or tiny_hyper(), edited.domain == "in")


def generator_phase(edited: Edited, hyper: Hyper | None = None) -> GeneratorTunePhase:
    return GeneratorTunePhase(
        edited.generator, sample_codes, TinyDistance(), hyper or tiny_hyper(), edited.domain == "in", 1.0
    )


def changed(module: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


def test_latent_phase_moves_codes_and_leaves_the_generator(tmp_path):
    edited = tiny_edited()
    phase = latent_phase(edited)
    generator, mapper, codes = state_copy(edited.generator), state_copy(phase.mapper), edited.codes.clone()
    first = phase.refined_codes(edited.codes)
    logged = train(phase, edited, tmp_path)
    assert same_state(edited.generator, generator)
    assert same_state(phase.generator, generator)
    assert torch.equal(edited.codes, codes)
    assert changed(phase.mapper, mapper)
    refined = phase.refined_codes(edited.codes)
    assert refined.shape == codes.shape
    assert (refined - first).abs().max() > 1e-4
    assert logged.terms == {"photo", "eps", "rf", "target", "sharp"}


def test_latent_phase_of_the_paper_has_its_three_terms(tmp_path):
    edited = tiny_edited()
    phase = latent_phase(edited, tiny_hyper(lambda_target=0.0, lambda_sharp=0.0))
    assert train(phase, edited, tmp_path).terms == {"photo", "eps", "rf"}


def test_latent_phase_is_pulled_to_its_target_alone(tmp_path):
    edited = tiny_edited()
    phase = latent_phase(
        edited, tiny_hyper(lambda_photo=0.0, lambda_eps=0.0, lambda_rf=0.0, lambda_sharp=0.0)
    )
    mapper = state_copy(phase.mapper)
    assert train(phase, edited, tmp_path).terms == {"rf", "target"}
    assert changed(phase.mapper, mapper)


def test_latent_phase_starts_from_the_direct_edit():
    edited = tiny_edited()
    mapper = LevelsMapper(edited.generator.style_dim, edited.generator.n_latent, init="zero")
    phase = LatentMLPPhase(edited.generator, mapper, TinyDistance(), tiny_hyper(), True)
    torch.testing.assert_close(phase.refined_codes(edited.codes), edited.codes, atol=1e-2, rtol=0)


def test_latent_phase_lowers_its_loss(tmp_path):
    edited = tiny_edited()
    phase = latent_phase(edited, tiny_hyper(lambda_rf=0.0, phase1=PhaseHyper(1.0, 8)))
    losses = []
    phase.on_train_epoch_end = lambda: losses.append(phase.trainer.callback_metrics["loss"].item())  # type: ignore[method-assign]
    train(phase, edited, tmp_path, epochs=8)
    assert losses[-1] < 0.97 * losses[0]


def test_generator_phase_changes_a_copy_and_leaves_codes(tmp_path):
    edited = tiny_edited()
    before, codes = state_copy(edited.generator), edited.codes.clone()
    phase = generator_phase(edited)
    logged = train(phase, edited, tmp_path)
    assert same_state(edited.generator, before)
    assert same_state(phase.original, before)
    assert torch.equal(edited.codes, codes)
    moved = changed(phase.generator, before)
    assert {"input.input", "conv1.conv.weight", "to_rgbs.2.conv.weight"} <= moved
    assert not any(name.startswith(("style.", "noises.")) for name in moved)
    assert logged.terms == {"photo", "eps", "r", "outside", "target", "sharp"}


def test_out_of_domain_freezes_the_last_layers_and_has_no_outside_term(tmp_path):
    edited = tiny_edited("out")
    before = state_copy(edited.generator)
    phase = generator_phase(edited, tiny_hyper(frozen_share=4 / 9))
    logged = train(phase, edited, tmp_path)
    moved = changed(phase.generator, before)
    # Seven convolutions: 4/9 of them are the last three, convs.3 to convs.5, and what they write.
    frozen = ("convs.3.", "convs.4.", "convs.5.", "to_rgbs.1.", "to_rgbs.2.")
    assert not any(name.startswith(frozen) for name in moved)
    assert {"conv1.conv.weight", "convs.2.conv.weight", "to_rgbs.0.conv.weight"} <= moved
    assert "outside" not in logged.terms
    assert {"photo", "eps", "r"} <= logged.terms


def test_in_domain_nothing_is_frozen_whatever_the_share(tmp_path):
    edited = tiny_edited()
    before = state_copy(edited.generator)
    phase = generator_phase(edited, tiny_hyper(frozen_share=1.0))
    train(phase, edited, tmp_path)
    assert "convs.5.conv.weight" in changed(phase.generator, before)


@pytest.mark.parametrize(("size", "first"), [(1024, 9), (128, 6)])
def test_the_paper_freezes_eight_of_eighteen(size, first):
    """At 1024 px the 17 convolutions with index 9 and above; at 128 px the same share of 11."""
    with torch.device("meta"):
        generator = Generator(size, 8, 1, {4 * 2**k: 4 for k in range(9)})
    assert freeze_last_layers(generator, 0.4444) == first


@pytest.mark.parametrize("domain", ["in", "out"])
def test_same_seed_same_numbers_twice(tmp_path, domain: Domain):
    results = []
    for attempt in ("first", "second"):
        edited = tiny_edited(domain)
        latent = latent_phase(edited)
        train(latent, edited, tmp_path / attempt / "1")
        tuned = generator_phase(edited)
        train(tuned, edited, tmp_path / attempt / "2")
        results.append((state_copy(latent.mapper), state_copy(tuned.generator)))
    for one, other in zip(*results, strict=True):
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_another_seed_other_sampled_codes(tmp_path):
    edited = tiny_edited()
    phases = [
        GeneratorTunePhase(edited.generator, sample_codes, TinyDistance(), tiny_hyper(), True, 1.0, seed)
        for seed in (0, 1)
    ]
    for phase, name in zip(phases, "ab", strict=True):
        train(phase, edited, tmp_path / name)
    assert changed(phases[0].generator, phases[1].generator.state_dict())


def test_terms_with_weight_zero_are_left_out(tmp_path):
    edited = tiny_edited()
    off = tiny_hyper(lambda_r=0.0, lambda_m=0.0, lambda_target=0.0, lambda_sharp=0.0)
    logged = train(generator_phase(edited, off), edited, tmp_path)
    assert logged.terms == {"photo", "eps"}


def test_a_step_without_any_term_is_a_step_like_others(tmp_path):
    edited = tiny_edited("out")
    off = {"lambda_photo": 0.0, "lambda_eps": 0.0, "lambda_target": 0.0, "lambda_sharp": 0.0}
    phase = generator_phase(edited, tiny_hyper(lambda_r=1.0, regularise_every=3, **off))
    before = state_copy(phase.generator)
    logged = train(phase, edited, tmp_path)
    assert logged.terms == {"r"}
    # The regularisation alone holds the generator where it is.
    assert not changed(phase.generator, before)


def test_regulariser_every_other_step_weighs_double():
    edited = tiny_edited()
    phase = generator_phase(edited, tiny_hyper(regularise_every=2))
    codes = tiny_codes(edited.generator, 2)
    torch.manual_seed(1)
    phase.generator.conv1.conv.weight.data.mul_(1.5)
    assert phase.local_regularisation(codes).item() > 0


def test_masks_carry_no_gradient_unless_asked_for():
    edited = tiny_edited()
    pictures = edited.frames.pictures([0, 1]).requires_grad_(True)
    distance = (pictures * 0.1).square().mean(1, keepdim=True)
    for detach in (True, False):
        callback = FlowMaskCallback(ZeroFlow(), SIZE, True, detach=detach)
        mask = callback.difference_mask(distance)
        pair = callback.pair(pictures[:1], pictures[1:], (mask[:1], mask[1:]))
        assert mask.requires_grad is not detach
        assert pair.mask_a.requires_grad is not detach
        assert (pair.mask_a >= 0).all() and (pair.mask_a <= 1).all()


def test_flow_is_computed_at_its_own_size_by_area_averaging():
    callback = FlowMaskCallback(ZeroFlow(), SIZE // 2, True)
    pictures = torch.rand(2, 3, SIZE, SIZE)
    small = callback.at_flow_size(pictures)
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(pictures, 2))
    assert FlowMaskCallback(ZeroFlow(), SIZE, True).at_flow_size(pictures) is pictures


def test_a_flow_grid_smaller_than_the_pictures_trains(tmp_path):
    edited = tiny_edited()
    phase = generator_phase(edited)
    callback = FlowMaskCallback(ZeroFlow(), SIZE // 2, True)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames)
    before = state_copy(phase.generator)
    fit(phase, data, tmp_path, CPU, "test", epochs=1, callbacks=[callback])
    assert changed(phase.generator, before)


def test_the_embedded_distance_trains_too(tmp_path):
    """EfficientNet-lite0 (random weights) in the place of the tiny distance."""
    edited = tiny_edited()
    generator = tiny_generator()
    mapper = LevelsMapper(generator.style_dim, generator.n_latent, init="random")
    phase = LatentMLPPhase(generator, mapper, Lite0Distance(random=True), tiny_hyper(), True)
    network = state_copy(phase.perceptual_distance)
    before = state_copy(mapper)
    train(phase, edited, tmp_path)
    assert changed(mapper, before)
    assert same_state(phase.perceptual_distance, network)
