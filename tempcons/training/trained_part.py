"""Checkpoints of fits that train a part of what they hold."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class TrainedPart(pl.LightningModule):
    """A module whose checkpoints hold ``trained`` alone: frozen networks are in the cache already.

    ``trained`` names the submodule or parameter that the optimiser changes.
    """

    trained: str

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        kept = {name: value for name, value in state.items() if name.split(".")[0] == self.trained}
        checkpoint["state_dict"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
