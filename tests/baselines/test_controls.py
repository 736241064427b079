"""The two controls: they win the warping error the trivial way, and leave still things alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tempcons.baselines.controls import flow_warped_mean, smooth_codes
from tempcons.media.frames import FrameStore, write_frames
from tempcons.media.range import to_frames
from tempcons.models.flow import DISFlow


class PairFlow:
    """Gives flow both ways."""

    name, differentiable = "pairs", False

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.pair(a, b)[0]


class ConstantFlow(PairFlow):
    """Everything moves by the same whole pixels from frame to frame."""

    def __init__(self, x: float) -> None:
        self.x = x

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        later = 1 if a.flatten()[0] < b.flatten()[0] else -1  # the corner pixel tells the time
        flow = torch.zeros(1, 2, *a.shape[-2:])
        flow[:, 0] = later * self.x
        return flow, -flow


def test_smoothing_keeps_constant_codes_and_the_mean():
    constant = torch.ones(6, 2, 3)
    torch.testing.assert_close(smooth_codes(constant), constant)
    codes = torch.randn(9, 2, 3)
    assert torch.equal(smooth_codes(codes, 0), codes)
    smooth = smooth_codes(codes, 1.0)
    assert smooth.dtype == codes.dtype
    assert smooth.diff(dim=0).square().mean() < 0.3 * codes.diff(dim=0).square().mean()


def test_smoothing_is_a_gaussian_over_time_only():
    codes = torch.zeros(21, 2, 3)
    codes[10, 1, 2] = 1
    smooth = smooth_codes(codes, 1.0)
    wanted = torch.exp(-0.5 * torch.arange(-4.0, 5.0) ** 2)
    torch.testing.assert_close(smooth[6:15, 1, 2], wanted / wanted.sum(), rtol=1e-4, atol=1e-6)
    assert smooth[:, 0].abs().max() == 0


def test_bad_codes_are_refused():
    with pytest.raises(ValueError, match="codes must be"):
        smooth_codes(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="negative"):
        smooth_codes(torch.zeros(3, 2, 4), -1)


def test_mean_by_hand():
    # A gray ramp with a clock in the corner; the ramp moves one pixel right per frame and brightens by 3.
    values = np.zeros((3, 4, 16), np.uint8)
    for t in range(3):
        values[t] = 10 * np.arange(16)[None] - 10 * t + 60 + 3 * t
        values[t, 0, 0] = 10 * t
    frames = FrameStore(np.repeat(values[..., None], 3, axis=-1))
    got = np.concatenate([to_frames(p) for p in flow_warped_mean(frames, ConstantFlow(1.0))])[..., 0]
    middle = slice(2, 14)
    assert np.array_equal(got[1, 2:, middle], values[1, 2:, middle]), "3 below and 3 above cancel"
    assert np.abs(got[0, 2:, middle].astype(int) - values[0, 2:, middle] - 1.5).max() <= 0.5
    # The last column of frame 1 leaves frame 2, so only frame 0 is averaged in: 3/2 darker.
    assert np.abs(got[1, 2:, 15].astype(int) - values[1, 2:, 15] + 1.5).max() <= 0.5


def test_mean_leaves_a_still_video_alone():
    picture = (np.random.default_rng(0).random((1, 32, 32, 3)) * 255).astype(np.uint8)
    frames = FrameStore(np.repeat(picture, 3, axis=0))
    for result in flow_warped_mean(frames, DISFlow("fast", 1)):
        assert np.abs(to_frames(result).astype(int) - picture).max() <= 1


def test_mean_reduces_noise_and_is_written_batch_by_batch(tmp_path):
    clean = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6) - 0.5, size=48, mode="bicubic")
    frames = FrameStore(to_frames(clean + 0.02 * torch.randn(4, 3, 48, 48)))
    write_frames(tmp_path / "mean.npy", (4, 48, 48), flow_warped_mean(frames, DISFlow()))
    mean = FrameStore.open(tmp_path / "mean.npy")
    assert (mean.pictures() - clean).square().mean() < 0.6 * (frames.pictures() - clean).square().mean()


def test_an_invisible_neighbour_is_left_out():
    class Contradicting(PairFlow):
        def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            flow = torch.ones(1, 2, *a.shape[-2:])
            return flow, flow

    frames = FrameStore((np.random.default_rng(0).random((3, 8, 8, 3)) * 255).astype(np.uint8))
    got = np.concatenate([to_frames(p) for p in flow_warped_mean(frames, Contradicting())])
    assert np.array_equal(got, frames.array)
