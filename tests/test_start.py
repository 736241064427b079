"""Before the first progress bar nothing heavy is loaded: the clip is read first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import hydra_config
from tiny_family import face_clip

from tempcons import opening, pipeline
from tempcons.schema import parse
from tempcons.sweep import job

ROOT = Path(__file__).parent.parent
# Packages that take about a second or more to load.
HEAVY = (
    "facenet_pytorch",
    "kornia",
    "lightning_fabric",
    "lpips",
    "matplotlib",
    "pytorch_lightning",
    "scipy.signal",
    "scipy.stats",
    "sympy",
    "torch._dynamo",
    "torchmetrics",
    "torchvision",
    "wandb",
)
START = "import sys; {imports}; print(sorted(set({heavy}) & set(sys.modules)))"


def loaded(imports: str, heavy: tuple[str, ...]) -> str:
    """Which of ``heavy`` a fresh interpreter has loaded after ``imports``."""
    code = START.format(imports=imports, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_help_needs_not_even_torch():
    assert loaded("import train, tempcons.sweep.callback", (*HEAVY, "torch")) == "[]"


def test_settings_are_checked_and_the_clip_is_read_without_the_heavy_packages():
    assert loaded("import tempcons.schema, tempcons.opening", HEAVY) == "[]"


def test_the_list_would_show_a_heavy_package():
    assert loaded("import tempcons.training.fit", ("pytorch_lightning",)) == "['pytorch_lightning']"


def test_a_job_reads_the_clip_before_the_pipeline_runs(tmp_path, monkeypatch):
    source, _ = face_clip(tmp_path)
    config = hydra_config([f"clip.path={source}", f"output.cache={tmp_path / 'cache'}"])
    seen = []

    def run(checked, folder, begun):
        seen.append(begun)
        return {}

    monkeypatch.setattr(pipeline, "run", run)
    job.run(config, tmp_path / "run")
    [begun] = seen
    assert isinstance(begun, opening.Opening)
    assert [record["stage"] for record in begun.store.records] == ["clip"]
    assert len(begun.clip.frame_ids) == 6


def test_a_clip_that_is_missing_is_told_of_before_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("the pipeline must not run"))
    config = hydra_config([f"clip.path={tmp_path / 'none.mp4'}", f"output.cache={tmp_path / 'cache'}"])
    with pytest.raises(Exception, match=r"none\.mp4"):
        job.run(config, tmp_path / "run")


def test_the_pipeline_begins_by_itself_where_nobody_did(tmp_path):
    config = hydra_config([f"clip.path={tmp_path / 'none.mp4'}", f"output.cache={tmp_path / 'cache'}"])
    with pytest.raises(Exception, match=r"none\.mp4"):
        pipeline.run(parse(config), tmp_path / "run")
