"""A generator adapted to a text, once for all clips: part of the direct edit."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tempcons.check import WeightsError
from tempcons.edits.config import AdaptConfig, EditConfig
from tempcons.family import Family
from tempcons.models.code_sampler import MappingSampler
from tempcons.store.artefact import Store
from tempcons.training.adaptation import CodeSampler, GeneratorAdaptation, code_loader
from tempcons.training.fit import TrainerConfig, discard_checkpoint, fit
from tempcons.weights import registry
from tempcons.weights.assets import Asset, read_asset, save_asset
from tempcons.weights.load import load_clip

VERSION = 1
KIND, FILE = "generator_difference", "difference.safetensors"


def adapted(config: EditConfig, family: Family, trainer: TrainerConfig, store: Store, seed: int) -> Asset:
    """Differences between the generator adapted to ``config.target`` and the family's own.

    Kept in the store apart from any clip, so that a second clip takes it as it is.

    Raises:
        ConfigError: no texts.
        WeightsError: CLIP's package or weights are missing, or nothing was learned.
        KeyboardInterrupt: stopped by the user; the next run goes on from the last checkpoint.
    """
    config.check_texts()
    source, target, training = config.source or "", config.target or "", config.training or AdaptConfig()
    paths = registry.require(training.clip)
    depends = {
        "version": VERSION,
        **family.reads("networks", "sampling"),
        "texts": [source, target],
        "training": asdict(training),
        "clip": {name: registry.verify(registry.entry(name)) for name in training.clip},
        "precision": trainer.numerics,
        "seed": seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        models = [(load_clip(paths[name]), share) for name, share in training.clip.items()]
        codes = untruncated(family)
        module = GeneratorAdaptation(family.generator, models, (source, target), codes, training, seed)
        loader = code_loader(codes, training, seed)
        epochs = math.ceil(training.steps / len(loader))
        checkpoints = folder / "checkpoint"
        name = f"adapting to {target!r}"
        # A step may leave layers out, which DDP would wait for.
        alone = replace(trainer, devices=1, strategy="auto")
        fit(module, loader, checkpoints, alone, name, epochs=epochs, steps=training.steps)
        discard_checkpoint(checkpoints)
        changed = module.differences()
        if not all(value.isfinite().all() for value in changed.values()):
            raise WeightsError("edit", "the adapted generator is not finite", "lower edit.training.lr")
        licence = "as the generator and the CLIP networks it was made with"
        save_asset(folder / FILE, changed, KIND, {"texts": [source, target]}, licence, half=False)
        return {"texts": [source, target], "tensors": len(changed)}

    asset = read_asset(store.produce("adapt", depends, make, resumable=True) / FILE, KIND)
    told = {"name": config.name, "card": f"StyleGAN-NADA, {source} to {target}"}
    return replace(asset, record=asset.record | told)


def untruncated(family: Family) -> CodeSampler:
    """The family's codes as they are: truncation would hide from training what it cuts off."""
    sampler = family.sample_codes
    return replace(sampler, truncation=1.0) if isinstance(sampler, MappingSampler) else sampler
