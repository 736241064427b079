"""How a run begins: what it needs is checked, then the clip is read.

Apart from the stages that train, so that a wrong path or a missing file is told of, and the first progress
bar seen, before the seconds that Lightning takes to load.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.runtime import pick_device, prepare_process
from tempcons.schema import Config, writable
from tempcons.stages import clip
from tempcons.store.artefact import Store
from tempcons.types import Clip
from tempcons.weights import registry

SMALLEST_FREE_MB = 300


@dataclass(frozen=True)
class Opening:
    """The clip, and the cache that it is in."""

    store: Store
    clip: Clip


def open_run(config: Config, folder: Path) -> Opening:
    """Check places, packages, weights and device, then read the clip.

    Raises:
        TempconsError: something the user can mend.
    """
    prepare_process(config.trainer.num_threads, config.seed)
    for place in (folder, Path(config.output.cache)):
        writable(place)
        check_space(place)
    store = Store(Path(config.output.cache))
    config.edit.check_packages(config.family.name)
    registry.require(official_weights(config))
    pick_device(config.trainer.accelerator)
    return Opening(store, clip.run(config.clip, store))


def official_weights(config: Config) -> list[str]:
    """Names of all downloads that a run needs; none for ``family=embedded``."""
    return [
        *config.family.official_weights(config.inversion.encoder),
        *config.edit.official_weights(config.family.name),
        *baseline_weights(config),
    ]


def baseline_weights(config: Config) -> list[str]:
    """Names of the downloads of the baselines alone."""
    edit, family = config.edit.name, config.family.name
    return [
        name for baseline in config.baselines.values() for name in baseline.official_weights(edit, family)
    ]


def check_space(folder: Path) -> None:
    """Raise InputError when the disk is nearly full: better now than in the middle."""
    free = shutil.disk_usage(folder).free / 1e6
    if free < SMALLEST_FREE_MB:
        raise InputError(
            "output",
            f"{free:.0f} MB free at {folder}, {SMALLEST_FREE_MB} MB needed",
            "free some space, or set output.root and output.cache",
        )
