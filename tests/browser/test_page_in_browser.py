"""The report page in headless Chromium: looked at, played, dragged, wiped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chromium import EXECUTABLE, Chromium
from pages import FPS, FRAMES, WORST, page_content

from tempcons.stages.page import PageContent, write_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="no chromium on this machine (apt-get install chromium)"),
]
TIMES = "[...document.querySelectorAll('video')].map(v => v.currentTime)"
SHOWN = "Number(document.querySelector('#scrubber').value)"
# A video that still has to take up the newest frame wanted isn't seeking for a moment.
SETTLED = (
    "[...document.querySelectorAll('video')].every("
    f"v => !v.seeking && Math.floor(v.currentTime * {FPS}) === {SHOWN})"
)
# Read from a copy: reading often from the page's own canvas would make the browser complain.
PIXELS = """(() => {{ const c = document.querySelector('{canvas}'), copy = document.createElement('canvas');
  [copy.width, copy.height] = [c.width, c.height];
  const pen = copy.getContext('2d', {{willReadFrequently: true}});
  pen.drawImage(c, 0, 0);
  return [...pen.getImageData({x}, {y}, 1, 1).data].slice(0, 3); }})()"""


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> PageContent:
    return page_content(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(content, tmp_path_factory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "report.html", content)


def frames_shown(browser: Chromium) -> set[int]:
    browser.wait_for(SETTLED)
    return {int(time * FPS) for time in browser.evaluate(TIMES)}


def pixel(browser: Chromium, canvas: str, x: int, y: int) -> np.ndarray:
    return np.array(browser.evaluate(PIXELS.format(canvas=canvas, x=x, y=y)))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_clean_at_every_width_and_scheme(browser, page, width, dark):
    browser.open(page, width, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    red, green, blue = browser.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue < 200) == dark
    assert browser.evaluate("document.querySelector('#problem').hidden")
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.problems == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_player_stays_in_sight_and_parts_are_linked(browser, page, width):
    browser.open(page, width)
    browser.evaluate("document.querySelector('nav a[href=\"#masks-title\"]').click()")
    browser.wait_for("document.querySelector('#masks-title').getBoundingClientRect().top < 300")
    top, bottom = browser.evaluate(
        "(() => { const b = document.querySelector('.transport').getBoundingClientRect(); "
        "return [b.top, b.bottom]; })()"
    )
    heading = browser.evaluate("document.querySelector('#masks-title').getBoundingClientRect().top")
    assert -1 <= top < bottom <= heading + 1
    assert browser.problems == []


def test_hostile_text_does_not_run(opened):
    assert opened.evaluate("window.hacked === undefined")


@pytest.mark.parametrize("selector", [".figures", ".legend"])
def test_figures_fit_a_phone(browser, page, selector):
    browser.open(page, 390)
    assert browser.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().right") <= 390


def test_plays_together_and_pauses_together(opened):
    opened.click("#play")
    assert opened.evaluate("document.querySelector('#play').textContent") == "Pause"
    opened.wait_for(f"{SHOWN} >= 3")
    times = opened.evaluate(TIMES)
    assert max(times) - min(times) < 2.5 / FPS
    opened.click("#play")
    assert opened.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    assert frames_shown(opened) == {opened.evaluate(SHOWN)}


def test_starts_again_at_the_end(opened):
    opened.evaluate(
        f"(() => {{ const s = document.querySelector('#scrubber'); s.value = {FRAMES - 3}; "
        "s.dispatchEvent(new Event('input')); })()"
    )
    opened.click("#play")
    opened.wait_for(f"{SHOWN} === {FRAMES - 1}")
    opened.wait_for(f"{SHOWN} < 3")
    assert opened.evaluate("[...document.querySelectorAll('video')].every(v => !v.paused)")
    opened.click("#play")


def test_keyboard_steps_and_plays(opened):
    opened.evaluate("document.querySelector('#scrubber').focus()")
    opened.press("ArrowRight", "ArrowRight", 39)
    assert frames_shown(opened) == {1}
    opened.evaluate("document.activeElement.blur()")
    opened.press("ArrowRight", "ArrowRight", 39)
    opened.press("ArrowRight", "ArrowRight", 39)
    opened.press("ArrowLeft", "ArrowLeft", 37)
    assert frames_shown(opened) == {2}
    opened.press(" ", "Space", 32, " ")
    assert opened.evaluate("document.querySelector('#play').textContent") == "Pause"
    opened.press(" ", "Space", 32, " ")
    assert opened.evaluate("document.querySelector('#play').textContent") == "Play"


def test_the_newest_frame_wanted_wins_where_keys_are_faster_than_the_videos(opened):
    for _ in range(9):
        opened.press("ArrowRight", "ArrowRight", 39)
    opened.evaluate(
        "(() => { const s = document.querySelector('#scrubber'); for (const at of [3, 14, 1, 11]) "
        "{ s.value = at; s.dispatchEvent(new Event('input')); } })()"
    )
    assert frames_shown(opened) == {11}


def test_worst_frame_is_one_click_away(opened):
    opened.click("[data-seek]")
    assert frames_shown(opened) == {WORST}
    assert opened.evaluate("document.querySelector('[data-value=e_warp]').textContent") == "3.00"
    opened.click(".plot svg", across=0.401)
    assert frames_shown(opened) == {6}


def test_row_of_the_slices_is_dragged(opened, content):
    assert opened.evaluate("document.querySelector('#row').value") == "24"
    start = opened.centre("figure:nth-of-type(3) .row-line")
    height = opened.evaluate("document.querySelector('.screen').clientHeight")
    opened.drag(start, (start[0], start[1] - 10 * height / 48))
    row = int(opened.evaluate("document.querySelector('#row').value"))
    assert row in (13, 14, 15)
    for number, name in ((2, "direct"), (4, "phase2")):
        for t, x in ((0, 5), (7, 12), (15, 40)):
            shown = pixel(opened, f"figure:nth-of-type({number}) .slice canvas", x, t)
            assert shown.tolist() == content.frames[name].array[t, row, x].tolist()


def test_slice_takes_to_its_frame(opened):
    opened.click(".slice", down=10.5 / FRAMES)
    assert frames_shown(opened) == {10}


def test_wipe_shows_two_variants(opened):
    opened.click("[data-seek]")
    opened.wait_for(SETTLED)

    def blue(x: int) -> int:
        return int(pixel(opened, "#wipe-canvas", x, 40)[2])

    opened.wait(lambda: blue(10) < 60 < 100 < blue(54), "both variants in the wipe")
    start, end = opened.centre("#wipe-stage"), opened.centre("#wipe-stage", across=0.95)
    opened.drag(start, end)
    assert float(opened.evaluate("document.querySelector('#wipe').value")) == pytest.approx(95, abs=1)
    assert blue(54) < 60
    opened.evaluate(
        "(() => { const s = document.querySelector('#wipe-left'); s.value = 'phase1'; "
        "s.dispatchEvent(new Event('input')); })()"
    )
    assert 65 < blue(10) < 95


def test_curves_can_be_switched_off(opened):
    opened.click(".legend input")
    shown = "[...document.querySelectorAll('path[data-variant=direct]')].map(p => p.style.display)"
    assert set(opened.evaluate(shown)) == {"none"}
