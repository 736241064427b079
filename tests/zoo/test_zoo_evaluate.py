"""The figures of a family: from its files and faces to one page of numbers and pictures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from tiny import CHANNELS, SIZE, STYLE_DIM, TinyDistance
from tiny_assets import write_assets

from experiments.zoo import evaluate_family
from experiments.zoo.evaluate_family import drawing_of, frechet_figures
from experiments.zoo.faces import to_range
from experiments.zoo.frechet import NAME
from experiments.zoo.train_classifier import EMOTIONS, EmotionNetwork
from tempcons.check import InputError
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import read_asset, save_asset


def told(monkeypatch, face_folder, labels, out, *more: str) -> None:
    """What the script reads as its command line."""
    call = ["script", f"--faces={face_folder}/pictures", f"--labels={labels}", f"--out={out}", "--threads=1"]
    monkeypatch.setattr(sys, "argv", [*call, *more])


def counted(drawn, training, *_) -> dict[str, int]:
    """How many pictures there are of each kind, in place of their distances."""
    return {n: sum(map(len, batches)) for n, batches in drawn.items()} | {"training": len(training)}


@pytest.fixture
def family(tmp_path, monkeypatch) -> list[str]:
    """Options that name tiny networks and a classifier."""
    assets = write_assets(tmp_path / "assets")
    save_asset(
        assets / "classifier.safetensors",
        EmotionNetwork(4).state_dict(),
        "classifier",
        {"classifier": {"width": 4}},
    )
    monkeypatch.setattr(evaluate_family, "Lite0Distance", TinyDistance)
    monkeypatch.setattr(evaluate_family, "frechet_figures", counted)
    parts = ("generator", "encoder", "refiner", "sampler", "classifier")
    files = [f"--{part}={assets}/{part}.safetensors" for part in parts]
    return [*files, f"--directions={assets}"]


def test_every_figure_is_there(face_folder, family, tmp_path, monkeypatch):
    frames = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3), np.uint8)
    np.save(tmp_path / "aligned.npy", frames)
    np.save(tmp_path / "inverted.npy", frames // 2)
    text = (face_folder / "labels.csv").read_text()
    for emotion in EMOTIONS:
        text = text.replace(f",{emotion}", ",neutral")
    (tmp_path / "labels.csv").write_text(text)
    clip = ["--clip", f"{tmp_path}/aligned.npy", f"{tmp_path}/inverted.npy"]
    told(
        monkeypatch,
        face_folder,
        tmp_path / "labels.csv",
        tmp_path / "out",
        *family,
        "--pictures=1",
        "--drawn=6",
        *clip,
    )
    evaluate_family.main()
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["held_out_pictures"] == 1
    assert figures[NAME]["from_noise"] == 6
    assert 0 < figures[NAME]["reconstructed"] == figures[NAME]["training"] <= 6
    assert set(figures["reconstruction"]) >= {"psnr_db", "sharpness_share_median", "distance"}
    assert set(figures["flips"]) == {"happy", "surprised", "angry"}
    # Half as bright: 10 log10 of 4 over the mean square of the brightness.
    error = np.square(np.float64(frames - frames // 2) / 255).mean(axis=(1, 2, 3))
    assert figures["clip"]["psnr_db"] == pytest.approx(float((-10 * np.log10(error)).mean()), abs=1e-3)
    assert figures["clip"]["sharpness_share_median"] == pytest.approx(0.25, abs=0.01)
    pictures = {"reconstructions.jpg", "samples.jpg", "truncation.jpg"}
    assert {p.name for p in (tmp_path / "out").glob("*.jpg")} == pictures


def test_flips_need_a_neutral_face(face_folder, family, tmp_path, monkeypatch):
    text = (face_folder / "labels.csv").read_text().replace(",neutral", ",anger")
    (tmp_path / "labels.csv").write_text(text)
    told(monkeypatch, face_folder, tmp_path / "labels.csv", tmp_path / "out", *family)
    with pytest.raises(InputError, match="neutral"):
        evaluate_family.main()


@torch.no_grad()
def test_a_generator_without_mapping_network_draws_from_the_code_sampler(tmp_path):
    generator = Generator(SIZE, STYLE_DIM, n_mlp=0, channels=CHANNELS).eval()
    sampler = write_assets(tmp_path) / "sampler.safetensors"
    assert drawing_of(generator, None) is None
    drawing = drawing_of(generator, sampler)
    assert drawing is not None
    means, halves, wholes = (torch.cat(list(drawing(40, share))) for share in (0.0, 0.5, 1.0))
    code = read_asset(sampler, "sampler").tensors["mean"]
    mean = generator.synthesis(code[None], "none").clamp(-1, 1)
    torch.testing.assert_close(means, mean.expand(40, -1, -1, -1))
    assert wholes.abs().max() <= 1
    assert 0 < (halves - mean).abs().mean() < (wholes - mean).abs().mean()


class MeanColour:
    """Features: the picture itself, whose mean over positions is taken."""

    def _taps(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        return [pictures]


def test_pictures_like_the_faces_are_near_them_and_others_far():
    random = torch.Generator().manual_seed(0)
    training, testing = torch.randint(0, 256, (2, 6, 3, 8, 8), generator=random, dtype=torch.uint8)
    drawn = {"alike": [to_range(training)], "dark": [torch.full((6, 3, 8, 8), -1.0)]}
    batches = {name: iter(pictures) for name, pictures in drawn.items()}
    found = frechet_figures(batches, training, testing, MeanColour())  # type: ignore[arg-type]
    assert found["alike"]["training"] == pytest.approx(0, abs=2e-3)
    assert found["alike"]["held_out"] == pytest.approx(found["floor"], abs=2e-3)
    assert found["dark"]["training"] > found["floor"] + 1
