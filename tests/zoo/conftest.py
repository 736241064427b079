"""Faces for the training scripts: a few random pictures with labels, four persons of eight held out."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from experiments.zoo import faces
from experiments.zoo.faces import Faces
from experiments.zoo.running import Piece

EMOTIONS = ("neutral", "happiness", "surprise", "anger")
PERSONS, EACH = 50, 4


def make_faces(size: int, seed: int = 0) -> Faces:
    """Smooth random pictures, every other person gray, one picture of each emotion per person."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (PERSONS * EACH, 8, 8, 3), np.uint8)
    pictures = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_LINEAR) for p in coarse])
    identity = np.repeat(np.arange(PERSONS), EACH)
    colour = identity % 2 == 0
    pictures[~colour] = pictures[~colour].mean(-1, keepdims=True)
    tensor = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    return Faces(tensor, faces.held_out(identity), colour, list(EMOTIONS) * PERSONS, identity)


@pytest.fixture(scope="session")
def few_faces() -> Faces:
    """200 pictures of 16 px."""
    return make_faces(16)


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at 128 px as files, with ``labels.csv`` beside the folder."""
    place = tmp_path_factory.mktemp("faces")
    (place / "pictures").mkdir()
    found = make_faces(128)
    with (place / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "identity", "colour", "emotion"])
        for at in range(0, len(found.pictures), 5):
            name = f"{at:03d}.png"
            rgb = found.pictures[at].permute(1, 2, 0).numpy()
            cv2.imwrite(str(place / "pictures" / name), rgb[..., ::-1])
            colour = "colour" if found.colour[at] else "gray"
            writer.writerow([name, found.identity[at], colour, found.emotion[at]])
    return place


@pytest.fixture
def two_steps(tmp_path: Path) -> Piece:
    """A piece of two steps on the CPU, with a report and a checkpoint at its end."""
    return Piece(tmp_path / "run", 1e9, 1e9, 2, 1e9, 1e9, "cpu", 1, "32-true", "disabled", 1)
