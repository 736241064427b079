"""Small networks with weights made by rule give the numbers recorded when all oracles passed.

They keep the mathematics in place where the oracle folder is absent.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from oracle_state import Network, filled
from torch import Tensor

from tempcons.models.discriminator import Discriminator
from tempcons.models.e4e import E4EEncoder
from tempcons.models.irse import IRBackbone
from tempcons.models.latent_transformer import LatentClassifier, LatentTransformer
from tempcons.models.mapper import LevelsMapper
from tempcons.models.restyle import ReStyleEncoder
from tempcons.models.stylegan2 import Generator

RECORD = Path(__file__).with_name("recorded_outputs.json")
CHANNELS = {4: 8, 8: 6, 16: 4}


def rule(seed: int, table: str) -> dict[str, object]:
    """A rule of :func:`fill_by_rule` from lines of pattern, kind and two numbers."""
    rows = [line.split() for line in table.strip().splitlines()]
    return {"seed": seed, "rules": [[key, kind, float(a), float(b)] for key, kind, a, b in rows]}


RULE = rule(
    5,
    r"""
    .*(kernel|resample_filter)                keep   0   0
    (style\.|.*mapping\.mapping\.)\d\.weight  normal 0.0 100.0
    (style\.|.*mapping\.mapping\.)\d\.bias    normal 0.0 10.0
    .*modulation\.bias                        normal 1.0 0.1
    .*bias|.*noise\.weight                    normal 0.0 0.1
    fcs\..*weight                             fan_in 0.0 1.4
    .*                                        normal 0.0 1.0
    """,
)
# Deep residual networks need a rule that keeps the features' size.
ENCODER_RULE = rule(
    6,
    r"""
    .*num_batches_tracked                                            keep   0    0
    .*running_var                                                    abs    0.5  0.5
    .*bias|.*running_mean                                            normal 0.0  0.1
    .*linear\.weight                                                 normal 0.0  1.0
    (input_layer|.*\.res_layer)\.2\.weight                           normal 0.25 0.05
    input_layer\.1\.weight|.*(shortcut_layer\.1|res_layer\.0)\.weight normal 1.0  0.1
    .*res_layer\.4\.weight                                           normal 0.4  0.05
    .*                                                               fan_in 0.0  1.3
    """,
)


def signal(*shape: int) -> Tensor:
    """A fixed input without a random generator."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(count * 0.7 + torch.cos(count * 0.013)).reshape(shape).float()


def by_rule(network: Network) -> Network:
    return filled(network, ENCODER_RULE if isinstance(network, IRBackbone) else RULE)


def outputs() -> dict[str, Tensor]:
    g = by_rule(Generator(16, 8, 2, channels=CHANNELS))
    mapper = by_rule(LevelsMapper(8, 10))
    return {
        "generator": g.synthesis(signal(1, 6, 8)),
        "generator without noise": g.synthesis(signal(1, 6, 8), noise="none"),
        "mapping": g.mapping(signal(2, 8), 0.7, signal(8), 3),
        "discriminator": by_rule(Discriminator(16, CHANNELS, 256.0))(signal(4, 3, 16, 16)),
        "e4e": by_rule(E4EEncoder(64, dim=16))(signal(1, 3, 256, 256)),
        "restyle-psp": by_rule(ReStyleEncoder(6, False, dim=16))(signal(1, 6, 256, 256)),
        "restyle-e4e": by_rule(ReStyleEncoder(6, True, dim=16))(signal(1, 6, 256, 256)),
        "mapper": mapper(signal(2, 10, 8)),
        "latent transformer": by_rule(LatentTransformer(6, 8))(signal(2, 6, 8), signal(2), rows=4),
        "latent classifier": by_rule(LatentClassifier((48, 8, 4)))(signal(2, 6, 8)),
    }


def summary(value: Tensor) -> list[float]:
    flat = value.double().flatten()
    return [flat.mean().item(), flat.abs().mean().item(), *flat[:: max(1, len(flat) // 6)][:6].tolist()]


@pytest.fixture(scope="module")
def computed() -> dict[str, Tensor]:
    with torch.no_grad():
        return outputs()


@pytest.mark.parametrize("name", sorted(json.loads(RECORD.read_text())) if RECORD.exists() else [])
def test_output_equals_the_record(name: str, computed: dict[str, Tensor]) -> None:
    got, want = summary(computed[name]), json.loads(RECORD.read_text())[name]
    assert got == pytest.approx(want, rel=1e-3, abs=1e-4 * max(map(abs, want)))


def test_every_network_is_on_record(computed: dict[str, Tensor]) -> None:
    assert set(computed) == set(json.loads(RECORD.read_text()))
