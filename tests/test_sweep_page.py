"""The page of a sweep: every job, what they have in common, and nothing that a run's text could do."""

from __future__ import annotations

import base64
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from pages import FPS
from sweeps import GRID, write_sweep
from videos import moving_square

from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.media.write import VideoSettings, write_video
from tempcons.sweep import callback, marks, page_results
from tempcons.sweep.__main__ import main
from tempcons.sweep.page import shared, write_sweep_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "s")


@pytest.fixture(scope="module")
def html(folder) -> str:
    main(["report", str(folder)])
    return (folder / "report.html").read_text()


def test_every_job_is_a_dot_a_row_and_a_result(html):
    for at in range(len(GRID)):
        assert len(re.findall(rf'<circle[^>]* data-job="job{at}"', html)) == 2, "wide and narrow"
        assert len(re.findall(rf'<tr id="job-job{at}"', html)) == 1
        assert html.count(f'<video data-name="job{at}"') == 1
        assert html.count(f'href="job{at}/report.html"') == 2
    assert html.count('<video data-name="direct"') == 1, "the same for all jobs"
    assert re.findall(r'<option value="(\w+)" selected>', html)[-2:] == ["direct", "job0"]
    assert "lambda_r=0.5 alpha=0.04: E_warp 1.07e-4, distance 0.0267, sharpness 0.950" in html


def test_front_and_failed_jobs_are_marked(html):
    assert 0 < html.count('class="best-row"') < len(GRID)
    assert "6 done, 1 failed; swept: lambda_r, alpha" in html
    assert "clip: no such file &lt;i&gt;" in html
    assert "<b>" not in html and "<i>" not in html and "a <clip>" not in html


def test_only_what_all_jobs_share_is_called_shared(html):
    settings, provenance = re.findall(r'<table class="pairs">(.*?)</table>', html, re.S)
    assert "clip.path" in settings and "seed" in settings and "alpha" not in settings
    assert "weights.0.licence" in provenance and "seconds" not in provenance
    assert shared([{"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}]) == {"a": {"b": 1}}
    assert shared([{"a": None, "b": {}}]) == {"a": None, "b": {}}
    assert shared([{"a": None}, {}]) == {}


def test_asks_for_nothing_and_runs_nothing_else(html):
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(a.startswith(("data:", "#")) or re.fullmatch(r"job\d/report\.html", a) for a in addresses)
    allowed = re.findall(r"'sha256-([^']+)'", html)
    parts = [re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)[0] for tag in ("style", "script")]
    assert allowed == [base64.b64encode(sha256(p.encode()).digest()).decode() for p in parts]
    assert " style=" not in html


def test_videos_that_do_not_fit_are_named(folder, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    write_video(copy / "job1" / "phase2.mp4", FrameStore(moving_square(5)), VideoSettings(FPS))
    shutil.copy(copy / "job2" / "phase2.mp4", copy / "job2" / "direct.mp4")
    html = write_sweep_page(copy).read_text()
    assert "<li>lambda_r=0.5 alpha=0.08: other frames than the first job&#x27;s</li>" in html
    assert '<video data-name="direct-1"' in html and "direct edit (lambda_r=0.5 alpha=0.12)" in html
    monkeypatch.setattr(page_results, "MOST_BYTES", 3 * 16 * 48 * 64 * 3)
    html = write_sweep_page(folder).read_text()
    assert html.count("<video ") == 3 and html.count("too much for one page") == 4


def test_a_sweep_without_videos_has_a_page(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.mp4")))
    html = write_sweep_page(copy).read_text()
    assert "<video" not in html and "phase2.mp4 was removed" in html and '<tr id="job-job0"' in html


def test_removed_videos_and_pages_are_said_to_be(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "job0" / "phase2.mp4").unlink()
    (copy / "job0" / "report.html").unlink()
    html = write_sweep_page(copy).read_text()
    assert "phase2.mp4 was removed" in html and 'href="job0/report.html"' not in html


@pytest.mark.parametrize("damage", ["metrics.json", "manifest.json", "done.json"])
def test_a_broken_run_folder_ends_with_one_message(folder, tmp_path, damage, capsys):
    copy = Path(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html")))
    (copy / "job2" / damage).write_text("{ broken")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(copy)])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and said.count("error:") == 1
    assert "broken run folder" in said and "job2" in said and "start the sweep again" in said
    assert not list(copy.glob("*report.html*"))
    callback.write_report(copy)
    assert "no report: sweep: broken run folder" in capsys.readouterr().err


def test_nothing_to_show(tmp_path):
    with pytest.raises(InputError, match="holds no jobs"):
        write_sweep_page(tmp_path)
    (tmp_path / "a").mkdir()
    marks.mark_failed(tmp_path / "a", ["alpha=1"], "no", None)
    with pytest.raises(InputError, match="none of 1 jobs is finished"):
        write_sweep_page(tmp_path)
