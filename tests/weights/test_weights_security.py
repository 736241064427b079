"""Hostile and damaged files: nothing in them runs, and each gives one clear error."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights.snapshots import install_names, tiny_generator, write_module, write_snapshot

import tempcons.weights.registry as registry
from tempcons.check import WeightsError
from tempcons.edits.directions import load_direction
from tempcons.models.restyle import ReStyleEncoder
from tempcons.weights.fetch import extract_member
from tempcons.weights.load import (
    inspect,
    load_discriminator,
    load_encoder,
    load_generator,
    load_latent_classifier,
    load_latent_transformer,
    load_mapper,
    read_file,
)


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def plain(path: Path, value: Any) -> None:
    path.write_bytes(pickle.dumps(value, 2))


def torch_zip(path: Path, value: Any) -> None:
    torch.save(value, path)


def torch_legacy(path: Path, value: Any) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


CONTAINERS = [plain, torch_zip, torch_legacy]


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


def refused(path: Path, proof: Path, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(WeightsError, match=words):
        load_generator(path)
    assert not proof.exists(), "the file's code was executed"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("write", CONTAINERS)
def test_os_system_is_refused_by_name(write: Callable, tmp_path: Path, proof: Path) -> None:
    write(tmp_path / "evil.pt", {"g_ema": Call(os.system, f"touch {proof}")})
    refused(tmp_path / "evil.pt", proof, r"names posix\.system")


@pytest.mark.parametrize("write", CONTAINERS)
def test_import_of_the_project_itself_is_refused(write: Callable, tmp_path: Path, proof: Path) -> None:
    write(tmp_path / "evil.pt", Call(registry.entry, "e4e-ffhq"))
    refused(tmp_path / "evil.pt", proof, r"names tempcons\.weights\.registry\.entry")


@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, print])
def test_builtins_are_refused(function: Callable, write: Callable, tmp_path: Path, proof: Path) -> None:
    write(tmp_path / "evil.pt", [Call(function, f"open({str(proof)!r}, 'w')")])
    refused(tmp_path / "evil.pt", proof, rf"names (__builtin__|builtins|io|_io)\.{function.__name__}")


def nested_storage(proof: Path) -> bytes:
    """A storage blob whose inner pickle calls os.system."""
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Call(os.system, f"touch {proof}")):
        pickle.dump(value, stream, 2)
    return stream.getvalue()


def test_attack_inside_a_nested_storage_is_refused(tmp_path: Path, proof: Path) -> None:
    plain(tmp_path / "evil.pkl", Call(torch.storage._load_from_bytes, nested_storage(proof)))
    refused(tmp_path / "evil.pkl", proof, r"names posix\.system")


def test_storage_nested_in_itself_is_refused(tmp_path: Path, proof: Path) -> None:
    inner = nested_storage(proof)
    for _ in range(3):
        stream = io.BytesIO()
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, stream, 2)
        pickle.dump(Call(torch.storage._load_from_bytes, inner), stream, 2)
        inner = stream.getvalue()
    plain(tmp_path / "evil.pkl", Call(torch.storage._load_from_bytes, inner))
    refused(tmp_path / "evil.pkl", proof, "_load_from_bytes")


TRICKS = {
    "result of a call called": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
    "attribute path through a good module": b"\x80\x04\x8c\x05torch\x8c\x10storage.os.system\x93.",
    "a name from a number": b"\x80\x04K\x01K\x02\x93.",
    "old instance operation": b"(S'touch x'\nios\nsystem\n.",
    "old object operation": b"\x80\x02(cos\nsystem\nS'touch x'\no.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent text": b"\x80\x02Pposix.system\n.",
    "state set on a class": b"\x80\x02ccollections\nOrderedDict\n}U\x01xK\x01sb.",
    "object of a function": b"\x80\x02ctorch._utils\n_rebuild_parameter\n)\x81.",
    "text encoded as code": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "array of objects": b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
    "set of lists": b"\x80\x02c__builtin__\nset\n](]e\x85R.",
    "list as dictionary key": b"\x80\x02}]K\x01s.",
    "memo that is not there": b"\x80\x02h\x07.",
    "mark that is not there": b"\x80\x02t.",
    "nothing on the stack": b"\x80\x02.",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_pickle_tricks_are_refused(trick: str, tmp_path: Path, proof: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(TRICKS[trick])
    refused(tmp_path / "evil.pkl", proof, "^weights: .*evil.pkl: ")


def test_endless_network_is_refused(tmp_path: Path, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_names(monkeypatch)
    from weights.snapshots import Persistent

    branches: dict[str, Any] = {}
    for _ in range(15):
        branches = {f"m{i}": Persistent("Net", {"_modules": branches}) for i in range(4)}
    plain(tmp_path / "evil.pkl", {"G_ema": Persistent("Net", {"_modules": branches})})
    refused(tmp_path / "evil.pkl", proof, "without end")


def test_exploding_key_is_refused_at_once(tmp_path: Path, proof: Path) -> None:
    doubled = b"\x80\x02)" + b"2\x86" * 60 + b"q\x00}h\x00K\x01s."
    (tmp_path / "evil.pkl").write_bytes(doubled)
    refused(tmp_path / "evil.pkl", proof, "key of type tuple")


# Sizes


def rewrite(
    source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes]], **how: Any
) -> Path:
    """Copy a zip archive member by member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **how) as new:
        for item in old.infolist():
            new.writestr(*change(item.filename, old.read(item)))
    return target


@pytest.fixture
def good(tmp_path: Path) -> Path:
    torch.save({"g_ema": tiny_generator(8).state_dict()}, tmp_path / "good.pt")
    return tmp_path / "good.pt"


def header(size: str, numel: str, stride: str = "K\x01") -> bytes:
    """data.pkl of one tensor with the given pickled numbers."""
    text = (
        "\x80\x02}X\x05\x00\x00\x00g_emactorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        f"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu{numel}tQK\x00{size}\x85{stride}\x85"
        "\x89ccollections\nOrderedDict\n)RtRs."
    )
    return text.encode("latin1")


HUGE = "\x8a\x06\x00\x00\x00\x00\x00\x10"


@pytest.mark.parametrize(
    ("size", "numel", "stride"),
    [(HUGE, HUGE, "K\x01"), (HUGE, "K\x04", "K\x01"), (HUGE, "K\x04", "K\x00"), ("K\x04", "K\x04", HUGE)],
    ids=["huge storage", "huge view", "huge repetition", "huge stride"],
)
def test_bomb_sized_tensor_header_is_refused(
    size: str, numel: str, stride: str, tmp_path: Path, proof: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("bomb/data.pkl", header(size, numel, stride))
        archive.writestr("bomb/data/0", bytes(16))
        archive.writestr("bomb/version", "3\n")
    refused(tmp_path / "bomb.pt", proof, "bytes, but|asks for more")


def test_negative_stride_is_refused(tmp_path: Path, proof: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("bomb/data.pkl", header("K\x02", "K\x04", "J\xff\xff\xff\xff"))
        archive.writestr("bomb/data/0", bytes(16))
    refused(tmp_path / "bomb.pt", proof, "whole number")


def test_bomb_in_the_old_format_is_refused(tmp_path: Path, proof: Path) -> None:
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, 2)
    stream.write(header(HUGE, HUGE))
    pickle.dump(["0"], stream, 2)
    (tmp_path / "bomb.pt").write_bytes(stream.getvalue() + struct.pack("<q", 1 << 44))
    refused(tmp_path / "bomb.pt", proof, "in a file of")


def test_compressed_archive_is_refused(good: Path, tmp_path: Path, proof: Path) -> None:
    bomb = rewrite(good, tmp_path / "bomb.pt", lambda n, d: (n, d), compression=zipfile.ZIP_DEFLATED)
    refused(bomb, proof, "compressed archive member")


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "good/../../evil", "..\\evil", "C:/evil"])
def test_path_traversal_in_an_archive_is_refused(name: str, good: Path, tmp_path: Path, proof: Path) -> None:
    evil = rewrite(good, tmp_path / "evil.pt", lambda n, d: (name if n.endswith("data/0") else n, d))
    refused(evil, proof, "path")


def test_repeated_archive_member_is_refused(good: Path, tmp_path: Path, proof: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evil = rewrite(good, tmp_path / "evil.pt", lambda n, d: (n.replace("data/1", "data/0"), d))
    refused(evil, proof, "repeat")


def test_bomb_sized_safetensors_header_is_refused(tmp_path: Path, proof: Path) -> None:
    (tmp_path / "bomb.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    refused(tmp_path / "bomb.safetensors", proof, "safetensors")


def test_safetensors_header_beyond_its_data_is_refused(tmp_path: Path, proof: Path) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "bomb.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    refused(tmp_path / "bomb.safetensors", proof, "safetensors")


def test_npy_bomb_and_npy_of_objects_are_refused(tmp_path: Path, proof: Path) -> None:
    file = tmp_path / "direction.npy"
    np.save(file, np.zeros(4, np.float32))
    file.write_bytes(file.read_bytes().replace(b"(4,), }        ", b"(99999999999,)}"))
    with pytest.raises(WeightsError, match="npy"):
        load_direction(file, 4, 4)
    np.save(file, np.array([Call(os.system, f"touch {proof}")], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match="npy"):
        load_direction(file, 4, 4)
    assert not proof.exists()


def test_member_is_extracted_under_our_name_only(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.writestr("../../evil.pth", b"weights")
    target = extract_member(tmp_path / "models.zip", "../../evil.pth")
    assert target.parent == tmp_path and target.read_bytes() == b"weights"
    assert not (tmp_path.parent.parent / "evil.pth").exists()


# Damage


@pytest.mark.parametrize("kind", ["zip", "legacy", "snapshot", "module", "safetensors"])
def test_truncated_files_give_one_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_names(monkeypatch)
    whole = written(kind, tmp_path)
    data = whole.read_bytes()
    load_generator(whole)
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(WeightsError, match="cut"):
            load_generator(cut)


def written(kind: str, folder: Path) -> Path:
    g, mean = tiny_generator(8), torch.zeros(16)
    if kind == "snapshot":
        return write_snapshot(folder / "whole.pkl", g, mean)
    if kind == "module":
        return write_module(folder / "whole.pt", g, mean)
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in g.state_dict().items()}, folder / "whole.safetensors")
        return folder / "whole.safetensors"
    torch.save({"g_ema": g.state_dict()}, folder / "whole.pt", _use_new_zipfile_serialization=kind == "zip")
    return folder / "whole.pt"


@pytest.mark.parametrize("kind", ["zip", "legacy", "snapshot", "module", "safetensors"])
def test_flipped_bytes_never_escape_as_other_errors(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_names(monkeypatch)
    whole = written(kind, tmp_path)
    data = whole.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 3):
            damaged[place] = random.integers(0, 256)
        flipped = tmp_path / f"flipped{whole.suffix}"
        flipped.write_bytes(damaged)
        try:
            load_generator(flipped)
        except WeightsError as error:
            assert str(flipped) in str(error)


def test_empty_missing_and_other_files_give_one_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    (tmp_path / "page.pt").write_text("<html>too many downloads</html>")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", b"")
    for name, words in (
        ("empty.pt", "empty"),
        ("none.pt", "no file"),
        ("page.pt", "no weights file"),
        ("pictures.zip", "no torch.save"),
    ):
        with pytest.raises(WeightsError, match=words):
            read_file(tmp_path / name)


# Files of the wrong kind or shape


def test_safetensors_of_wrong_shapes_name_the_tensor(tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in tiny_generator(8).state_dict().items()}
    state["to_rgb1.bias"] = torch.zeros(1, 4, 1, 1)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match=r"to_rgb1\.bias \(1, 4, 1, 1\) instead of \(1, 3, 1, 1\)"):
        load_generator(tmp_path / "wrong.safetensors")


def test_generator_of_another_resolution_is_refused(tmp_path: Path) -> None:
    torch.save({"g_ema": tiny_generator(16).state_dict()}, tmp_path / "g.pt")
    with pytest.raises(WeightsError, match="made for 16 px, this run needs 32 px"):
        load_generator(tmp_path / "g.pt", size=32)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_incomplete_and_foreign_states_name_the_keys(change: str, tmp_path: Path) -> None:
    state = tiny_generator(8).state_dict()
    if change == "missing":
        del state["convs.0.conv.blur.kernel"]
    else:
        state["convs.0.conv.extra"] = torch.zeros(1)
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    with pytest.raises(WeightsError, match=rf"1 {change} tensors \(convs\.0\.conv"):
        load_generator(tmp_path / "g.pt")


def test_other_networks_are_named(tmp_path: Path) -> None:
    torch.save({"dense.0.weight": torch.zeros(4, 4), "dense.0.bias": torch.zeros(4)}, tmp_path / "t.pt")
    with pytest.raises(WeightsError, match="no generator in the file but: latent-transformer"):
        load_generator(tmp_path / "t.pt")
    torch.save({"some.weight": torch.zeros(4)}, tmp_path / "u.pt")
    with pytest.raises(WeightsError, match=r"no supported network has \(some\.weight"):
        inspect(tmp_path / "u.pt")


def test_exploding_value_in_a_header_is_refused_at_once(tmp_path: Path, proof: Path) -> None:
    """A value whose text would fill all memory, where a whole number belongs."""
    doubled = ")" + "2\x86" * 60
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("bomb/data.pkl", header(doubled, "K\x04"))
        archive.writestr("bomb/data/0", bytes(16))
    refused(tmp_path / "bomb.pt", proof, "not a whole number")


@pytest.mark.parametrize(
    "opts",
    [{"n_iters_per_batch": []}, {"n_iters_per_batch": "5"}, {"encoder_type": []}, {"n_iters_per_batch": 0}],
)
def test_odd_options_give_one_error(opts: dict[str, Any], tmp_path: Path) -> None:
    encoder = ReStyleEncoder(4, dim=8)
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    kept = {"encoder_type": "BackboneEncoder"} | opts
    torch.save({"state_dict": state, "opts": kept, "latent_avg": torch.zeros(8)}, tmp_path / "r.pt")
    with pytest.raises(WeightsError, match=r"n_iters_per_batch|encoder of type"):
        load_encoder(tmp_path / "r.pt")


@pytest.mark.parametrize("shape", [(0,), (1, 0, 8, 3, 3), ()])
def test_networks_of_empty_or_flat_tensors_give_one_error(shape: tuple[int, ...], tmp_path: Path) -> None:
    for key in ("conv1.conv.weight", "style.1.weight", "conv1.conv.modulation.weight"):
        state = tiny_generator(8).state_dict() | {key: torch.ones(shape)}
        torch.save({"g_ema": state}, tmp_path / "g.pt")
        with pytest.raises(WeightsError):
            load_generator(tmp_path / "g.pt")
    for key in ("dense.0.weight", "fcs.0.weight", "b4.out.weight", "fine_mapping.mapping.1.weight"):
        torch.save({key: torch.ones(shape)}, tmp_path / "x.pt")
        for load in (load_latent_transformer, load_latent_classifier, load_discriminator, load_mapper):
            with pytest.raises(WeightsError):
                load(tmp_path / "x.pt")
