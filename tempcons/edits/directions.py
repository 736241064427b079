"""Directions in W+: read from files, or computed from the generator's weights (SeFa).

A direction is (L, D), one row per row of the codes; an edit adds a multiple of it to all frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tempcons.check import WeightsError
from tempcons.models.stylegan2 import EqualLinear, Generator
from tempcons.weights.load import load_state_dict, load_tensor


def load_direction(
    path: str | Path, n_latent: int, style_dim: int, rows: Iterable[int] | None = None
) -> Tensor:
    """InterFaceGAN's and STIT's directions: ``.pt`` or ``.npy`` of shape (D,), (1, D), (L, D) or (1, L, D).

    Args:
        rows: rows to move; default all.

    Returns:
        (L, D) float32.

    Raises:
        WeightsError: unreadable file, or another shape (a wrong number of rows is never guessed).
    """
    return on_rows(fit_direction(load_array(path), n_latent, style_dim, str(path)), rows)


def load_array(path: str | Path) -> Tensor:
    """Finite numbers from a ``.npy`` file, or from a ``.pt`` file of one tensor, as float32.

    Raises:
        WeightsError: unreadable file, or values that are not finite.
    """
    path = Path(path)
    value = _load_npy(path) if path.suffix == ".npy" else load_tensor(path).float()
    return check_finite(value, str(path))


def fit_direction(value: Tensor, n_latent: int, style_dim: int, source: str) -> Tensor:
    """Bring the accepted shapes to (L, D).

    Raises:
        WeightsError: any other shape, or values that are not finite.
    """
    shapes = [(style_dim,), (1, style_dim), (n_latent, style_dim), (1, n_latent, style_dim)]
    if tuple(value.shape) not in shapes:
        wanted = ", ".join(map(str, shapes))
        raise WeightsError("edit", f"direction {source} has shape {tuple(value.shape)}", f"wanted: {wanted}")
    return check_finite(value, source).reshape(-1, style_dim).expand(n_latent, style_dim).clone()


def check_finite(value: Tensor, source: str) -> Tensor:
    """Raise WeightsError unless all values are finite."""
    if not value.isfinite().all():
        raise WeightsError("edit", f"direction {source} has values that are not finite")
    return value


def on_rows(direction: Tensor, rows: Iterable[int] | None) -> Tensor:
    """(L, D) direction with zeros in all rows but ``rows``.

    Raises:
        WeightsError: a row that doesn't exist.
    """
    if rows is None:
        return direction
    chosen = sorted(set(rows))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(direction):
        raise WeightsError("edit", f"rows {chosen} of a direction with {len(direction)} rows")
    kept = torch.zeros_like(direction)
    kept[chosen] = direction[chosen]
    return kept


def load_ganspace(
    path: str | Path, component: int, n_latent: int, style_dim: int, rows: Iterable[int] | None = None
) -> Tensor:
    """A GANSpace principal direction, scaled to one standard deviation of the codes along it.

    Args:
        path: file with "comp" (N, D) or (N, 1, D) and "std" (N,).
        component: which one, from 0.
        rows: rows to move; GANSpace's published edits name them.

    Returns:
        (L, D) float32.

    Raises:
        WeightsError: another file, or no such component.

    Source: Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", NeurIPS 2020.
    """
    state = load_state_dict(path)
    if "comp" not in state or "std" not in state or state["std"].numel() != len(state["comp"]):
        raise WeightsError("edit", f"{path} has no matching 'comp' and 'std'", f"it has {sorted(state)[:6]}")
    if not 0 <= component < len(state["comp"]):
        raise WeightsError("edit", f"{path} has components 0..{len(state['comp']) - 1}, not {component}")
    direction = state["comp"][component].float() * state["std"].flatten()[component].float()
    return on_rows(fit_direction(direction, n_latent, style_dim, f"{path}[{component}]"), rows)


@torch.no_grad()
def sefa_directions(generator: Generator, rows: Iterable[int] | None = None, count: int = 5) -> Tensor:
    """Directions of W that change the styles most, from the affine layers' weights alone.

    Eigenvectors of the sum over ``rows`` of A A^T, A being the affine weights of the layer that
    a row drives, each output channel scaled to unit length. The sign is chosen so that the
    component of largest magnitude is positive.

    Args:
        rows: rows of W+ to analyse and to move; default all.
        count: how many, strongest first.

    Returns:
        (count, L, D), unit length per row, zero in other rows.

    Raises:
        WeightsError: a row that doesn't exist, or more directions than D.

    Source: Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs", CVPR 2021.
    """
    if not 1 <= count <= generator.style_dim:
        raise WeightsError("edit", f"{count} SeFa directions of {generator.style_dim}")
    layers = affine_layers(generator)
    chosen = list(range(generator.n_latent) if rows is None else rows)
    template = on_rows(torch.ones(generator.n_latent, generator.style_dim), chosen)
    weights = torch.cat([layers[row].weight for row in chosen]).double().cpu()
    unit = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-12)
    vectors = torch.linalg.eigh(unit.T @ unit).eigenvectors.flip(1).T[:count]
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return (vectors * largest.sign())[:, None].float() * template


def affine_layers(generator: Generator) -> list[EqualLinear]:
    """The affine layer that each row of W+ drives: the convolutions, and the last RGB output."""
    blocks = [generator.conv1, *generator.convs, generator.to_rgbs[-1]]
    return [block.conv.modulation for block in blocks]


def _load_npy(path: Path) -> Tensor:
    """A ``.npy`` file, mapped rather than read, so that its header can't ask for memory."""
    if not path.is_file():
        raise WeightsError("edit", f"no file {path}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError) as error:
        raise WeightsError("edit", f"{path} is no whole .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise WeightsError("edit", f"{path} holds {getattr(array, 'dtype', type(array))}, not numbers")
    return torch.from_numpy(np.array(array, dtype=np.float32))
