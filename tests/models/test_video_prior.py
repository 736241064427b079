"""The U-Net of Deep Video Prior."""

import pytest
import torch

from tempcons.models.video_prior import VideoPriorNet


def test_layers_are_the_published_ones():
    network = VideoPriorNet()
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    down = [(32, 3, 1, 1), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3)]
    down += [(256, 128, 3, 3), (256, 256, 3, 3), (512, 256, 3, 3), (512, 512, 3, 3)]
    reduce = [(32, 64, 3, 3), (64, 128, 3, 3), (128, 256, 3, 3), (256, 512, 3, 3)]
    merge = [(32, 64, 3, 3), (64, 128, 3, 3), (64, 64, 3, 3), (128, 256, 3, 3), (128, 128, 3, 3)]
    merge += [(256, 512, 3, 3), (256, 256, 3, 3)]
    assert sorted(shapes) == sorted([*down, *reduce, *merge, (3, 32, 3, 3)])
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (9, 17)])
def test_any_size_comes_back_at_its_size(size):
    network = VideoPriorNet(outputs=2, width=4)
    assert network(torch.rand(1, 3, *size)).shape == (1, 6, *size)


def test_weights_follow_the_seed():
    one, same, other = (VideoPriorNet(width=4, seed=seed).output.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_gradients_reach_every_weight():
    network = VideoPriorNet(width=4)
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
