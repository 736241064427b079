"""The page of a sweep in headless Chromium: looked at, sorted, pointed at."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import EXECUTABLE
from pages import FPS
from sweeps import GRID, write_sweep

from tempcons.sweep.page import write_sweep_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="no chromium on this machine (apt-get install chromium)"),
]
ROWS = "[...document.querySelectorAll('#jobs tr')].map(r => r.dataset.job)"
CHOSEN = "[...document.querySelectorAll('.chosen')].map(e => e.tagName.toLowerCase() + ':' + e.dataset.job)"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return write_sweep_page(write_sweep(tmp_path_factory.mktemp("sweeps") / "s"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_clean_at_every_width_and_scheme(browser, page, width, dark):
    browser.open(page, width, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    ground = "getComputedStyle(document.querySelector('.pareto .ground')).fill.match(/\\d+/g).map(Number)"
    assert (sum(browser.evaluate(ground)[:3]) < 200) == dark
    shown = "[...document.querySelectorAll('.pareto')].filter(p => p.clientHeight > 0).map(p => p.className)"
    assert browser.evaluate(shown) == ["pareto wide" if width > 600 else "pareto narrow"]
    heights = "[...document.querySelectorAll('.pareto text')].map(t => t.getBoundingClientRect().height)"
    assert min(h for h in browser.evaluate(heights) if h > 0) >= 11, "readable"
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.problems == []


def test_a_dot_leads_to_its_row_and_result(opened):
    opened.click(".pareto.wide circle[data-job=job4]")
    assert set(opened.evaluate(CHOSEN)) == {"circle:job4", "tr:job4", "figure:job4"}
    top = opened.evaluate("document.querySelector('#job-job4').getBoundingClientRect().top")
    assert 0 < top < 900
    assert opened.evaluate("document.querySelector('#wipe-right').value") == "job4"
    opened.click("#job-job1 td:nth-of-type(2)")
    assert opened.evaluate("document.querySelector('#wipe-right').value") == "job1"


def test_videos_play_together(opened):
    opened.click("#play")
    opened.wait_for("Number(document.querySelector('#scrubber').value) >= 3")
    times = opened.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
    assert len(times) == 1 + len(GRID) and max(times) - min(times) < 2.5 / FPS
    opened.click("#play")
    assert opened.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")


def test_two_jobs_are_wiped_and_the_row_is_dragged(opened):
    start, end = opened.centre("#wipe-stage"), opened.centre("#wipe-stage", across=0.9)
    opened.drag(start, end)
    assert float(opened.evaluate("document.querySelector('#wipe').value")) == pytest.approx(90, abs=1)
    names = "[...document.querySelectorAll('#wipe-left option')].map(o => o.value)"
    assert opened.evaluate(names) == ["direct", *(f"job{at}" for at in range(len(GRID)))]
    before = int(opened.evaluate("document.querySelector('#row').value"))
    line = opened.centre("figure:nth-of-type(2) .row-line")
    opened.drag(line, (line[0], line[1] - 20))
    assert int(opened.evaluate("document.querySelector('#row').value")) < before


def test_a_heading_sorts_up_and_down(opened):
    assert opened.evaluate(ROWS) == [f"job{at}" for at in range(len(GRID))]
    opened.click("[data-column='2']")
    rising = opened.evaluate(ROWS)
    errors = opened.evaluate(
        "[...document.querySelectorAll('#jobs tr')].map(r => Number(r.cells[2].dataset.sort))"
    )
    assert errors == sorted(errors) and len(set(rising)) == len(GRID)
    opened.click("[data-column='2']")
    assert opened.evaluate(ROWS) == rising[::-1]
    assert opened.evaluate("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_a_result_leads_to_its_run(opened, page):
    opened.click("figure[data-job=job1] figcaption a")
    opened.wait_for("document.title === '0.5 0.08'")
