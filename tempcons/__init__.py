"""Temporally consistent semantic video editing."""

__version__ = "0.1.0"
