"""What an edit does to codes and generator, read from its file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tempcons.check import ConfigError, WeightsError
from tempcons.edits.config import STYLE_CLIP, EditConfig, EditSource
from tempcons.edits.directions import load_array, load_direction, load_ganspace, on_rows, sefa_directions
from tempcons.edits.refine import FITS, FittedEdit, refined
from tempcons.edits.style_space import global_direction, shift_styles, style_spread
from tempcons.models.latent_transformer import EDITED_ROWS
from tempcons.models.mapper import LevelsMapper
from tempcons.models.stylegan2 import Generator
from tempcons.store.artefact import hash_file
from tempcons.weights import registry
from tempcons.weights.assets import ASSETS, Asset, load_asset
from tempcons.weights.load import load_clip, load_generator, load_latent_transformer, load_mapper

Record = dict[str, str]


@dataclass(frozen=True)
class Change:
    """An edit as two functions, and the records of its files.

    Attributes:
        records: name, kind, sha256, licence and card of every file read.
        move: codes (T, L, D) to what is added to them; None leaves the codes.
        fit: codes and the clip's generator to what is added to both, in place of ``move``.
        adapt: the clip's generator to the edited one, a new one; None leaves the generator.
        like: has the shape of the edited generator; None: of the clip's.
    """

    records: list[Record]
    move: Callable[[Tensor], Tensor] | None = None
    adapt: Callable[[Generator], Generator] | None = None
    like: Generator | None = None
    fit: Callable[[Tensor, Generator], FittedEdit] | None = None


@dataclass(frozen=True)
class Wanted:
    """An edit of a family, to be loaded: settings, source, base generator and strength."""

    config: EditConfig
    source: EditSource
    base: Generator
    strength: float

    @property
    def official(self) -> Path:
        """The downloaded file."""
        return registry.require([self.source.weights])[self.source.weights]

    @property
    def own(self) -> Path:
        """The user's file."""
        return Path(self.source.weights)


def apply_all(changes: Sequence[Change], codes: Tensor, generator: Generator) -> tuple[Tensor, Generator]:
    """Edited codes and generator.

    Every residual, of codes and of a fitted generator's weights, is taken at the inversion's codes and
    generator, so the order of the edits does not matter; the generator is adapted in the order given.
    """
    moved, clips = codes, generator
    for change in changes:
        if change.fit is not None:
            fitted = change.fit(codes, clips)
            moved = moved + fitted.offset
            generator = with_added(generator, fitted.weights)
        elif change.move is not None:
            moved = moved + change.move(codes)
        if change.adapt is not None:
            generator = change.adapt(generator)
    return moved, generator


def apply_difference(generator: Generator, asset: Asset, strength: float) -> Generator:
    """A copy of the clip's generator with the adapted generator's weight differences added.

    The difference is taken between the adapted and the base network, so the likeness learned by
    pivotal tuning stays. Weights that the asset names as replaced take the place of the clip's
    instead. Source: weight transfer between aligned StyleGANs, Wu 2021 (StyleAlign).
    """
    state = generator.state_dict()
    unknown = sorted(set(asset.tensors) - set(state))
    if unknown:
        raise ConfigError("edit", f"{asset.record['name']} changes unknown layers: {', '.join(unknown[:3])}")
    replaced = set(asset.config.get("replaced", ()))
    differences = {n: v - state[n] if n in replaced else v for n, v in asset.tensors.items()}
    return with_added(generator, {name: strength * value for name, value in differences.items()})


def with_added(generator: Generator, weights: dict[str, Tensor]) -> Generator:
    """A copy with something added to weights, by name (of their shapes); the generator itself for nothing."""
    if not weights:
        return generator
    changed = copy.deepcopy(generator)
    state = changed.state_dict()
    for name, value in weights.items():
        state[name] += value
    return changed


def blend(base: Generator, adapted: Generator, strength: float) -> Generator:
    """The adapted generator for strength 1, else a network between it and ``base``, or beyond.

    Raises:
        WeightsError: networks of different shapes can't be blended.
    """
    if strength == 1:
        return adapted
    state, own = base.state_dict(), adapted.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        raise WeightsError("edit", "the checkpoint has other layers than the base", "set edit.strength=1")
    adapted.load_state_dict({k: torch.lerp(state[k], own[k], strength) for k in own})
    return adapted


def by_difference(asset: Asset, strength: float, others: Sequence[Record] = ()) -> Change:
    """An adapted generator from its differences to the base."""
    return Change([asset.record, *others], adapt=lambda g: apply_difference(g, asset, strength))


def along(direction: Tensor, records: list[Record], strength: float) -> Change:
    """Codes moved along a direction (L, D)."""
    move = strength * direction
    return Change(records, move=lambda codes: move)


def own_record(path: Path, kind: str) -> Record:
    """Record of a user's file."""
    values = {"name": path.name, "kind": kind, "sha256": hash_file(path)}
    return values | {"licence": "the user's own", "card": str(path)}


def load_change(
    config: EditConfig, source: EditSource, family: str, base: Generator, strength: float
) -> Change:
    """The change of a source of any kind but "text", which has to be trained first.

    Raises:
        WeightsError: its file is missing, damaged, or made for another generator.
    """
    loaders = LOADERS | (EMBEDDED if family == "embedded" else {})
    return loaders[source.kind](Wanted(config, source, base, strength))


def _own_direction(wanted: Wanted) -> Change:
    """.npy or .pt, (D,), (1, D), (L, D) or (1, L, D)."""
    base = wanted.base
    direction = load_direction(wanted.own, base.n_latent, base.style_dim, wanted.config.rows)
    return along(direction, [own_record(wanted.own, "direction")], wanted.strength)


def _own_style(wanted: Wanted) -> Change:
    """A direction (S,) in style space, .npy or .pt."""
    direction = load_array(wanted.own)
    record = own_record(wanted.own, "style direction")
    return Change([record], adapt=lambda g: shift_styles(g, direction, wanted.strength))


def _sefa(wanted: Wanted) -> Change:
    """Computed from the base generator's weights: no file."""
    config = wanted.config
    direction = sefa_directions(wanted.base, config.rows, config.component + 1)[config.component]
    return along(direction, [], wanted.strength)


def _embedded_direction(wanted: Wanted) -> Change:
    asset = load_asset(wanted.source.weights, "direction")
    direction = on_rows(asset.tensors["direction"], wanted.config.rows)
    change = along(direction, [asset.record], wanted.strength)
    steps, generator_steps = wanted.config.refine, wanted.config.refine_generator
    if not steps and not generator_steps:
        return change
    move, fit = wanted.strength * direction, FITS[wanted.config.refine_as]
    return replace(
        change, fit=lambda codes, tuned: refined(move, codes, tuned, wanted.base, steps, fit, generator_steps)
    )


def _embedded_mapper(wanted: Wanted) -> Change:
    """A levels mapper; strength 1 is what it was trained for."""
    asset = load_asset(wanted.source.weights, "mapper")
    mapper = mapper_from_asset(asset).requires_grad_(False)
    check_width(ASSETS / f"{wanted.source.weights}.safetensors", mapper.style_dim, wanted.base)
    return Change([asset.record], move=lambda codes: wanted.strength * mapper(codes))


def _embedded_generator(wanted: Wanted) -> Change:
    return by_difference(load_asset(wanted.source.weights, "generator_difference"), wanted.strength)


def _official_direction(wanted: Wanted) -> Change:
    base = wanted.base
    direction = load_direction(wanted.official, base.n_latent, base.style_dim, wanted.config.rows)
    return along(direction, [registry.record(wanted.source.weights)], wanted.strength)


def _ganspace(wanted: Wanted) -> Change:
    base, config = wanted.base, wanted.config
    direction = load_ganspace(wanted.official, config.component, base.n_latent, base.style_dim, config.rows)
    return along(direction, [registry.record(wanted.source.weights)], wanted.strength)


def _mapper(wanted: Wanted) -> Change:
    mapper = load_mapper(wanted.official, wanted.base.n_latent).requires_grad_(False)
    check_width(wanted.official, mapper.style_dim, wanted.base)
    record = registry.record(wanted.source.weights)
    return Change([record], move=lambda codes: wanted.strength * mapper(codes))


def _transformer(wanted: Wanted) -> Change:
    """The strength is the authors' coefficient."""
    network = load_latent_transformer(wanted.official).requires_grad_(False)
    check_width(wanted.official, network.style_dim, wanted.base)
    if network.n_latent != wanted.base.n_latent:
        what = f"{wanted.official} is for codes of {network.n_latent} rows"
        raise WeightsError("edit", what, f"the generator reads {wanted.base.n_latent}")

    def move(codes: Tensor) -> Tensor:
        coefficient = codes.new_full((len(codes),), wanted.strength)
        return network(codes, coefficient, EDITED_ROWS) - codes

    return Change([registry.record(wanted.source.weights)], move=move)


def _style_text(wanted: Wanted) -> Change:
    """StyleCLIP's global direction of two texts."""
    config = wanted.config
    relevance = load_array(wanted.official)
    model = load_clip(registry.require([STYLE_CLIP])[STYLE_CLIP])
    text = model.text(config.target or "") - model.text(config.source or "")
    if relevance.ndim != 2 or relevance.shape[1] != len(text):
        raise WeightsError(
            "edit", f"{wanted.official} has shape {tuple(relevance.shape)}", f"wanted: (S, {len(text)})"
        )
    spread = style_spread(wanted.base, with_rgb=False)
    direction = global_direction(relevance, text, config.threshold, spread)
    records = [registry.record(name) for name in (wanted.source.weights, STYLE_CLIP)]
    return Change(records, adapt=lambda g: shift_styles(g, direction, wanted.strength))


def _checkpoint(wanted: Wanted) -> Change:
    adapted = load_generator(wanted.official, wanted.base.size).generator.requires_grad_(False)
    check_width(wanted.official, adapted.style_dim, wanted.base)
    adapted = blend(wanted.base, adapted, wanted.strength)
    return Change([registry.record(wanted.source.weights)], adapt=lambda g: adapted, like=adapted)


def mapper_from_asset(asset: Asset) -> LevelsMapper:
    """The mapper of an embedded file."""
    mapper = LevelsMapper(**asset.config["mapper"])
    mapper.load_state_dict(asset.tensors)
    return mapper.eval()


def check_width(path: Path, style_dim: int, base: Generator) -> None:
    """Raise WeightsError unless an edit's network is made for codes as wide as the generator's."""
    if style_dim != base.style_dim:
        what = f"{path} is for codes of {style_dim} numbers a row"
        raise WeightsError("edit", what, f"the generator reads {base.style_dim}")


LOADERS: dict[str, Callable[[Wanted], Change]] = {
    "file": _own_direction,
    "style": _own_style,
    "sefa": _sefa,
    "direction": _official_direction,
    "ganspace": _ganspace,
    "mapper": _mapper,
    "transformer": _transformer,
    "style_text": _style_text,
    "checkpoint": _checkpoint,
}
EMBEDDED = {"direction": _embedded_direction, "mapper": _embedded_mapper, "generator": _embedded_generator}
