"""GAN, encoder and classifier: two steps each, going on, and the parts they are made of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from experiments.zoo import networks as networks_of_the_zoo
from experiments.zoo import train_gan
from experiments.zoo.adversarial import combined_pull, r1_penalty
from experiments.zoo.augment import adapted, augment, gray, hue_rotation, input_changes
from experiments.zoo.blur import blurred
from experiments.zoo.faces import Faces, to_range
from experiments.zoo.frechet import Gaussian, frechet_distance
from experiments.zoo.ladders import LADDERS, distorted, ladder_order
from experiments.zoo.networks import encode_all, load_parts, read_encoder, read_generator, save_parts
from experiments.zoo.rebase import (
    centred_on,
    load_basis,
    principal_basis,
    rebase_encoder,
    rebase_generator,
    save_basis,
)
from experiments.zoo.reconstruction import delta_penalty, reconstruction_figures
from experiments.zoo.running import REPORTS, run
from experiments.zoo.train_classifier import (
    ClassifierTraining,
    EmotionNetwork,
    flip_rate,
    read_classifier,
)
from experiments.zoo.train_encoder import EncoderSettings, EncoderTraining
from experiments.zoo.train_gan import GanSettings, GanTraining, path_lengths
from experiments.zoo.train_refiner import RefinerSettings, RefinerTraining, new_refiner
from tempcons.models.discriminator import Discriminator
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import Generator

CHANNELS = {4: 8, 8: 8, 16: 4, 32: 4}
SETTINGS = GanSettings(
    batch=8, judged_pictures=8, test_pictures=4, path_length=1.0, alone=0.0, perceptual=0.0
)


def networks(n_mlp: int = 2, size: int = 16) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    generator = Generator(size, 16, n_mlp, CHANNELS)
    for noise in generator.const_noises():
        noise.zero_()
    return generator, Discriminator(size, CHANNELS)


def codes_of(generator: Generator, count: int) -> torch.Tensor:
    return torch.randn(count, generator.n_latent, 16, generator=torch.Generator().manual_seed(1))


def enlarged(found: Faces) -> Faces:
    """The same faces at 32 px, which is the least that an encoder reads."""
    return replace(found, pictures=found.pictures.repeat_interleave(2, 2).repeat_interleave(2, 3))


def gan(few_faces, **settings) -> GanTraining:
    generator, judge = networks(size=32)
    encoder = FaceEncoder(generator.n_latent, 16, head_channels=2)
    return GanTraining(enlarged(few_faces), generator, encoder, judge, replace(SETTINGS, **settings))


class Colours(torch.nn.Module):
    """Stands for the perceptual network, which needs larger pictures."""

    def _taps(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
        return (pictures,)


@pytest.fixture
def plain_features(monkeypatch):
    """Features that need no weights."""
    monkeypatch.setattr(train_gan, "Lite0Distance", Colours)


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_the_gan_takes_two_steps_and_goes_on(few_faces, two_steps, plain_features, monkeypatch, share):
    for expected in (2, 4):
        module = gan(few_faces, code_share=share)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        run(module, two_steps, {})
        assert int(module.taken) == expected
        changed = {k.split(".")[0] for k, v in module.state_dict().items() if not torch.equal(before[k], v)}
        assert {"generator", "discriminator", "average"} <= changed
        assert ({"encoder", "average_encoder"} <= changed) == bool(share)
    rows = [json.loads(line) for line in (two_steps.out / REPORTS).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4] and np.isfinite(rows[-1]["frechet/gray"])
    kept = read_generator(two_steps.out / "generator.safetensors")
    wanted = module.average.synthesis(codes_of(kept, 2), "none")
    assert (kept.synthesis(codes_of(kept, 2), "none") - wanted).abs().max() < 0.05
    parts = load_parts(two_steps.out / "parts")
    assert parts["taken"] == 4 and any(k.startswith("discriminator.") for k in parts)
    assert (two_steps.out / "samples.png").exists()
    if share:
        monkeypatch.setattr(networks_of_the_zoo, "new_discriminator", lambda size: networks(size=size)[1])
        start, counters = train_gan.start_from_lost(two_steps.out, two_steps.out / "not_read")
        assert counters["taken"] == 4 and start.generator.config == module.average.config
        judge = start.discriminator.state_dict()["b4.out.weight"]
        now = module.discriminator.state_dict()["b4.out.weight"]
        torch.testing.assert_close(judge, now, atol=1e-3, rtol=1e-3)
    assert ("psnr_db" in rows[-1]) == (two_steps.out / "encoder.safetensors").exists() == bool(share)


def test_only_the_discriminator_learns_at_first(few_faces, two_steps, plain_features):
    module = gan(few_faces, alone=0.5)
    learns_later = torch.nn.ModuleList([module.generator, module.encoder])
    before = {k: v.clone() for k, v in learns_later.state_dict().items()}
    run(module, two_steps, {})
    assert all(torch.equal(before[k], v) for k, v in learns_later.state_dict().items())


def test_colour_is_judged_against_coloured_faces_only(few_faces):
    module = gan(few_faces)
    n = module.in_colour
    assert n == 2
    training_colour = few_faces.colour[~few_faces.held]
    chosen = module.indices(torch.Generator().manual_seed(0))
    assert training_colour[chosen[:n].numpy()].all()
    pictures = torch.rand(8, 3, 32, 32) * 2 - 1
    seen = module.judged(pictures, torch.Generator().manual_seed(0))
    assert torch.equal(seen[:n], pictures[:n])
    assert torch.allclose(seen[n:, 0], seen[n:, 2])


def test_half_of_the_pictures_should_show_faces(few_faces):
    module = gan(few_faces)
    drawn = module.draw(torch.Generator().manual_seed(0))
    assert drawn.known.tolist() == [1, 3, 5, 7] and len(drawn.faces) == 4
    again = module.generator.synthesis(module.encoder(drawn.faces), "none")
    torch.testing.assert_close(drawn.pictures[drawn.known], again, atol=1e-4, rtol=1e-4)


def test_the_discriminator_pulls_with_a_share_of_the_faces_force():
    random = torch.Generator().manual_seed(0)
    start = torch.randn(6, 3, 4, 4, generator=random)
    known = torch.tensor([1, 4])
    for scale in (1.0, 1e-3):
        pictures = start.clone().requires_grad_()
        drawn = pictures * 1.0
        difference = (drawn[known] - 2).square().sum() * 7
        fooled = scale * (drawn**3).sum()
        combined_pull(drawn, difference, fooled, 0.4, known).backward()
        assert pictures.grad is not None
        [to_faces] = torch.autograd.grad(difference, drawn, retain_graph=True)
        pull = pictures.grad - to_faces
        assert (pull[known].norm() / to_faces[known].norm()).item() == pytest.approx(0.4, rel=1e-4)
        # The direction is the discriminator's everywhere, however weak its loss is.
        wanted = 3 * start.square()
        torch.testing.assert_close(pull / pull.norm(), wanted / wanted.norm(), atol=1e-5, rtol=1e-4)


def test_faces_that_are_not_moved_stay_sharp():
    pictures = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    untinted = torch.zeros(64, dtype=torch.bool)
    changed = input_changes(pictures, untinted, torch.Generator().manual_seed(0), 1e-6, moved_share=0.0)
    error = [(changed - kind).abs().amax(dim=(1, 2, 3)) for kind in (pictures, pictures.flip(3))]
    assert torch.minimum(*error).max() < 1e-3 and 0.2 < (error[0] < 1e-3).float().mean() < 0.8


def test_rebasing_keeps_the_pictures_and_gives_codes_unit_variance():
    generator, _ = networks(n_mlp=0)
    mixing = torch.randn(16, generator.n_latent * 16, generator=torch.Generator().manual_seed(2))
    latent = torch.randn(400, 16, generator=torch.Generator().manual_seed(3))
    codes = (latent @ mixing).view(400, generator.n_latent, 16) + 2
    basis = principal_basis(codes, 16)
    rebased = rebase_generator(generator, basis, networks(n_mlp=2)[0])
    new = basis.to_w(codes)
    assert (
        torch.allclose(generator.synthesis(codes[:4]), rebased.synthesis(new[:4]), atol=1e-3)
        and rebased.n_mlp == 2
    )
    # The codes have 16 directions in all, so one vector w drives all rows.
    assert (new - new.mean(1, keepdim=True)).abs().max() < 1e-2
    assert torch.allclose(new.mean(1).var(0), torch.ones(16), atol=1e-2)


def test_mapped_noise_draws_what_codes_draw():
    latent = torch.randn(500, 16, generator=torch.Generator().manual_seed(3))
    codes = (latent @ torch.randn(16, 96, generator=torch.Generator().manual_seed(2))).view(500, 6, 16) + 2
    generator, _ = networks(n_mlp=2)
    with torch.no_grad():
        mapped = generator.style(torch.randn(4000, 16, generator=torch.Generator().manual_seed(4)))
    basis = centred_on(principal_basis(codes, 16), mapped)
    drawn = basis.mean + torch.einsum("lkd,nd->nlk", basis.directions, mapped)
    assert torch.allclose(drawn.mean(0), codes.mean(0), atol=1e-3)
    assert 0.7 < (drawn - drawn.mean(0)).norm() / (codes - codes.mean(0)).norm() / (4000 / 500) ** 0.5 < 1.4


def test_the_encoder_goes_along(tmp_path):
    torch.manual_seed(0)
    encoder = FaceEncoder(6, 16, head_channels=4)
    encoder.latent_avg.normal_()
    pictures = (torch.rand(300, 3, 32, 32) * 255).byte()
    codes = encode_all(encoder, pictures).float()
    basis = principal_basis(codes, 16)
    save_basis(basis, tmp_path / "basis.safetensors")
    rebased = rebase_encoder(encoder, load_basis(tmp_path / "basis.safetensors"))
    # Codes come in half precision, the encoder does not.
    exact = encoder(to_range(pictures[:8]))
    assert torch.allclose(rebased(to_range(pictures[:8])), basis.to_w(exact), atol=1e-2)


def test_no_augmentation_changes_nothing_and_all_of_it_lets_gradients_through():
    pictures = (torch.rand(6, 3, 16, 16) * 2 - 1).requires_grad_()
    assert augment(pictures, 0.0, torch.Generator()) is pictures
    changed = augment(pictures, 1.0, torch.Generator().manual_seed(0))
    assert changed.shape == pictures.shape and (changed - pictures).abs().mean() > 0.1
    changed.sum().backward()
    assert pictures.grad is not None and (pictures.grad != 0).float().mean() > 0.5


def test_turning_the_hue_keeps_gray():
    turned = hue_rotation(torch.tensor([0.0, 1.0]))
    assert torch.allclose(turned[0], torch.eye(3), atol=1e-6)
    assert torch.allclose(turned[1] @ torch.ones(3), torch.ones(3), atol=1e-6)


def test_augmentation_follows_how_sure_the_discriminator_is():
    assert adapted(0.5, 0.9, 1000, 0.6, 100_000) == pytest.approx(0.51)
    assert adapted(0.0, 0.1, 1000, 0.6, 100_000) == 0.0 and adapted(1.0, 0.9, 1000, 0.6, 100_000) == 1.0


def test_only_gray_pictures_are_tinted():
    pictures = gray(torch.rand(64, 3, 16, 16) - 0.5)
    tintable = torch.arange(64) % 2 == 0
    changed = input_changes(pictures, tintable, torch.Generator().manual_seed(0))
    spread = (changed.amax(1) - changed.amin(1)).amax(dim=(1, 2))
    assert spread[1::2].max() < 1e-5 and 0.2 < (spread[::2] > 0.01).float().mean() < 0.8


def test_the_penalties():
    _, judge = networks()
    real = torch.rand(4, 3, 16, 16)
    assert r1_penalty(judge, real) > 0 and r1_penalty(judge, real).requires_grad
    codes = torch.randn(2, 5, 3, requires_grad=True)
    weight = torch.randn(5, 3)
    lengths = path_lengths(
        (codes * weight).sum((1, 2)).view(2, 1, 1, 1).expand(-1, 3, 4, 4),
        codes,
        torch.Generator().manual_seed(0),
    )
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).sum((1, 2, 3)) / 4
    assert torch.allclose(lengths, noise.abs() * weight.square().sum(1).mean().sqrt(), rtol=1e-4)
    assert delta_penalty(torch.ones(2, 5, 3)) == 0 and delta_penalty(codes.detach()) > 0


@pytest.mark.parametrize("pull", [0.0, 0.4])
def test_the_encoder_takes_two_steps_and_goes_on(few_faces, two_steps, pull):
    found = enlarged(few_faces)
    settings = EncoderSettings(batch=4, perceptual=0.0, pull=pull, test_pictures=8)
    for expected in (2, 4):
        generator, judge = networks(size=32)
        encoder = FaceEncoder(generator.n_latent, 16, head_channels=2)
        module = EncoderTraining(found, generator, encoder, settings, judge if pull else None)
        fixed = {k: v.clone() for k, v in generator.state_dict().items()}
        judged = {k: v.clone() for k, v in judge.state_dict().items()}
        run(module, two_steps, {})
        assert int(module.taken) == expected
        assert pull == 0 or not torch.equal(judged["b4.out.weight"], judge.state_dict()["b4.out.weight"])
        assert all(torch.equal(fixed[k], v) for k, v in generator.state_dict().items())
    last = json.loads((two_steps.out / REPORTS).read_text().splitlines()[-1])
    assert last["psnr_db"] > 0 and last["sharpness_share_median"] > 0
    assert (two_steps.out / "encoder.safetensors").exists()


@pytest.mark.parametrize("pull", [0.0, 0.4])
def test_the_refiner_takes_two_steps_and_goes_on(few_faces, two_steps, pull):
    found = enlarged(few_faces)
    settings = RefinerSettings(batch=4, test_pictures=8, pull=pull)
    generator, judge = networks(size=32)
    encoder = FaceEncoder(generator.n_latent, 16, head_channels=2)
    fixed = {k: v.clone() for part in (generator, encoder) for k, v in part.state_dict().items()}
    for expected in (2, 4):
        refiner = new_refiner(encoder)
        own, given = refiner.blocks.state_dict(), encoder.blocks.state_dict()
        assert all(torch.equal(own[name], value) for name, value in given.items())
        started = refiner.head.weight.detach().clone()
        module = RefinerTraining(found, generator, encoder, refiner, settings, judge if pull else None)
        run(module, two_steps, {})
        assert int(module.taken) == expected
        assert not torch.equal(started, refiner.head.weight)
    after = {k: v for part in (generator, encoder) for k, v in part.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in fixed.items())
    last = json.loads((two_steps.out / REPORTS).read_text().splitlines()[-1])
    assert {f"psnr_db_{passes}" for passes in (1, 2, 3)} <= set(last)
    kept = read_encoder(two_steps.out / "refiner.safetensors", "refiner")
    matrix = kept.head.weight @ kept.state_dict()["to_rank.weight"]
    torch.testing.assert_close(matrix, module.average.head.weight, atol=1e-3, rtol=1e-3)


def test_a_smaller_head_is_the_nearest_of_its_rank():
    torch.manual_seed(0)
    encoder = FaceEncoder(6, 16, head_channels=4)
    encoder.latent_avg.normal_()
    pictures = torch.rand(3, 3, 32, 32)
    whole = encoder.with_head_of(1000)
    assert whole.head_rank == 64  # 4 channels at 16 places
    torch.testing.assert_close(whole(pictures), encoder(pictures), atol=1e-5, rtol=1e-4)
    small = encoder.with_head_of(5)
    assert small.config["head_rank"] == 5
    left_out = small.head.weight @ small.state_dict()["to_rank.weight"] - encoder.head.weight
    missing = torch.linalg.svdvals(encoder.head.weight)[5:]
    torch.testing.assert_close(left_out.square().sum(), missing.square().sum())
    torch.testing.assert_close(small.with_head_of(5)(pictures), small(pictures), atol=1e-5, rtol=1e-4)


def test_what_the_refiner_learns_brings_codes_nearer(few_faces, two_steps):
    found = enlarged(few_faces)
    generator, _ = networks(size=32)
    encoder = FaceEncoder(generator.n_latent, 16, head_channels=2)
    # The rate rises slowly, and this is the very beginning.
    settings = RefinerSettings(batch=8, rate=1e-2, test_pictures=8)
    module = RefinerTraining(found, generator, encoder, new_refiner(encoder), settings)

    def psnr(whole: torch.nn.Module) -> float:
        return reconstruction_figures(whole, generator, found.testing, None)["psnr_db"]

    run(module, replace(two_steps, steps=30), {})
    found_db = psnr(module.refining(2)), psnr(encoder)
    assert found_db[0] > found_db[1] + 1.0, found_db


def test_the_classifier_takes_two_steps_and_judges_flips(few_faces, two_steps):
    for expected in (2, 4):
        module = ClassifierTraining(few_faces, 8, 1e-3, EmotionNetwork(4, depth=2, size=16))
        run(module, two_steps, {})
        assert int(module.taken) == expected
    last = json.loads((two_steps.out / REPORTS).read_text().splitlines()[-1])
    assert 0 <= last["balanced_accuracy"] <= 1
    network = read_classifier(two_steps.out / "classifier.safetensors")
    with torch.no_grad():
        list(network.parameters())[-1].copy_(torch.tensor([1e3, 0, 0, 0]))
    before = torch.zeros(4, 3, 16, 16)
    assert flip_rate(network, before, before, "happiness") == {"flip_rate": 0.0, "judged": 4}
    assert flip_rate(network, before, before, "neutral")["judged"] == 0


def test_the_distance_of_two_gaussians():
    one = Gaussian(np.zeros(2), np.eye(2), 10)
    other = Gaussian(np.array([3.0, 4.0]), 4 * np.eye(2), 10)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-3)
    assert frechet_distance(one, other) == pytest.approx(25 + 2, abs=1e-3)


def test_every_ladder_rises_for_the_squared_difference():
    pictures = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), (64, 64), mode="bilinear") - 0.5
    order = ladder_order(lambda x, y: (x - y).square().mean(dim=(1, 2, 3)), pictures)
    assert set(order) == set(LADDERS) and all(share == 1 for share in order.values())
    assert torch.equal(distorted(pictures, "shift", 1)[..., 1:], pictures[..., :-1])


def test_the_blur_is_torchvisions_with_either_border():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = gaussian_blur(pictures, [15, 15], [2.0, 2.0])
    torch.testing.assert_close(distorted(pictures, "blur", 2.0), expected, atol=1e-5, rtol=0)
    repeated = gaussian_blur(
        torch.nn.functional.pad(pictures, [12] * 4, mode="replicate"), [13, 13], [2.0, 2.0]
    )
    torch.testing.assert_close(blurred(pictures, 2.0), repeated[..., 12:-12, 12:-12], atol=1e-5, rtol=0)


def test_parts_are_small_and_whole(tmp_path):
    tensors = {f"w{k}": torch.randn(10, 10) for k in range(7)} | {"count": torch.tensor(3)}
    written = save_parts(tensors, tmp_path, part_bytes=450)
    assert len(written) == 4
    found = load_parts(tmp_path)
    assert found.keys() == tensors.keys() and found["count"] == 3
    assert torch.allclose(found["w6"], tensors["w6"], atol=1e-2)
