"""Composed configurations: accepted ones as values, refused ones as tests."""

from __future__ import annotations

import pytest
from tiny import hydra_config

from tempcons.check import ConfigError
from tempcons.schema import Config, parse


def parsed(*overrides: str) -> Config:
    """What ``train.py`` would run with, of these overrides."""
    return parse(hydra_config(list(overrides)))


def refusals(*cases: tuple[list[str], str]) -> pytest.MarkDecorator:
    """Cases of a test with the arguments ``overrides`` and ``message``, named by what is overridden."""
    return pytest.mark.parametrize(
        ("overrides", "message"), cases, ids=[" ".join(overrides) for overrides, _ in cases]
    )


def check_refused(overrides: list[str], message: str) -> None:
    """One ConfigError whose text matches ``message``."""
    with pytest.raises(ConfigError, match=message) as caught:
        parsed(*overrides)
    assert "\n" not in str(caught.value)
