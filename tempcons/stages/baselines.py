"""Other methods for the same edit -> their frames, under one interface and cached as every stage is.

A baseline is its settings, and a method ``frames`` from the direct edit and the family's networks to frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tempcons.baselines import FRAMES
from tempcons.check import ConfigError, InputError, near_names
from tempcons.edits.change import apply_all, load_change
from tempcons.edits.config import EditConfig
from tempcons.family import Family
from tempcons.media.frames import FrameStore
from tempcons.stages.evaluate import CONTROLS
from tempcons.stages.render import render_frames
from tempcons.store.artefact import Store
from tempcons.training.hyper import Hyper
from tempcons.training.settings import DvpConfig, ExplicitConfig
from tempcons.types import Edited, Latents
from tempcons.weights.assets import save_state

if TYPE_CHECKING:
    from tempcons.training.context import PhaseContext

VERSION = 1
# Names that a run's own videos and figures have.
TAKEN = ("input", "direct", "phase1", "phase2", "controls", "side_by_side", *CONTROLS)
NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class Bench:
    """What baselines find beside the direct edit and the networks.

    Attributes:
        edit: name of the edit.
        latents: the inversion, for those that edit by themselves.
        context: recipe and trainer of the run.
        phases: the phases under another recipe (name, hyperparameters) to the last one's frames.
        store: where results are kept.
    """

    edit: str
    latents: Latents
    context: PhaseContext
    phases: Callable[[str, Hyper], FrameStore]
    store: Store


class Baseline(Protocol):
    """One other method; its fields are its settings."""

    def official_weights(self, edit: str, family: str) -> list[str]:
        """Names of the downloads it needs.

        Raises:
            TempconsError: it can't be had for this edit or family; known before anything costly starts.
        """
        ...

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        """T frames, position by position those of the direct edit.

        Raises:
            TempconsError: what the user can mend.
        """
        ...


class NeedsNoWeights:
    """For baselines that go with every edit and family and download nothing."""

    def official_weights(self, edit: str, family: str) -> list[str]:
        """Nothing."""
        return []


@dataclass(frozen=True)
class DeepVideoPriorBaseline(DvpConfig, NeedsNoWeights):
    """Deep Video Prior: one network trained on the clip."""

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        from tempcons.baselines.dvp import deep_video_prior  # Lightning takes seconds to load

        trainer, seed = bench.context.trainer, bench.context.seed
        depends = {
            "version": VERSION,
            "edited": edited.key,
            "settings": asdict(self),
            "precision": trainer.numerics,
            "devices": trainer.devices,
            "seed": seed,
            **family.reads("perceptual"),
        }

        def make(folder: Path) -> None:
            deep_video_prior(edited.aligned, edited.frames, family.perceptual, self, trainer, folder, seed)

        return FrameStore.open(bench.store.produce("dvp", depends, make, resumable=True) / FRAMES)


@dataclass(frozen=True)
class ExplicitBaseline(ExplicitConfig, NeedsNoWeights):
    """Codes optimised one by one under the losses of phase 1."""

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        depends = {
            "version": VERSION,
            "edited": edited.key,
            "settings": asdict(self),
            **bench.context.depends("phase1"),
            **family.reads("perceptual", "flow"),
        }

        def make(folder: Path) -> dict[str, Any]:
            from tempcons.baselines.explicit import optimise_codes

            codes = optimise_codes(edited, family, bench.context, self, folder)
            save_state(folder / "codes.safetensors", {"codes": codes}, {})
            render_frames(edited.generator, codes, folder / FRAMES, family.device)
            return {"moved_rms": (codes - edited.codes).square().mean().sqrt().item()}

        return FrameStore.open(bench.store.produce("wplus", depends, make, resumable=True) / FRAMES)


@dataclass(frozen=True)
class LatentTransformerBaseline:
    """Latent Transformer: the edit by one of its own, every frame by itself.

    Attributes:
        edits: what stands for an edit, by the edit's name.
    """

    edits: dict[str, EditConfig]

    def official_weights(self, edit: str, family: str) -> list[str]:
        """Those of the edit that stands for this one."""
        families = sorted({name for own in self.edits.values() for name in own.sources})
        if family not in families:
            what = f"latent_transformer does not exist for family={family}"
            raise ConfigError("baselines", what, f"it exists for: {', '.join(families)}; or leave it out")
        if edit not in self.edits:
            what = f"latent_transformer has nothing that stands for edit={edit}"
            raise ConfigError("baselines", what, near_names(edit, self.edits))
        return self.edits[edit].official_weights(family)

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        own, latents = self.edits[bench.edit], bench.latents
        source = own.source_in(family.name)
        change = load_change(own, source, family.name, family.generator, own.strength)
        depends = {
            "version": VERSION,
            "latents": latents.key,
            "strength": own.strength,
            "sha256": [record["sha256"] for record in change.records],
        }

        def make(folder: Path) -> None:
            codes, generator = apply_all([change], latents.codes, latents.generator)
            render_frames(generator, codes, folder / FRAMES, family.device)

        return FrameStore.open(bench.store.produce("latent_transformer", depends, make) / FRAMES)


@dataclass(frozen=True)
class RecipeBaseline(NeedsNoWeights):
    """The same phases under another recipe."""

    recipe: str
    hyper: Hyper

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        return bench.phases(self.recipe, self.hyper)


@dataclass(frozen=True)
class FolderBaseline:
    """Results of any other tool: a video or a folder of frames."""

    path: str

    def official_weights(self, edit: str, family: str) -> list[str]:
        """Nothing; but the results must be there."""
        if not self.source.exists():
            what = f"no such file or folder: {self.source}"
            hint = f"looked from {Path.cwd()}; give a video or a folder of frames"
            raise InputError("baselines", what, hint)
        return []

    @property
    def source(self) -> Path:
        return Path(self.path).expanduser()

    def frames(self, edited: Edited, family: Family, bench: Bench) -> FrameStore:
        from tempcons.baselines.folder import content_hashes, frames_of_other_tool

        depends = {"version": VERSION, "edited": edited.key, "sha256": content_hashes(self.source)}

        def make(folder: Path) -> None:
            frames_of_other_tool(self.source, edited.frames, folder / FRAMES)

        return FrameStore.open(bench.store.produce("folder", depends, make) / FRAMES)


# By name in the settings. A path under any name is a FolderBaseline, a recipe a RecipeBaseline.
KINDS: dict[str, type] = {
    "dvp": DeepVideoPriorBaseline,
    "wplus": ExplicitBaseline,
    "latent_transformer": LatentTransformerBaseline,
}
RECIPES = ("released_code",)


def check_name(name: str) -> None:
    """Raise ConfigError unless a baseline can be called so: its video and its row get the name."""
    if name in TAKEN or not NAME.fullmatch(name):
        found = "stands for something else" if name in TAKEN else "is no plain name"
        raise ConfigError("config", f"baselines: {name!r} {found}", "letters, digits and _, as in dvp")


def unknown(name: str, value: Any) -> ConfigError:
    """What to say of settings that no baseline has."""
    hint = near_names(name, [*KINDS, *RECIPES, "folder"])
    what = f"no baseline {name!r} (with {value!r})"
    return ConfigError("config", what, f"{hint}; results of another tool are +baselines.NAME=PATH")


def run(
    baselines: Mapping[str, Baseline], edited: Edited, family: Family, bench: Bench
) -> dict[str, FrameStore]:
    """Frames of every baseline, by name.

    Raises:
        TempconsError: what the user can mend.
        KeyboardInterrupt: stopped; what is trained goes on from its last epoch.
    """
    return {name: baseline.frames(edited, family, bench) for name, baseline in baselines.items()}
