"""Edit a video: ``python train.py edit=surprised phase=both``; ``--help`` lists edits, families, phases."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from tempcons.cli import check_choices, expand_arguments, report_errors

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def train(config: DictConfig) -> float | None:
    """One job: the whole pipeline for one composed configuration; returns its E_warp."""
    with report_errors():
        from hydra.core.hydra_config import HydraConfig

        from tempcons.pipeline import run
        from tempcons.schema import parse

        results = run(parse(config), Path(HydraConfig.get().runtime.output_dir))
        return results["e_warp"]


if __name__ == "__main__":
    sys.argv = expand_arguments(sys.argv)
    with report_errors():
        check_choices(sys.argv[1:], CONF)
    train()
