"""The registry and downloads, without a network: a stand-in answers the requests."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from email.message import Message
from pathlib import Path

import pytest
import torch
from weights.snapshots import tiny_generator

from tempcons.check import WeightsError
from tempcons.store.artefact import hash_file
from tempcons.weights import __main__ as command
from tempcons.weights import layouts
from tempcons.weights.fetch import download, fetch
from tempcons.weights.registry import Entry, entries, recorded, require, verify

URL = "https://weights.invalid/g.pt"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPCONS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TEMPCONS_OFFLINE", raising=False)


@pytest.fixture
def served(tmp_path: Path) -> bytes:
    torch.save({"g_ema": tiny_generator(8).state_dict()}, tmp_path / "served.pt")
    return (tmp_path / "served.pt").read_bytes()


def item(**changes) -> Entry:
    base = Entry("g", "a generator", "sub/g.pt", "MIT", "https://page.invalid", "stylegan2-port", 8)
    return replace(base, **({"mirrors": (URL,)} | changes))


class Answer(io.BytesIO):
    """What a server sends: a body, perhaps less of it than announced."""

    def __init__(self, body: bytes, status: int, length: int) -> None:
        super().__init__(body)
        self.status, self.headers = status, {"Content-Length": str(length)}


class Server:
    """Answers requests for one file; breaks off after ``breaks_at`` bytes of an answer."""

    def __init__(self, data: bytes, breaks_at: int | None = None, ranges: bool = True) -> None:
        self.data, self.breaks_at, self.ranges = data, breaks_at, ranges
        self.asked: list[str | None] = []

    def __call__(self, request: urllib.request.Request, timeout: float) -> Answer:
        wanted = request.get_header("Range")
        self.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if first >= len(self.data):
            raise urllib.error.HTTPError(request.full_url, 416, "range", Message(), None)
        body = self.data[first:]
        return Answer(body[: self.breaks_at], 206 if first else 200, len(body))


def test_every_entry_is_complete_and_knows_its_layout() -> None:
    kinds = {value for name, value in vars(layouts).items() if name.isupper() and isinstance(value, str)}
    files = [e.file for e in entries().values()]
    assert len(set(files)) == len(files) > 20
    for e in entries().values():
        assert e.what and e.licence and e.page.startswith("https://")
        assert e.kind is None or e.kind in kinds
        assert all(m.startswith(("https://", "gdrive:")) for m in e.mirrors)
        assert e.sha256_prefix is None or f"-{e.sha256_prefix}." in e.file
        assert not Path(e.file).is_absolute() and ".." not in Path(e.file).parts


def test_require_lists_everything_missing_at_once(tmp_path: Path) -> None:
    here = tmp_path / "cache" / "weights" / "nada" / "elf.pt"
    here.parent.mkdir(parents=True)
    here.touch()
    assert require(["nada-elf"]) == {"nada-elf": here}
    with pytest.raises(WeightsError) as caught:
        require(["e4e-ffhq", "nada-elf", "nada-zombie"])
    text = str(caught.value)
    assert "2 files are missing" in text and "nada-elf" not in text
    for words in (
        "encoder4editing",
        str(here.parent / "zombie.pt"),
        "fetch e4e-ffhq",
        "by hand: nada-zombie",
    ):
        assert words in text


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(WeightsError, match=r"did you mean .*raft-large"):
        require(["raft-lage"])


def test_download_resumes_where_it_broke_off(served: bytes, tmp_path: Path) -> None:
    part = tmp_path / "g.part"
    with pytest.raises(WeightsError, match="broke off at 100 of"):
        download(URL, part, Server(served, breaks_at=100))
    server = Server(served)
    download(URL, part, server)
    assert server.asked == ["bytes=100-"]
    assert part.read_bytes() == served
    download(URL, part, Server(served))
    assert part.read_bytes() == served


def test_server_without_ranges_starts_anew(served: bytes, tmp_path: Path) -> None:
    part = tmp_path / "g.part"
    part.write_bytes(b"old beginning")
    download(URL, part, Server(served, ranges=False))
    assert part.read_bytes() == served


def test_only_https_is_followed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no https address"):
        download("file:///etc/passwd", tmp_path / "x.part")


def test_fetch_checks_renames_and_records_the_hash(served: bytes) -> None:
    path = fetch(item(), Server(served))
    assert path.read_bytes() == served
    assert recorded() == {"g": hash_file(path)}
    assert [p.name for p in path.parent.iterdir()] == ["g.pt"]
    path.write_bytes(served + b"x")
    with pytest.raises(WeightsError, match="SHA-256"):
        verify(item())


def test_second_mirror_is_tried(served: bytes) -> None:
    good = Server(served)

    def opener(request: urllib.request.Request, timeout: float) -> Answer:
        if "first" in request.full_url:
            raise urllib.error.URLError("no route")
        return good(request, timeout)

    assert fetch(item(mirrors=("https://first.invalid/g.pt", URL)), opener).is_file()
    with pytest.raises(WeightsError, match=r"no mirror answered .*no route"):
        fetch(item(file="other.pt", mirrors=("https://first.invalid/g.pt",)), opener)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "00" * 32}, "SHA-256"),
        ({"sha256_prefix": "00000000"}, "SHA-256"),
        ({"size": 7}, "7 published"),
        ({"resolution": 1024}, "for 8 px, not stylegan2-port for 1024 px"),
        ({"kind": "e4e"}, "not e4e"),
    ],
)
def test_wrong_files_never_get_the_final_name(changes: dict, words: str, served: bytes) -> None:
    with pytest.raises(WeightsError, match=words):
        fetch(item(**changes), Server(served))
    assert not item().path.exists() and recorded() == {}


def test_archive_member_is_taken_out(served: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.writestr("models/g.pt", served)
    path = fetch(item(member="models/g.pt"), Server((tmp_path / "models.zip").read_bytes()))
    assert path.read_bytes() == served


def test_offline_and_by_hand_say_where_the_file_goes(monkeypatch: pytest.MonkeyPatch, served: bytes) -> None:
    with pytest.raises(WeightsError, match=r"https://page\.invalid and save it as .*sub/g\.pt"):
        fetch(item(mirrors=()), Server(served))
    monkeypatch.setenv("TEMPCONS_OFFLINE", "1")
    with pytest.raises(WeightsError, match="TEMPCONS_OFFLINE is set"):
        fetch(item(), Server(served))


def test_commands(tmp_path: Path, served: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert "e4e-ffhq" in capsys.readouterr().out
    assert command.main(["inspect", str(tmp_path / "served.pt")]) == 0
    assert "resolution  8 px" in capsys.readouterr().out
    wrong = tmp_path / "cache" / "weights" / "e4e_ffhq_encode.pt"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(served)
    assert command.main(["verify"]) == 1
    assert "not e4e" in capsys.readouterr().err
    assert command.main(["fetch", "no-such-weights"]) == 1
