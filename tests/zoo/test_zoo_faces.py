"""Reading faces: folders, packed parts, the split by person."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.zoo import faces
from tempcons.check import InputError


def test_packed_parts_hold_the_same_pictures_as_the_folder(face_folder, tmp_path):
    place, labels = face_folder / "pictures", face_folder / "labels.csv"
    largest = max(path.stat().st_size for path in place.iterdir())
    written = faces.pack(place, labels, tmp_path / "packed", 3 * (largest + 200))
    parts = [path for path in written if path.suffix == faces.PART_SUFFIX]
    assert len(parts) > 3
    folder, packed = faces.read(place, labels), faces.read(tmp_path / "packed")
    assert torch.equal(folder.pictures, packed.pictures)
    assert np.array_equal(folder.held, packed.held) and folder.emotion == packed.emotion
    assert np.array_equal(folder.colour, packed.colour)


def test_parts_keep_to_their_size(face_folder, tmp_path):
    place = face_folder / "pictures"
    largest = max(path.stat().st_size for path in place.iterdir())
    room = 4 * largest
    for path in faces.pack(place, None, tmp_path / "packed", room):
        assert path.stat().st_size <= room


def test_a_person_is_on_one_side_of_the_split(few_faces):
    assert few_faces.held.any()
    assert not set(few_faces.identity[few_faces.held]) & set(few_faces.identity[~few_faces.held])


def test_colour_is_seen_where_no_labels_are(face_folder):
    labelled = faces.read(face_folder / "pictures", face_folder / "labels.csv")
    assert np.array_equal(faces.read(face_folder / "pictures").colour, labelled.colour)


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        faces.read(tmp_path)
