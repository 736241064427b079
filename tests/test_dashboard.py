"""The dashboard script: a file or W&B show the same, and what is missing is said in one message."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "experiments" / "dashboard.py"


def load_script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("dashboard_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = load_script()


def failed(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and said.count("error:") == 1
    return said


def test_written_to_a_file(tmp_path):
    path = tmp_path / "dashboard.json"
    script.main(["--json", str(path), "--group", "a-sweep"])
    found = json.loads(path.read_text())
    assert (found["title"], found["group"], found["project"]) == ("tempcons: a-sweep", "a-sweep", "tempcons")
    assert [section["title"] for section in found["sections"]] == [
        "Results",
        "Phase 1: codes",
        "Phase 2: generator",
        "Pictures",
    ]


def test_the_warping_error_never_stands_alone():
    for section in script.dashboard("tempcons", None).sections:
        shown = {name.rpartition("-")[2] for panel in section.panels for name in (*panel.y, panel.x or "")}
        assert "e_warp" not in shown or {"distance", "sharpness"} <= shown


def test_without_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    said = failed(capsys, "--entity", "me")
    assert "wandb-workspaces isn't installed" in said and "tempcons[dashboard]" in said and "--json" in said


def test_one_place_must_be_named():
    with pytest.raises(SystemExit) as stopped:
        script.main([])
    assert stopped.value.code == 2


@pytest.fixture
def parts():
    reports = pytest.importorskip(
        "wandb_workspaces.reports.v2", reason="the extra 'dashboard' isn't installed"
    )
    return pytest.importorskip("wandb_workspaces.workspaces"), reports


def test_without_an_account(parts, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for kind in ([], ["--report"]):
        said = failed(capsys, "--entity", "me", *kind)
        assert "W&B doesn't take it" in said and "wandb login" in said


def test_the_workspace_shows_what_the_file_says(parts):
    shown = script.dashboard("tempcons", "a-sweep")
    model = json.dumps(script.workspace(shown, "me", *parts)._to_model().model_dump(), default=str)
    for section in shown.sections:
        assert section.title in model
        for panel in section.panels:
            assert all(f'"{name}"' in model or f":{name}" in model for name in panel.y), panel.title
    assert "a-sweep" in model
    assert len(script.report(shown, "me", parts[1]).blocks) == 2 * len(shown.sections)
