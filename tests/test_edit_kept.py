"""How much of an edit a tuned generator keeps, on generators that keep a known share of it."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import tiny_codes, tiny_generator

from experiments.edit_kept import effect, kept
from tempcons.edits.change import Change
from tempcons.models.stylegan2 import Generator


@torch.no_grad()
def faded(generator: Generator, share: float) -> Generator:
    """The same network with a linear picture that is so much paler: every output times ``share``."""
    pale = copy.deepcopy(generator)
    for to_rgb in (pale.to_rgb1, *pale.to_rgbs):
        to_rgb.conv.weight *= share
        to_rgb.bias *= share
    return pale


def edit() -> Change:
    return Change([], move=lambda codes: 0.1 * torch.ones_like(codes))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_the_share_of_a_paler_generator_is_its_paleness(share):
    base = faded(tiny_generator(), 0.1)  # well within [-1, 1]
    codes = tiny_codes(base)
    assert effect(edit(), codes, base).abs().max() > 0
    assert kept(edit(), codes, base, faded(base, share)) == pytest.approx(share, abs=1e-4)
    assert kept(edit(), codes, base, faded(base, share), codes) == pytest.approx(share, abs=1e-4)
    assert kept(edit(), codes, base, base, codes.flip(1)) != pytest.approx(1, abs=1e-2)


def test_an_edit_of_the_generator_counts_as_well():
    base = faded(tiny_generator(), 0.1)
    codes = tiny_codes(base)
    change = Change([], adapt=lambda generator: faded(generator, 0.5))
    torch.testing.assert_close(effect(change, codes, base), -0.5 * base.synthesis(codes).detach())
    assert kept(change, codes, base, faded(base, 0.8)) == pytest.approx(0.8, abs=1e-4)
