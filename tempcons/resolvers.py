"""What conf/ computes beside references: OmegaConf learns it when this is imported."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf


def for_path(path: str, value: Any, *, _parent_: DictConfig) -> Any:
    """``${for_path:demo,32}``: the value where the settings around it have this ``path``, else null."""
    return value if _parent_.get("path") == path else None


OmegaConf.register_new_resolver("for_path", for_path, replace=True)
