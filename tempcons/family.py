"""A model family: generator, encoder, crop rule, flow and perceptual network that belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from tempcons.check import ConfigError, WeightsError, near_names
from tempcons.geometry.quad import CropRule
from tempcons.models.code_sampler import CodeSampler, MappingSampler, mean_style
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.flow import FlowNetwork, RaftFlow, make_flow
from tempcons.models.perceptual import FeatureDistance, Lite0Distance, LpipsDistance, LpipsNet
from tempcons.models.restyle import encoder_view
from tempcons.models.stylegan2 import Generator
from tempcons.weights import registry
from tempcons.weights.assets import Asset, load_asset
from tempcons.weights.build import LoadedEncoder
from tempcons.weights.load import load_encoder, load_generator, load_raft, load_state

# Kinds of official flow networks, and of LPIPS with the name of its trunk's weights.
RAFT_KINDS = ("raft_small", "raft_large")
LPIPS_KINDS = {
    "lpips_alex": ("alex", "alexnet"),
    "lpips_vgg": ("vgg", "vgg16"),
    "lpips_squeeze": ("squeeze", "squeezenet"),
}


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

    def official_weights(self) -> list[str]:
        """Names of the downloads it needs.

        Raises:
            ConfigError: a RAFT whose weights aren't named.
        """
        if self.kind not in RAFT_KINDS:
            return []
        if self.weights is None:
            raise ConfigError("family", f"{self.kind} has no weights", "name them in flow.weights")
        return [self.weights]


@dataclass(frozen=True)
class FamilyConfig:
    """Settings of a family.

    Attributes:
        name: "embedded" or "ffhq".
        crop_scale: side of the crop as a share of FFHQ's.
        crop_centre: centre of the crop, in eye-to-mouth vectors below the eyes.
        generator: name of the generator's weights.
        perceptual: "lite0", "lpips_alex", "lpips_vgg" or "lpips_squeeze".
        encoder: name of the encoder's weights (embedded).
        sampler: name of the code sampler's weights (embedded).
        encoders: names of the encoders' weights by inversion method (ffhq).
        size: resolution that the weights must have (ffhq).
        truncation: of the codes W_z sampled by the mapping network (ffhq).
        alpha_interp: distance of the local regularisation; null: 0.3 of the typical distance (embedded).
        flow: used in training and first in the tables.
        second_flow: the second estimator of the tables.
    """

    name: str
    crop_scale: float
    crop_centre: float
    generator: str
    perceptual: str
    encoder: str | None = None
    sampler: str | None = None
    encoders: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    truncation: float = 1.0
    alpha_interp: float | None = None
    flow: FlowConfig = field(default_factory=FlowConfig)
    second_flow: FlowConfig = field(default_factory=lambda: FlowConfig(kind="farneback"))

    def official_weights(self, encoder: str | None) -> list[str]:
        """Names of the downloads it needs with an inversion's encoder (None: without); none if embedded."""
        if self.name == "embedded":
            return []
        if encoder is not None and encoder not in self.encoders:
            raise ConfigError("family", f"no encoder {encoder!r}", near_names(encoder, self.encoders))
        names = [self.generator] + ([] if encoder is None else [self.encoders[encoder]])
        names += [LPIPS_KINDS[self.perceptual][1]] if self.perceptual in LPIPS_KINDS else []
        return names + self.flow.official_weights() + self.second_flow.official_weights()


class OfficialEncoder(nn.Module):
    """A downloaded encoder, with ReStyle's loop: pictures (B, 3, S, S) in [-1, 1] to codes (B, L, D)."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        super().__init__()
        self.loaded = loaded
        # Registered too, so that they move with this module.
        self.network, self.decoder = loaded.encoder, loaded.generator
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.loaded.invert(encoder_view(pictures))


@dataclass(frozen=True)
class Family:
    """Loaded networks of a family.

    Attributes:
        generator: base generator, eval mode; stages copy it before tuning.
        encoder: aligned pictures (B, 3, S, S) in [-1, 1] to codes (B, L, D); None if no inversion needs it.
        sample_codes: sampler of W_z: (n, random source) to (n, L, D).
        mean_code: (L, D).
        alpha_interp: distance of the local regularisation in this family's code units.
        records: name, sha256 and licence of every weight file used.
        depends: settings that the phases' results depend on beside the weights.
    """

    name: str
    size: int
    crop: CropRule
    generator: Generator
    encoder: nn.Module | None
    sample_codes: Callable[[int, torch.Generator], Tensor]
    mean_code: Tensor
    alpha_interp: float
    flow: FlowNetwork
    flow_size: int
    second_flow: FlowNetwork
    perceptual: FeatureDistance
    device: torch.device
    records: list[dict[str, str]]
    depends: dict[str, Any] = field(default_factory=dict)

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
    if config.kind in RAFT_KINDS:
        return build_raft(config)
    known = ("dis", "farneback", *RAFT_KINDS)
    raise ConfigError("family", f"flow.kind = {config.kind!r}", near_names(config.kind, known))


def build_raft(config: FlowConfig) -> RaftFlow:
    """RAFT from its file, which must hold the kind asked for."""
    [path] = registry.require(config.official_weights()).values()
    model = load_raft(path)
    found = "raft_small" if model.mask_predictor is None else "raft_large"
    if found != config.kind:
        raise WeightsError("family", f"{path} holds {found}, not {config.kind}", "set flow.kind and weights")
    return RaftFlow(model, config.updates, config.kind.replace("_", "-"))


def build_perceptual(kind: str) -> FeatureDistance:
    """The perceptual network of a kind."""
    if kind == "lite0":
        return Lite0Distance()
    if kind not in LPIPS_KINDS:
        known = ("lite0", *LPIPS_KINDS)
        raise ConfigError("family", f"perceptual = {kind!r}", near_names(kind, known))
    net, trunk = LPIPS_KINDS[kind]
    return LpipsDistance(cast(LpipsNet, net), load_state(registry.require([trunk])[trunk]))


def generator_from_asset(asset: Asset) -> Generator:
    """Generator of an embedded file; channel keys come back as integers from JSON."""
    config = dict(asset.config["generator"])
    config["channels"] = {int(k): v for k, v in config["channels"].items()}
    generator = Generator(**config)
    generator.load_state_dict(asset.tensors)
    return generator.requires_grad_(False).eval()


def load_family(config: FamilyConfig, device: torch.device, encoder: str | None = None) -> Family:
    """Load all networks of a family.

    Args:
        encoder: the inversion's encoder, for families that have several.

    Raises:
        ConfigError: unknown family or network kind.
        WeightsError: weights missing or damaged.
    """
    if config.name == "embedded":
        return load_embedded(config, device)
    if config.name == "ffhq":
        return load_official(config, device, encoder)
    raise ConfigError("family", f"family = {config.name!r}", "known: embedded, ffhq")


def load_embedded(config: FamilyConfig, device: torch.device) -> Family:
    """The networks that come with the package."""
    if config.encoder is None or config.sampler is None:
        raise ConfigError("family", "family.encoder or family.sampler is not set", "family=embedded has both")
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
        mean_code=sampler.mean,
        alpha_interp=0.3 * sampler.typical_distance if alpha_interp is None else alpha_interp,
        flow=build_flow(config.flow),
        flow_size=config.flow.size or generator.size,
        second_flow=build_flow(config.second_flow),
        perceptual=build_perceptual(config.perceptual),
        device=device,
        records=[file.record for file in files],
    )


def load_official(config: FamilyConfig, device: torch.device, encoder: str | None) -> Family:
    """Downloaded networks, all of them required at once."""
    if config.alpha_interp is None:
        raise ConfigError("family", "family.alpha_interp is not set", "PTI's is 30")
    names = config.official_weights(encoder)
    paths = registry.require(names)
    loaded = load_generator(paths[config.generator], config.size)
    generator = loaded.generator.requires_grad_(False)
    mean = mean_style(generator) if loaded.latent_avg is None else loaded.latent_avg
    return Family(
        name=config.name,
        size=generator.size,
        crop=CropRule(config.crop_scale, config.crop_centre),
        generator=generator,
        encoder=None if encoder is None else official_encoder(config.encoders[encoder], generator),
        sample_codes=MappingSampler(generator, mean, config.truncation),
        mean_code=mean.expand(generator.n_latent, -1).clone(),
        alpha_interp=config.alpha_interp,
        flow=build_flow(config.flow),
        flow_size=config.flow.size or generator.size,
        second_flow=build_flow(config.second_flow),
        perceptual=build_perceptual(config.perceptual),
        device=device,
        records=[registry.record(name) for name in names],
        depends={
            "flow": asdict(config.flow),
            "alpha_interp": config.alpha_interp,
            "truncation": config.truncation,
        },
    )


def official_encoder(name: str, generator: Generator) -> OfficialEncoder:
    """An encoder whose codes fit the generator.

    Raises:
        WeightsError: it was made for codes of another shape.
    """
    path = registry.require([name])[name]
    loaded = load_encoder(path, generator.size)
    wanted = (generator.n_latent, generator.style_dim)
    if loaded.latent_avg.shape != wanted:
        found = tuple(loaded.latent_avg.shape)
        raise WeightsError("family", f"{path} makes codes {found}, the generator reads {wanted}")
    return OfficialEncoder(loaded)
