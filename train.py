"""Edit a video: ``python train.py edit=surprised phase=both``; ``--help`` lists edits, families, phases."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from tempcons.cli import check_choices, expand_arguments, expand_stack, report_errors
from tempcons.sweep.job import Objectives, run_job

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def train(config: DictConfig) -> Objectives | None:
    """One job: the whole pipeline for one composed configuration; in a sweep returns its figures."""
    return run_job(config)


if __name__ == "__main__":
    with report_errors():
        sys.argv = expand_stack(expand_arguments(sys.argv), CONF)
        check_choices(sys.argv[1:], CONF)
        train()
