"""A model family: generator, encoder, crop rule, flow and perceptual network that belong together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tempcons.check import ConfigError, WeightsError, near_names
from tempcons.geometry.quad import CropRule
from tempcons.models import lucas_kanade
from tempcons.models.code_sampler import CodeSampler, MappingSampler, mean_style
from tempcons.models.face_encoder import FaceEncoder, RefiningEncoder
from tempcons.models.flow import FlowNetwork, RaftFlow, make_flow
from tempcons.models.perceptual import FeatureDistance, Lite0Distance, LpipsDistance, LpipsNet
from tempcons.models.raft_view import CentredView
from tempcons.models.restyle import encoder_view
from tempcons.models.stylegan2 import Generator
from tempcons.weights import registry
from tempcons.weights.assets import Asset, list_assets, load_asset, read_asset
from tempcons.weights.build import LoadedEncoder
from tempcons.weights.load import load_encoder, load_generator, load_raft, load_state_dict

# The embedded encoder with its refiner, by the name of the inversion that uses it.
REFINED = "refined"
# alpha_interp as a share of the typical distance between a face's code and a sampled one, where it isn't set.
TYPICAL_SHARE = 0.3
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

    ``size`` is the side in px at which training computes flow; null the generator's. A RAFT's weights are a
    download named in ``weights``, or RAFT-small of one's own: ``asset``, a file's name among those that come
    with the package, or the path of a .safetensors file (experiments/zoo/train_flow.py writes such).
    """

    kind: str = "dis"
    size: int | None = None
    preset: str = "medium"
    upscale: int = 2
    updates: int = 12
    weights: str | None = None
    asset: str | None = None

    def __post_init__(self) -> None:
        if (self.size is not None and self.size < 1) or self.upscale < 1 or self.updates < 1:
            found = f"size {self.size}, upscale {self.upscale}, updates {self.updates}"
            raise ConfigError("config", f"the family's flow has {found}", "1 or more of each")
        if self.asset is not None and (self.kind != "raft_small" or self.weights is not None):
            found = f"flow.asset = {self.asset!r} with kind = {self.kind!r}, weights = {self.weights!r}"
            raise ConfigError("config", found, "an asset needs flow.kind=raft_small flow.weights=null")

    def official_weights(self) -> list[str]:
        """Names of the downloads it needs.

        Raises:
            ConfigError: a RAFT whose weights aren't named.
        """
        if self.kind not in RAFT_KINDS or self.asset is not None:
            return []
        if self.weights is None:
            hint = "name them in flow.weights, or RAFT-small of your own in flow.asset"
            raise ConfigError("family", f"{self.kind} has no weights", hint)
        return [self.weights]

    def load_asset(self) -> Asset | None:
        """Its own RAFT-small; None if it has none.

        Raises:
            WeightsError: the file is missing, damaged, or of another kind.
        """
        if self.asset is None:
            return None
        if not self.asset.endswith(".safetensors"):
            if self.asset not in list_assets():
                hint = "train one (experiments/zoo/README.md), or family.flow.kind=dis"
                raise WeightsError("family", f"no flow network {self.asset!r} comes with the package", hint)
            return load_asset(self.asset, "flow")
        path = Path(self.asset)
        if not path.is_file():
            raise WeightsError("family", f"no file {path}", "train one: experiments/zoo/README.md")
        return read_asset(path, "flow")


@dataclass(frozen=True)
class FamilyConfig:
    """Settings of a family.

    Attributes:
        name: "embedded" or "ffhq".
        crop_scale: side of the crop as a share of FFHQ's.
        crop_centre: centre of the crop, in eye-to-mouth vectors below the eyes.
        crop_fade: beyond the picture its reflection blurs and fades out, as in FFHQ.
        generator: name of the generator's weights.
        perceptual: "lite0", "lpips_alex", "lpips_vgg" or "lpips_squeeze".
        encoder: name of the encoder's weights (embedded).
        refiner: name of the weights of the network that corrects its codes, for encoder "refined" (embedded).
        refiner_passes: how often it does.
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
    crop_fade: bool = False
    encoder: str | None = None
    refiner: str | None = None
    refiner_passes: int = 3
    sampler: str | None = None
    encoders: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    truncation: float = 1.0
    alpha_interp: float | None = None
    flow: FlowConfig = field(default_factory=FlowConfig)
    second_flow: FlowConfig = field(default_factory=lambda: FlowConfig(kind="farneback"))

    def __post_init__(self) -> None:
        if self.refiner_passes < 1:
            found = f"family.refiner_passes = {self.refiner_passes}"
            raise ConfigError("config", found, "1 or more; inversion=encoder corrects nothing")
        if not self.crop_scale > 0:
            raise ConfigError("config", f"family.crop_scale = {self.crop_scale}", "it must be positive")
        if not 0 <= self.truncation <= 1:
            raise ConfigError("config", f"family.truncation = {self.truncation}", "a share from 0 to 1")
        if self.alpha_interp is not None and not self.alpha_interp > 0:
            raise ConfigError("config", f"family.alpha_interp = {self.alpha_interp}", "positive, or null")

    def official_weights(self, encoder: str | None) -> list[str]:
        """Names of the downloads it needs with an inversion's encoder (None: without)."""
        measuring = self.measuring_weights()
        if self.name == "embedded":
            return measuring
        if encoder is not None and encoder not in self.encoders:
            raise ConfigError("family", f"no encoder {encoder!r}", near_names(encoder, self.encoders))
        return [self.generator] + ([] if encoder is None else [self.encoders[encoder]]) + measuring

    def measuring_weights(self) -> list[str]:
        """Downloads of the perceptual and flow networks; none if they come with a package."""
        trunk = [LPIPS_KINDS[self.perceptual][1]] if self.perceptual in LPIPS_KINDS else []
        names = trunk + self.flow.official_weights() + self.second_flow.official_weights()
        return list(dict.fromkeys(names))


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
        depends: what results depend on, by part: hashes of weights and settings (:func:`depends_on`).
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
    depends: dict[str, dict[str, Any]]

    def reads(self, *parts: str) -> dict[str, dict[str, Any]]:
        """The parts of ``depends`` that a stage reads, for its key."""
        return {part: self.depends[part] for part in parts}

    def place(self) -> None:
        """Bring the flow and perceptual networks to the device (a fit leaves them on the CPU)."""
        for network in (self.flow, self.second_flow, self.perceptual):
            if isinstance(network, nn.Module):
                network.to(self.device)


@dataclass(frozen=True)
class Coding:
    """A family's way between pictures and codes; as in :class:`Family`."""

    generator: Generator
    encoder: nn.Module | None
    sample_codes: Callable[[int, torch.Generator], Tensor]
    mean_code: Tensor
    alpha_interp: float


def build_flow(config: FlowConfig, asset: Asset | None = None) -> FlowNetwork:
    """The flow network of a configuration; ``asset`` is the one it names, if any."""
    if config.kind == "dis":
        return make_flow("dis", preset=config.preset, upscale=config.upscale)
    if config.kind == "farneback":
        return make_flow("farneback")
    if asset is not None:
        return own_raft(asset, config.updates)
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


def own_raft(asset: Asset, updates: int) -> RaftFlow:
    """RAFT-small under torchvision's names, seeing pictures as it was trained to.

    Raises:
        WeightsError: tensors of another network, or no word on how it sees pictures.
    """
    from torchvision.models.optical_flow import raft_small  # torchvision takes seconds to load

    network, name = raft_small(weights=None), asset.record["name"]
    try:
        network.load_state_dict(asset.tensors)
    except RuntimeError as error:
        raise WeightsError("family", f"{name} is no RAFT-small", str(error)) from error
    told = asset.config.get("flow", {})
    if not {"upscale", "refined"} <= told.keys():
        hint = "experiments/zoo/train_flow.py writes it"
        raise WeightsError("family", f"{name} does not say how it is used (upscale, refined)", hint)
    own = f"raft-small-own-x{told['upscale']}"
    return RaftFlow(network, updates, own, CentredView(told["upscale"]), told["refined"])


def build_perceptual(kind: str) -> FeatureDistance:
    """The perceptual network of a kind."""
    if kind == "lite0":
        return Lite0Distance()
    if kind not in LPIPS_KINDS:
        known = ("lite0", *LPIPS_KINDS)
        raise ConfigError("family", f"perceptual = {kind!r}", near_names(kind, known))
    net, trunk = LPIPS_KINDS[kind]
    return LpipsDistance(cast(LpipsNet, net), load_state_dict(registry.require([trunk])[trunk]))


def generator_from_asset(asset: Asset) -> Generator:
    """Generator of an embedded file; channel keys come back as integers from JSON."""
    config = dict(asset.config["generator"])
    config["channels"] = {int(k): v for k, v in config["channels"].items()}
    generator = Generator(**config)
    generator.load_state_dict(asset.tensors)
    return generator.requires_grad_(False).eval()


def encoder_from_asset(asset: Asset) -> FaceEncoder:
    """Encoder or refiner of an embedded file."""
    encoder = FaceEncoder(**asset.config["encoder"])
    encoder.load_state_dict(asset.tensors)
    return encoder.requires_grad_(False).eval()


def load_family(config: FamilyConfig, device: torch.device, encoder: str | None = None) -> Family:
    """Load all networks of a family.

    Args:
        encoder: the inversion's encoder, for families that have several; "refined" the embedded one's with
            its refiner.

    Raises:
        ConfigError: unknown family or network kind.
        WeightsError: weights missing or damaged.
    """
    if config.name == "embedded":
        return load_embedded(config, device, encoder)
    if config.name == "ffhq":
        return load_official(config, device, encoder)
    raise ConfigError("family", f"family = {config.name!r}", "known: embedded, ffhq")


def load_embedded(config: FamilyConfig, device: torch.device, encoder_name: str | None = None) -> Family:
    """The networks that come with the package; the encoder with its refiner if it is called "refined"."""
    if config.encoder is None or config.sampler is None:
        raise ConfigError("family", "family.encoder or family.sampler is not set", "family=embedded has both")
    names = {"generator": config.generator, "encoder": config.encoder, "sampler": config.sampler}
    if encoder_name == REFINED:
        if config.refiner is None:
            raise ConfigError("family", "family.refiner is not set", "family=embedded has one")
        names["refiner"] = config.refiner
    files = {part: load_asset(name, part) for part, name in names.items()}
    generator = generator_from_asset(files["generator"])
    encoder: nn.Module = encoder_from_asset(files["encoder"])
    if "refiner" in files:
        refiner = encoder_from_asset(files["refiner"])
        # Its own generator: the family's moves between devices by itself.
        encoder = RefiningEncoder(encoder, refiner, copy.deepcopy(generator), config.refiner_passes).eval()
    sampler = CodeSampler(
        files["sampler"].tensors["mean"],
        files["sampler"].tensors["basis"],
        files["sampler"].config["typical_distance"],
    )
    records = [file.record for file in files.values()]
    own: dict[str, Any] = {part: file.record["sha256"] for part, file in files.items()}
    if "refiner" in own:
        own["refiner"] = {"sha256": own["refiner"], "passes": config.refiner_passes}
    records += [registry.record(name) for name in config.measuring_weights()]
    alpha_interp = config.alpha_interp
    if alpha_interp is None:
        alpha_interp = TYPICAL_SHARE * sampler.typical_distance
    return assemble(
        config, Coding(generator, encoder, sampler, sampler.mean, alpha_interp), device, records, own
    )


def load_official(config: FamilyConfig, device: torch.device, encoder: str | None) -> Family:
    """Downloaded networks, all of them required at once."""
    if config.alpha_interp is None:
        raise ConfigError("family", "family.alpha_interp is not set", "PTI's is 30")
    names = config.official_weights(encoder)
    paths = registry.require(names)
    loaded = load_generator(paths[config.generator], config.size)
    generator = loaded.generator.requires_grad_(False)
    records = [registry.record(name) for name in names]
    hashes = {record["name"]: record["sha256"] for record in records}
    own = {"generator": hashes[config.generator]}
    if encoder is not None:
        own["encoder"] = hashes[config.encoders[encoder]]
    mean = mean_style(generator) if loaded.latent_avg is None else loaded.latent_avg
    coding = Coding(
        generator,
        None if encoder is None else official_encoder(config.encoders[encoder], generator),
        MappingSampler(generator, mean, config.truncation),
        mean.expand(generator.n_latent, -1).clone(),
        config.alpha_interp,
    )
    return assemble(config, coding, device, records, own)


def assemble(
    config: FamilyConfig,
    coding: Coding,
    device: torch.device,
    records: list[dict[str, str]],
    networks: dict[str, Any],
) -> Family:
    """A family of loaded networks, with the flow and perceptual networks of its configuration.

    Args:
        records: of all weight files.
        networks: hashes of those of ``coding``, for :func:`depends_on`.
    """
    own, second_own = config.flow.load_asset(), config.second_flow.load_asset()
    records = records + [asset.record for asset in (own, second_own) if asset is not None]
    return Family(
        name=config.name,
        size=coding.generator.size,
        crop=CropRule(config.crop_scale, config.crop_centre, config.crop_fade),
        **vars(coding),
        flow=build_flow(config.flow, own),
        flow_size=config.flow.size or coding.generator.size,
        second_flow=build_flow(config.second_flow, second_own),
        perceptual=build_perceptual(config.perceptual),
        device=device,
        records=records,
        depends=depends_on(config, networks, records, own, second_own),
    )


def flow_depends(config: FlowConfig, hashes: dict[str, str], own: Asset | None) -> dict[str, Any]:
    """A flow network's settings and the hashes of its weights; an asset is its hash, whatever its name."""
    settings = {name: value for name, value in asdict(config).items() if name != "asset"}
    if own is None:
        return {**settings, "sha256": [hashes[name] for name in config.official_weights()]}
    sharpened = {"sharpened": lucas_kanade.SETTINGS} if own.config.get("flow", {}).get("refined") else {}
    return {**settings, **sharpened, "sha256": [own.record["sha256"]]}


def depends_on(
    config: FamilyConfig,
    networks: dict[str, Any],
    records: list[dict[str, str]],
    own_flow: Asset | None = None,
    own_second_flow: Asset | None = None,
) -> dict[str, dict[str, Any]]:
    """What stages' results depend on in a family, by part.

    Args:
        networks: hashes of "generator", "encoder" and, where they have a file, "sampler" and "refiner"
            (with its passes).
        records: of all weight files, for the hashes of flow and perceptual networks.
        own_flow: the asset of the flow in training, ``own_second_flow`` that of the second opinion.

    Returns:
        "networks" (codes come from them), "perceptual", "flow", "second_flow", and "sampling" (of the local
        regularisation).
    """
    hashes = {record["name"]: record["sha256"] for record in records}
    trunk = LPIPS_KINDS[config.perceptual][1] if config.perceptual in LPIPS_KINDS else None
    return {
        "networks": {part: networks.get(part) for part in ("generator", "encoder")}
        | {part: networks[part] for part in ("refiner",) if part in networks},
        "perceptual": {"kind": config.perceptual, "sha256": trunk and hashes[trunk]},
        "flow": flow_depends(config.flow, hashes, own_flow),
        "second_flow": flow_depends(config.second_flow, hashes, own_second_flow),
        "sampling": {
            "sampler": networks.get("sampler"),
            "truncation": config.truncation,
            "alpha_interp": config.alpha_interp,
        },
    }


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
