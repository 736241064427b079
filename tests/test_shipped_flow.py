"""The RAFT-small that comes with the package: found by name, far better than no motion, differentiable."""

from __future__ import annotations

import pytest
import torch
from composed import parsed

from experiments.zoo.flow_truth import Estimator, clip_frames, end_point_errors, real_pairs, zero_flow
from experiments.zoo.synthetic_motion import Chance, Motion, make_pairs, noise_texture
from tempcons.family import load_family
from tempcons.losses.photometric import consistency_loss
from tempcons.media.read import demo_clip
from tempcons.models.flow import RaftFlow
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.weights.assets import ASSETS

SIZE = 128
# Centre square of the clip that the face fills.
FACE = 0.5
# Error on moved frames of the demo clip, as a share of the motion: 0.137 measured, and a third more.
SHARE_OF_MOTION = 0.18


@pytest.fixture(scope="module")
def family():
    return load_family(parsed("family=embedded_raft").family, torch.device("cpu"))


def errors(estimate: Estimator, seed: int) -> dict[str, float]:
    """End-point errors on pairs of textures that no training saw."""
    chance = Chance(torch.Generator().manual_seed(seed), 8)
    pictures = noise_texture(chance, SIZE).clamp(-1, 1)
    pairs = [make_pairs(pictures, Motion(), torch.Generator().manual_seed(seed))]
    return end_point_errors(estimate, iter(pairs))


def test_it_comes_with_its_licence_and_card(family):
    assert isinstance(family.flow, RaftFlow) and family.flow.name.startswith("raft-small-own")
    [record] = [record for record in family.records if record["kind"] == "flow"]
    assert "Apache-2.0" in record["licence"]
    assert "End-point error" in (ASSETS / record["card"]).read_text()


def test_it_is_far_better_than_no_motion_on_unseen_textures(family):
    found, zero = errors(family.flow, 0), errors(zero_flow, 0)
    assert found["epe"] < 0.4 * zero["epe"] and found["fast"] < 0.4 * zero["fast"]


def test_it_finds_how_frames_of_the_demo_clip_were_moved(family):
    frames = clip_frames(demo_clip(), 3, SIZE, FACE)
    found, zero = (end_point_errors(each, real_pairs(frames, 1))["epe"] for each in (family.flow, zero_flow))
    print(f"{found / zero:.3f} of the motion")
    assert found < SHARE_OF_MOTION * zero


def test_still_pictures_hardly_move(family):
    frame = clip_frames(demo_clip(), 1, SIZE, FACE)
    assert torch.linalg.vector_norm(family.flow(frame, frame), dim=1).mean() < 0.25


def test_both_ways_agree(family):
    frames = clip_frames(demo_clip(), 2, SIZE, FACE)
    pair = next(real_pairs(frames[:1], 1))
    there, back = family.flow.pair(pair.a, pair.b)
    torch.testing.assert_close(there, family.flow(pair.a, pair.b), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(back, family.flow(pair.b, pair.a), atol=1e-2, rtol=1e-2)


def test_the_flow_term_has_a_gradient_that_lowers_it(family):
    """A step against the gradient of L_eps into the pictures makes the round trip shorter."""
    pair = next(real_pairs(clip_frames(demo_clip(), 1, SIZE, FACE), 1))
    masks = FlowMaskCallback(family.flow, SIZE, in_domain=False)
    moved = pair.b.clone().requires_grad_(True)
    loss = consistency_loss(masks.pair(pair.a, moved, None))
    [gradient] = torch.autograd.grad(loss, moved)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    with torch.no_grad():
        step = 0.05 * gradient / gradient.abs().max()
        lower = consistency_loss(masks.pair(pair.a, pair.b - step, None))
    assert lower < loss
