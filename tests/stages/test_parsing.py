"""The face region by the segmentation network where its weights are there, by landmarks elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIZE
from tiny_family import CROP, face_clip

from tempcons.check import WeightsError
from tempcons.models.face_parsing import CLASSES, FaceParser
from tempcons.stages import align, clip, parsing, stitch
from tempcons.store.artefact import Store
from tempcons.types import Aligned
from tempcons.weights import registry
from tempcons.weights.load import load_face_parser

CPU = torch.device("cpu")
FACE = stitch.StitchConfig("feather", "face", 0.0)


class Stripes(FaceParser):
    """Sees background, cloth, hat, skin and hair beside each other."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        shown = torch.tensor([0, 16, 18, 1, 17]).repeat_interleave(pictures.shape[-1] // 5 + 1)
        classes = shown[: pictures.shape[-1]].expand(len(pictures), *pictures.shape[-2:])
        return torch.nn.functional.one_hot(classes, CLASSES).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights under the released file's names."""
    file = tmp_path_factory.mktemp("weights") / "79999_iter.pth"
    torch.manual_seed(0)
    torch.save(FaceParser().state_dict(), file)
    return file


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Where the weights would be."""
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path))
    path = registry.entry(parsing.NAME).path
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def aligned(tmp_path, store) -> Aligned:
    source, points = face_clip(tmp_path, 3)
    taken = clip.run(clip.ClipConfig(str(source)), store)
    return align.run(taken, align.AlignConfig(landmarks_path=str(points)), CROP, SIZE, store)


def test_scores_of_every_class_at_the_pictures_size() -> None:
    with torch.no_grad():
        scores = FaceParser().eval()(torch.zeros(2, 3, 64, 96))
    assert scores.shape == (2, CLASSES, 64, 96)


def test_the_names_and_sizes_are_the_released_files() -> None:
    state = FaceParser().state_dict()
    for name in (
        "cp.resnet.layer2.0.downsample.0.weight",
        "cp.arm16.conv_atten.weight",
        "cp.conv_avg.bn.running_var",
        "ffm.convblk.conv.weight",
        "conv_out32.conv_out.weight",
    ):
        assert name in state
    assert not any("fc" in name for name in state)
    assert sum(value.nbytes for value in state.values()) == 53_252_600  # of 53,289,463 bytes with the names


def test_the_face_is_what_is_not_background_cloth_or_hat() -> None:
    face = Stripes().face(torch.zeros(1, 3, 100, 100))
    assert face.shape == (1, 1, 100, 100)
    assert not face[..., :58].any() and face[..., 63:].all()


def test_without_weights_landmarks_tell_and_the_log_says_how_to_get_them(
    place, aligned, store, caplog
) -> None:
    with caplog.at_level(logging.INFO):
        assert parsing.run(aligned, CPU, store) is aligned
    assert "told by landmarks" in caplog.text and "fetch face-parsing" in caplog.text
    assert parsing.records(aligned) == []


def test_regions_are_what_the_network_sees(place, weights, aligned, store) -> None:
    place.symlink_to(weights)
    parsed = parsing.run(aligned, CPU, store)
    seen = load_face_parser(weights).face(aligned.frames.pictures())[:, 0].numpy()
    for at in range(3):
        np.testing.assert_array_equal(stitch.region_of(parsed, at, SIZE, "face"), seen[at])
    assert stitch.region_of(parsed, 0, SIZE, "crop").all()
    assert stitch.region_label(parsed, FACE) == "segmentation"
    [record] = parsing.records(parsed)
    assert record["name"] == "face-parsing" and "MIT" in record["licence"]


def test_they_are_part_of_a_key_only_where_they_are_looked_at(place, weights, aligned, store) -> None:
    place.symlink_to(weights)
    parsed = parsing.run(aligned, CPU, store)
    assert parsed.key == aligned.key  # inversions stay
    assert stitch.region_reads(parsed, FACE) == {"regions": parsed.regions_key}
    assert stitch.region_reads(parsed, stitch.StitchConfig()) == stitch.region_reads(aligned, FACE) == {}


def test_another_file_in_its_place_is_refused(place, aligned, store) -> None:
    torch.save({"w": torch.zeros(2)}, place)
    with pytest.raises(WeightsError, match="79999_iter"):
        parsing.run(aligned, CPU, store)
