"""Codes of a clip: a refining encoder's corrections are smoothed over time, scene by scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from composed import parsed
from scipy.ndimage import gaussian_filter1d
from small_family import small_clip, small_family
from tiny import SIZE, STYLE_DIM, tiny_generator
from tiny_assets import write_assets
from torch import Tensor, nn

from tempcons.check import ConfigError
from tempcons.family import Family, load_family
from tempcons.media.frames import FrameStore
from tempcons.models.face_encoder import FaceEncoder, RefiningEncoder
from tempcons.stages.invert import InversionConfig, encode, run
from tempcons.store.artefact import Store
from tempcons.training.settings import PivotalConfig, TrainerConfig
from tempcons.types import Aligned
from tempcons.weights import assets

# Of the five frames; the third begins another scene.
BRIGHTNESS, CUT = (10, 90, 240, 30, 160), 2


class ByBrightness(nn.Module):
    """Codes that are a picture's mean value everywhere."""

    def forward(self, pictures: Tensor) -> Tensor:
        rows = tiny_generator().n_latent
        return pictures.mean((1, 2, 3)).view(-1, 1, 1).expand(-1, rows, STYLE_DIM)


def refining(passes: int = 2) -> RefiningEncoder:
    torch.manual_seed(0)
    generator = tiny_generator()
    refiner = FaceEncoder(generator.n_latent, STYLE_DIM, head_channels=2, channels=6)
    return RefiningEncoder(ByBrightness(), refiner, generator, passes).eval()


def clip(encoder: nn.Module | None) -> tuple[Family, Aligned]:
    family = replace(small_family(), encoder=encoder)
    aligned = small_clip(family)[1]
    frames = np.tile(np.array(BRIGHTNESS, np.uint8)[:, None, None, None], (1, SIZE, SIZE, 3))
    return family, replace(aligned, frames=FrameStore(frames), cuts=(CUT,))


@torch.no_grad()
def test_every_pass_looks_at_what_the_codes_draw_by_now():
    encoder, pictures = refining(2), torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    first = encoder.encoder(pictures)
    once = first + encoder.change(pictures, first)
    torch.testing.assert_close(encoder(pictures), once + encoder.change(pictures, once))
    drawn = encoder.generator.synthesis(first, "none")
    expected = encoder.refiner(torch.cat([pictures, 4 * (pictures - drawn)], 1))
    torch.testing.assert_close(encoder.change(pictures, first), expected)


def test_a_refining_encoder_passes_at_least_once():
    with pytest.raises(ValueError, match="0 passes"):
        refining(0)


def test_without_smoothing_codes_are_those_of_each_frame():
    encoder = refining()
    family, aligned = clip(encoder)
    with torch.no_grad():
        expected = encoder(aligned.frames.pictures(slice(None)))
    torch.testing.assert_close(encode(family, aligned, 0.0, batch=2), expected)


@torch.no_grad()
def test_corrections_are_smoothed_within_scenes_and_first_codes_are_not():
    encoder = refining()
    family, aligned = clip(encoder)
    first, correction = encoder.corrected(aligned.frames.pictures(slice(None)))
    scenes = correction.double().split([CUT, len(BRIGHTNESS) - CUT])
    smooth = [gaussian_filter1d(scene.numpy(), 1.5, axis=0, mode="nearest") for scene in scenes]
    expected = first + torch.from_numpy(np.concatenate(smooth)).float()
    found = encode(family, aligned, 1.5, batch=2)
    torch.testing.assert_close(found, expected)
    assert (found - first - correction).abs().max() > 1e-3


def test_tuning_starts_from_the_corrected_codes(tmp_path):
    family, aligned = clip(refining())
    store = Store(tmp_path / "cache")
    pivotal = PivotalConfig(steps=2, batch=2)
    found = [
        run(aligned, family, config, TrainerConfig("cpu"), store, 0)
        for config in (
            InversionConfig("refined"),
            InversionConfig("pti", "refined", pivotal=pivotal),
            InversionConfig("refined", correction_smoothing=0.0),
        )
    ]
    assert torch.equal(found[0].codes, found[1].codes)
    assert not torch.equal(found[0].codes, found[2].codes)
    now, before = found[1].generator.state_dict(), found[0].generator.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in now.items())
    assert len({latents.key for latents in found}) == 3


def test_other_encoders_have_nothing_to_smooth():
    family, aligned = clip(ByBrightness())
    assert torch.equal(encode(family, aligned, 1.0), encode(family, aligned, 0.0))


@pytest.mark.parametrize("told", ["inversion=refined", "inversion.pivot=refined"])
def test_corrected_codes_are_asked_for_on_the_command_line(told):
    config = parsed(told, "inversion.correction_smoothing=0.5").inversion
    assert (config.encoder, config.correction_smoothing) == ("refined", 0.5)
    assert parsed().inversion.encoder is None


@pytest.mark.parametrize("how", [{"name": "refined"}, {"name": "pti", "pivot": "refined"}])
def test_the_key_of_corrected_codes_holds_how_they_are_smoothed(how):
    config = InversionConfig(**how)
    assert config.encoder == "refined"
    assert config.depends() != replace(config, correction_smoothing=2.0).depends()
    plain = InversionConfig()
    assert plain.encoder is None
    assert plain.depends() == replace(plain, correction_smoothing=2.0).depends()


def test_the_key_of_corrected_codes_holds_the_refiner_and_its_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "ASSETS", write_assets(tmp_path / "assets"))
    write_assets(tmp_path / "others", seed=1)

    def networks(*overrides: str, encoder: str | None = "refined") -> dict:
        return load_family(parsed(*overrides).family, torch.device("cpu"), encoder).depends["networks"]

    told = [networks(), networks("family.refiner_passes=2"), networks(encoder=None)]
    (tmp_path / "assets" / "refiner.safetensors").write_bytes(
        (tmp_path / "others" / "refiner.safetensors").read_bytes()
    )
    told.append(networks())
    assert len({str(each) for each in told}) == len(told)
    assert told[2] == networks("family.refiner_passes=2", encoder=None)
    with pytest.raises(ConfigError, match=r"family\.refiner is not set"):
        networks("family.refiner=null")


def test_no_encoder_and_a_negative_width_are_refused():
    family, aligned = clip(None)
    with pytest.raises(ConfigError, match="without an encoder"):
        encode(family, aligned, 1.0)
    with pytest.raises(ConfigError, match=r"inversion\.correction_smoothing = -1"):
        InversionConfig(correction_smoothing=-1.0)


def test_longer_clips_are_tuned_for_more_steps():
    config = InversionConfig(growth=0.5, pivotal=PivotalConfig(steps=300))
    assert [config.tuning(frames).steps for frames in (2, 32, 128)] == [300, 300, 600]
    assert replace(config, growth=0.0).tuning(128) == config.pivotal
    assert replace(config, growth=1.0).tuning(48).steps == 450
    assert replace(config, passes=8).tuning(128).steps == 8 * 128 / config.pivotal.batch
    keys = [replace(config, growth=growth).depends() for growth in (0.0, 0.5, 1.0)]
    assert keys[0] != keys[1] != keys[2]
    with pytest.raises(ConfigError, match=r"inversion\.growth"):
        InversionConfig(growth=-1.0)
