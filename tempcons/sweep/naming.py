"""Names of sweeps and jobs that depend on what was asked for, never on when or in which order."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from tempcons.store.artefact import hash_file, make_key

# Where results go, who looks at them and which sweep they belong to changes no result.
NOT_IN_KEY = ("hydra", "logger", "output", "sweep")
# Settings that name a file or folder of the user's.
FILES = ("clip.path", "align.landmarks_path", "edit.file")


def job_key(config: DictConfig) -> str:
    """16 hex digits of everything in a composed configuration that can change the job's result.

    Of files that settings name the contents count too: a clip recorded anew is another job.

    Raises:
        OmegaConfBaseException: a reference that can't be resolved.
    """
    settings = {str(key): _plain(config, str(key)) for key in config if key not in NOT_IN_KEY}
    named = {name: OmegaConf.select(config, name) for name in FILES}
    contents = {name: content_hash(Path(path).expanduser().resolve()) for name, path in named.items() if path}
    return make_key("job", settings | {"contents": {k: v for k, v in contents.items() if v is not None}})


def content_hash(path: Path) -> str | None:
    """SHA-256 of a file, or of the names and contents of a folder's files; None if neither is there."""
    if path.is_file():
        return _hash_once(path, path.stat().st_size, path.stat().st_mtime_ns)
    if not path.is_dir():
        return None
    files = sorted(item for item in path.iterdir() if item.is_file())
    listing = {item.name: _hash_once(item, item.stat().st_size, item.stat().st_mtime_ns) for item in files}
    return make_key("folder", listing)


@cache
def _hash_once(path: Path, size: int, changed_ns: int) -> str:
    """A sweep asks for each job; files are read once in a process unless they change."""
    return hash_file(path)


def _plain(config: DictConfig, key: str) -> Any:
    """One setting, references resolved, 1.0 written as 1 (both are the same setting)."""
    value = config[key]
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return _same_numbers(value)


def _same_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _same_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_same_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def choices(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Setting -> ``setting=value`` for each of its values, from the arguments of a multirun.

    A later argument for the same setting replaces an earlier one, as Hydra has it.
    """
    found = {}
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override() and override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
        else:
            values = [override.get_value_element_as_str()]
        found[key] = [f"{key}={value}" for value in values]
    return found


def product(arguments: Sequence[str]) -> list[list[str]]:
    """The jobs of a multirun, each a list of ``setting=value``."""
    return [list(job) for job in itertools.product(*choices(arguments).values())]


def arguments_of(config: DictConfig) -> list[str]:
    """What a multirun was asked for: the sweeper's own grid, then the command line."""
    return combine(OmegaConf.select(config, "hydra.sweeper.params"), config.hydra.overrides.task)


def combine(grid: Mapping[str, Any] | None, task: Sequence[str]) -> list[str]:
    """``setting=values`` of a sweeper's grid, then of the command line."""
    return [*(f"{key}={value}" for key, value in (grid or {}).items()), *task]


def sweep_folder(root: str, name: str | None, grid: Mapping[str, Any] | None, task: Sequence[str]) -> str:
    """``ROOT/sweeps/NAME``; without a name, one that the same command gives again.

    The name holds the swept settings, so that folders can be told apart by eye.
    """
    if name is None:
        arguments = combine(grid, task)
        kept = sorted(a for a in arguments if not a.lstrip("+").startswith(("output.", "sweep.", "logger.")))
        swept = sorted(key for key, values in choices(arguments).items() if len(values) > 1)
        name = "-".join([*swept[:3], make_key("sweep", {"arguments": kept})[:8]]).replace("/", ".")
    return f"{root}/sweeps/{name}"


def prepare_hydra() -> None:
    """Teach OmegaConf ``${sweep_folder:...}`` and ``${job_key:}``, which conf/config.yaml names folders by.

    The folder is cached: Hydra hands the cache on to the jobs, whose own command lines differ.
    """
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_key", lambda *, _root_: job_key(_root_), replace=True)
    # Launchers in conf/ are called as their plugins call them; that Hydra checks ours against theirs is fine.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore")


prepare_hydra()
