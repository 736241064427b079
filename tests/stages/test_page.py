from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest
from pages import CONTROLS, FRAMES, HOSTILE, VARIANTS, WORST, page_content
from PIL import Image

from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.media.slices import xt_slice
from tempcons.stages.page import render, write_page
from tempcons.stages.page_charts import collect_curves, find_worst, nice_top
from tempcons.stages.page_slices import plan_sheet, slice_sheet
from tempcons.stages.page_tables import figure, flatten

# Two keys; five pictures for each of three frames, but no perceptual difference out-of-domain.
MASK_PICTURES = 2 + 3 * 5 - 1


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text: dict[str, str] = {}
        self.inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        tag = self.inside[-1] if self.inside else ""
        self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return page_content(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(content) -> str:
    return render(content)


@pytest.fixture(scope="module")
def elements(html) -> Elements:
    return Elements(html)


def test_asks_for_nothing_else(elements):
    addresses = [a[key] for _, a in elements.found for key in ("src", "href", "srcset", "poster") if key in a]
    parts = [address for address in addresses if address.startswith("#")]
    assert len(parts) > 5 and {a[1:] for a in parts} == {a["id"] for a in elements.all("h2")}
    addresses = [address for address in addresses if address not in parts]
    assert len(addresses) == 1 + 2 * len(VARIANTS) + MASK_PICTURES
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"url\(|@import", elements.text["style"])
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in elements.found}


def test_policy_names_exactly_the_style_and_script_of_the_page(html):
    allowed = re.findall(r"'sha256-([^']+)'", html)
    parts = [re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)[0] for tag in ("style", "script")]
    assert allowed == [base64.b64encode(sha256(p.encode()).digest()).decode() for p in parts]
    assert "default-src 'none'" in html and "unsafe" not in html


def test_text_of_a_run_stays_text(html, elements):
    assert "<script>window" not in html and "<img src=x" not in html
    assert len(elements.all("script")) == 2
    assert len(elements.all("img")) == len(VARIANTS) + MASK_PICTURES
    assert elements.text["h1"] == f"a run {HOSTILE}"
    assert HOSTILE in elements.text["td"]
    assert f"clip.{HOSTILE}" in elements.text["th"]


def test_every_variant_is_there(html, elements, content):
    videos = {a["data-name"]: a["src"] for a in elements.all("video")}
    assert list(videos) == list(VARIANTS)
    for name, source in videos.items():
        assert (
            base64.b64decode(source.removeprefix("data:video/mp4;base64,"))
            == content.videos[name].read_bytes()
        )
    assert [a["data-variant"] for a in elements.all("tr") if "data-variant" in a] == [
        *VARIANTS[1:],
        *CONTROLS,
    ]
    curves = {a["data-variant"] for a in elements.all("path") if "data-variant" in a}
    assert curves == {*VARIANTS[1:], *CONTROLS}
    wiped = [a["value"] for a in elements.all("option") if "selected" in a]
    assert wiped == ["1", "direct", "phase2"]


def test_warping_error_never_stands_alone(html, elements):
    head = re.findall(r'<table class="figures">.*?</thead>', html, re.S)[0].replace("\u00ad", "")
    for name in ("E_warp", "E_long", "distance", "sharpness", "motion"):
        assert name in head
    assert "flow network dis" in elements.text["p"]


def test_worst_frame_comes_first_and_names_its_source_frame(elements, html):
    buttons = [int(a["data-seek"]) for a in elements.all("button") if "data-seek" in a]
    buttons = buttons[: 4 * 3]
    assert buttons[::4] == [WORST] * 3
    assert f"{WORST}→{WORST + 1}: 3.00 <span>(source {40 + WORST})" in html


def test_sheet_holds_the_slice_of_every_row(elements, content):
    data = json.loads(next(iter(re.findall(r"\{.*\}", elements.text["script"].split("\n")[0]))))
    shape = data["slices"]
    sheets = [a["src"] for a in elements.all("img") if a.get("class") == "sheet"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheets[2].split(",")[1]))))
    for row in (0, 17, 47):
        line, column = divmod(row, shape["columns"])
        top, left = line * FRAMES, column * 64
        block = pixels[top : top + FRAMES, left : left + 64]
        assert np.array_equal(block, xt_slice(content.frames["phase1"], row))


def test_written_whole_or_not_at_all(tmp_path, content, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    missing = replace(content, videos={**content.videos, "input": tmp_path / "none.mp4"})
    with pytest.raises(InputError, match=r"none\.mp4"):
        write_page(path, missing)
    assert path.read_text() == "before"
    assert write_page(path, content) == path and path.read_text().startswith("<!doctype html>")
    with pytest.raises(InputError, match="can't write"):
        write_page(tmp_path / "no" / "folder.html", content)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_frames_must_fit_together(content):
    with pytest.raises(ValueError, match="without a video: other"):
        replace(content, frames={"other": content.frames["input"]})
    short = FrameStore(content.frames["input"].array[:3])
    with pytest.raises(ValueError, match="one shape"):
        replace(content, frames={**content.frames, "input": short})
    with pytest.raises(ValueError, match="none"):
        replace(content, frames={})


def test_page_without_measurements_or_ids(content):
    plain = replace(content, per_frame=[], frame_ids=(), metrics={"direct": {}}, settings={}, provenance={})
    html = render(replace(plain, masks={}))
    assert "No masks were recorded" in html
    assert "Nothing was measured frame by frame" in html and "None was measured" in html


@pytest.mark.parametrize(
    "total, size", [(32, (128, 128)), (100, (256, 256)), (9000, (720, 1280)), (2, (5, 7))]
)
def test_sheets_stay_within_bounds_and_say_so(total, size):
    sheet = plan_sheet(total, size, videos=4)
    lines = -(-sheet.rows // sheet.columns)
    assert 4 * sheet.rows * sheet.frames * sheet.width <= 6_000_000
    # browsers refuse pictures with a longer side
    assert max(lines * sheet.frames, sheet.columns * sheet.width) <= 16384
    whole = sheet.frames == total and (sheet.rows, sheet.width) == size
    assert whole == (sheet.note(total) == "")
    assert whole == (total * size[0] * size[1] * 4 <= 6_000_000)


def test_time_is_cut_last():
    sheet = plan_sheet(9, (40, 30), videos=1, most_pixels=4 * 40 * 30)
    assert (sheet.frames, sheet.row_step, sheet.column_step) == (4, 1, 1)
    assert sheet.note(9) == "To keep this page small, the slices hold the first 4 of 9 frames."


def test_thinned_sheet_takes_whole_rows():
    sheet = plan_sheet(9, (200, 200), videos=1, most_pixels=9 * 50 * 200)
    assert (sheet.frames, sheet.row_step, sheet.column_step, sheet.rows) == (9, 4, 1, 50)
    frames = np.random.default_rng(0).integers(0, 256, (9, 200, 200, 3), dtype=np.uint8)
    pixels = slice_sheet(FrameStore(frames), sheet)
    line, column = divmod(13, sheet.columns)
    assert np.array_equal(pixels[line * 9 : line * 9 + 9, column * 200 : column * 200 + 200], frames[:, 52])


def test_curves_keep_gaps_and_refuse_nothing_silently():
    rows = [
        {"variant": "a", "frame": 2, "e_warp": 2e-4},
        {"variant": "a", "frame": 0, "e_warp": float("nan")},
    ]
    curves = collect_curves(rows, 4)
    assert curves == {"e_warp": {"a": [None, None, 2.0, None]}}
    assert find_worst([1.0, None, 3.0, 3.0, 2.0, 0.5]) == [2, 3, 4, 0]


@pytest.mark.parametrize("largest, top", [(0.0, 1.0), (0.112, 0.12), (9.9, 10), (1.0, 1.0), (2e-5, 2e-5)])
def test_axis_ends_at_a_round_number(largest, top):
    assert nice_top(largest) == pytest.approx(top)


def test_cells():
    assert figure("e_warp", None, 1e-4) == "&ndash;"
    assert figure("e_warp", 1.5e-5, None) == "0.150"
    assert figure("e_warp", 123e-4, None) == "123"
    assert figure("e_long", 5e-5, 1e-4) == '0.500<span class="change">\u221250 %</span>'
    assert figure("e_long", 0.99999e-4, 1e-4).endswith(">+0.0 %</span>")
    assert figure("motion", 0.5, 1.0) == "0.500"
    nested = {"a": {"b": [1, 2]}, "c": [{"d": "x"}], "e": {}, "f": None}
    assert list(flatten(nested)) == [("a.b", "[1, 2]"), ("c.0.d", "x"), ("e", "{}"), ("f", "null")]
