"""Names of RAFT's weights: from the authors' checkpoints to torchvision's classes.

Source: Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

PARALLEL_PREFIX = "module."
# Whole-key patterns in order; the first that matches gives the new name.
RULES = [
    (r"(\w+)net\.conv1\.(.+)", r"\1net.convnormrelu.0.\2"),
    (r"(\w+)net\.norm1\.(.+)", r"\1net.convnormrelu.1.\2"),
    (r"(\w+)net\.conv2\.(.+)", r"\1net.conv.\2"),
    (r"(\w+net\.layer\d\.\d)\.conv(\d)\.(.+)", r"\1.convnormrelu\2.0.\3"),
    (r"(\w+net\.layer\d\.\d)\.norm(\d)\.(.+)", r"\1.convnormrelu\2.1.\3"),
    (r"update_block\.encoder\.convc(\d)\.(.+)", r"update_block.motion_encoder.convcorr\1.0.\2"),
    (r"update_block\.encoder\.convf(\d)\.(.+)", r"update_block.motion_encoder.convflow\1.0.\2"),
    (r"update_block\.encoder\.conv\.(.+)", r"update_block.motion_encoder.conv.0.\1"),
    (r"update_block\.gru\.conv([zrq])(\d)\.(.+)", r"update_block.recurrent_block.convgru\2.conv\1.\3"),
    (r"update_block\.gru\.conv([zrq])\.(.+)", r"update_block.recurrent_block.convgru1.conv\1.\2"),
    (r"update_block\.mask\.0\.(.+)", r"mask_predictor.convrelu.0.\1"),
    (r"update_block\.mask\.2\.(.+)", r"mask_predictor.conv.\1"),
]
ENCODERS = {"fnet.": "feature_encoder.", "cnet.": "context_encoder."}
# The authors' blocks hold the normalisation of their shortcut twice, here and in downsample.1.
SHORTCUT_TWICE = re.compile(r"[fc]net\.layer\d\.0\.norm3\..+")


def torchvision_key(key: str) -> str | None:
    """torchvision's name of an original key (without "module."), None for a tensor held twice."""
    if SHORTCUT_TWICE.fullmatch(key):
        return None
    for pattern, replacement in RULES:
        if re.fullmatch(pattern, key):
            key = re.sub(pattern, replacement, key)
            break
    for short, name in ENCODERS.items():
        if key.startswith(short):
            return name + key.removeprefix(short)
    return key


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict (with or without "module.") under torchvision's names."""
    renamed = {torchvision_key(k.removeprefix(PARALLEL_PREFIX)): v for k, v in state.items()}
    return {key: value for key, value in renamed.items() if key is not None}
