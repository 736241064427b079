"""The settings of ``train.py`` and the edits that they name, for scripts that time, draw or judge them."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir

from tempcons.edits.change import Change, load_change
from tempcons.family import Family
from tempcons.schema import Config, parse

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"


def composed(*overrides: str) -> Config:
    """The settings of ``train.py`` with these arguments."""
    with initialize_config_dir(str(CONF), version_base=None):
        return parse(compose("config", overrides=list(overrides)))


def change_of(name: str, family: Family, *overrides: str) -> Change:
    """An edit as ``edit=NAME`` applies it, at the strength of its configuration."""
    edit = composed(f"edit={name}", *overrides).edit
    return load_change(edit, edit.source_in(family.name), family.name, family.generator, edit.strength)
