"""A model family: generator, encoder, crop rule, flow and perceptual network that belong together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tempcons.check import ConfigError
from tempcons.geometry.quad import CropRule
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.flow import FlowNetwork, make_flow
from tempcons.models.perceptual import FeatureDistance, Lite0Distance
from tempcons.models.stylegan2 import Generator
from tempcons.weights.assets import Asset, load_asset


@dataclass(frozen=True)
class FlowConfig:
    """A flow network by kind ("dis", "farneback", "raft_small", "raft_large") and its settings.

    ``size`` is the side in px at which training computes flow; null the generator's.
    """

    kind: str = "dis"
    size: int | None = None
    preset: str = "medium"
    upscale: int = 2
    updates: int = 12
    weights: str | None = None


@dataclass(frozen=True)
class FamilyConfig:
    """Settings of a family.

    Attributes:
        name: "embedded" or "ffhq".
        crop_scale: side of the crop as a share of FFHQ's.
        crop_centre: centre of the crop, in eye-to-mouth vectors below the eyes.
        alpha_interp: distance of the local regularisation; null: 0.3 of the typical distance.
        flow: used in training and first in the tables.
        second_flow: the second estimator of the tables.
        perceptual: "lite0" or "lpips_alex".
        generator: name of the generator's weights.
        encoder: name of the encoder's weights.
        sampler: name of the code sampler's weights.
    """

    name: str
    crop_scale: float
    crop_centre: float
    generator: str
    encoder: str
    sampler: str
    perceptual: str
    alpha_interp: float | None = None
    flow: FlowConfig = field(default_factory=FlowConfig)
    second_flow: FlowConfig = field(default_factory=lambda: FlowConfig(kind="farneback"))


@dataclass(frozen=True)
class CodeSampler:
    """Plausible W+ codes: a Gaussian in the leading principal directions of real faces' codes.

    Attributes:
        mean: (L, D).
        basis: (K, L, D), each direction scaled by its standard deviation.
        typical_distance: median norm between a face's code and a sampled one.
    """

    mean: Tensor
    basis: Tensor
    typical_distance: float

    def __call__(self, count: int, random: torch.Generator) -> Tensor:
        """(count, L, D) codes."""
        weights = torch.randn(count, len(self.basis), generator=random)
        return self.mean + torch.einsum("nk,kld->nld", weights, self.basis.cpu())


@dataclass(frozen=True)
class Family:
    """Loaded networks of a family.

    Attributes:
        generator: base generator, eval mode; stages copy it before tuning.
        encoder: aligned pictures (B, 3, S, S) in [-1, 1] to codes (B, L, D).
        sample_codes: sampler of W_z.
        alpha_interp: distance of the local regularisation in this family's code units.
        records: name, sha256 and licence of every weight file used.
    """

    name: str
    size: int
    crop: CropRule
    generator: Generator
    encoder: nn.Module
    sample_codes: CodeSampler
    alpha_interp: float
    flow: FlowNetwork
    flow_size: int
    second_flow: FlowNetwork
    perceptual: FeatureDistance
    device: torch.device
    records: list[dict[str, str]]

    def place(self) -> None:
        """Bring the flow and perceptual networks to the device (a fit leaves them on the CPU)."""
        for network in (self.flow, self.second_flow, self.perceptual):
            if isinstance(network, nn.Module):
                network.to(self.device)


def build_flow(config: FlowConfig) -> FlowNetwork:
    """The flow network of a configuration."""
    if config.kind == "dis":
        return make_flow("dis", preset=config.preset, upscale=config.upscale)
    if config.kind == "farneback":
        return make_flow("farneback")
    raise ConfigError("family", f"flow.kind = {config.kind!r}", "known: dis, farneback")


def generator_from_asset(asset: Asset) -> Generator:
    """Generator of an embedded file; channel keys come back as integers from JSON."""
    config = dict(asset.config["generator"])
    config["channels"] = {int(k): v for k, v in config["channels"].items()}
    generator = Generator(**config)
    generator.load_state_dict(asset.tensors)
    return generator.requires_grad_(False).eval()


def load_family(config: FamilyConfig, device: torch.device) -> Family:
    """Load all networks of a family.

    Raises:
        ConfigError: unknown family or network kind.
        WeightsError: weights missing or damaged.
    """
    if config.name != "embedded":
        raise ConfigError("family", f"family = {config.name!r}", "known: embedded")
    files = [
        load_asset(config.generator, "generator"),
        load_asset(config.encoder, "encoder"),
        load_asset(config.sampler, "sampler"),
    ]
    generator = generator_from_asset(files[0])
    encoder = FaceEncoder(**files[1].config["encoder"])
    encoder.load_state_dict(files[1].tensors)
    encoder.requires_grad_(False).eval()
    sampler = CodeSampler(
        files[2].tensors["mean"], files[2].tensors["basis"], files[2].config["typical_distance"]
    )
    alpha_interp = config.alpha_interp
    return Family(
        name=config.name,
        size=generator.size,
        crop=CropRule(config.crop_scale, config.crop_centre),
        generator=generator,
        encoder=encoder,
        sample_codes=sampler,
        alpha_interp=0.3 * sampler.typical_distance if alpha_interp is None else alpha_interp,
        flow=build_flow(config.flow),
        flow_size=config.flow.size or generator.size,
        second_flow=build_flow(config.second_flow),
        perceptual=Lite0Distance(),
        device=device,
        records=[file.record for file in files],
    )
