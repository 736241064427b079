"""train.py with a stand-in for the pipeline, whose figures follow from the settings at once.

``SWEEP_APP_STOP_AT`` names an alpha whose jobs wait to be killed when they run for the first time. Every run
of a job leaves its process number in ran.txt, and under Ray its node in node.txt. ``SWEEP_APP_PAUSE_S`` makes
jobs last a while.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

from tempcons.check import ConfigError
from tempcons.cli import report_errors
from tempcons.store.artefact import write_json
from tempcons.sweep import job

CONF = Path(__file__).parent.parent / "conf"


def figures(lambda_r: float, alpha: float) -> dict[str, float]:
    """More regularisation keeps the edit, larger steps remove flicker."""
    e_warp, distance = 1e-4 * (1 + lambda_r) / (1 + 10 * alpha), alpha / (1 + lambda_r)
    return {"e_warp": e_warp, "e_long": 2 * e_warp, "distance": distance, "sharpness": 0.95, "motion": 1.0}


def stand_in(config: DictConfig, folder: Path) -> dict[str, float]:
    """What the pipeline leaves behind, without its work."""
    is_first = not (folder / "ran.txt").exists()
    with (folder / "ran.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if "ray" in sys.modules:
        node_id = sys.modules["ray"].get_runtime_context().get_node_id()
        (folder / "node.txt").write_text(node_id)
    time.sleep(float(os.environ.get("SWEEP_APP_PAUSE_S", 0)))
    if config.alpha < 0:
        raise ConfigError("config", f"alpha = {config.alpha}", "0 or more")
    if config.alpha > 1:
        raise ValueError("a fault of the program")
    if is_first and str(config.alpha) == os.environ.get("SWEEP_APP_STOP_AT"):
        (folder / "waiting").touch()
        time.sleep(600)
    direct = {"e_warp": 9e-4, "e_long": 2e-3, "distance": 0.0, "sharpness": 1.0, "motion": 1.0}
    found = figures(config.lambda_r, config.alpha)
    write_json(folder / "metrics.json", {"direct": direct, "phase2": found, "controls": {}})
    write_json(folder / "manifest.json", {"settings": {"alpha": config.alpha}, "outputs": {}})
    return found


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def train(config: DictConfig) -> job.Objectives | None:
    """As in train.py."""
    job.run = stand_in
    return job.run_job(config)


if __name__ == "__main__":
    with report_errors():
        train()
    sys.exit(0)
