"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason='notebooks need the extra "dev"')
nbclient = pytest.importorskip("nbclient", reason='notebooks need the extra "dev"')

FOLDER = Path(__file__).parent.parent / "notebooks"
PATIENCE_S = 900
RESULTS = {
    "01_first_edit": ["first_edit/side_by_side.mp4", "first_edit/report.html", "first_edit/masks_phase1.png"],
    "02_read_a_sweep": ["sweeps/notebook/report.html", "sweeps/notebook/pareto.svg"],
}


def test_every_notebook_is_known():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_outputs_are_not_kept(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.id


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_it_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPCONS_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(notebook, timeout=PATIENCE_S, resources=place).execute(env=dict(os.environ))
    said = [text for cell in notebook.cells for text in texts(cell)]
    assert not any("Traceback" in text for text in said)
    for result in RESULTS[name]:
        assert (tmp_path / result).stat().st_size > 0, result
    shown = {kind for cell in notebook.cells for kind in kinds(cell)}
    assert {"01_first_edit": "image/png", "02_read_a_sweep": "image/svg+xml"}[name] in shown


def texts(cell) -> list[str]:
    """What a cell printed."""
    return [output.text for output in cell.get("outputs", []) if output.output_type == "stream"]


def kinds(cell) -> set[str]:
    """Kinds of what a cell displayed."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
