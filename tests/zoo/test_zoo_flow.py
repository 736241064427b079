"""Synthetic motion is what it says; the flow training learns, reports, goes on and exports."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_small

from experiments.zoo import evaluate_flow
from experiments.zoo.evaluate_flow import estimators, read_flow, verdict
from experiments.zoo.flow_learning import (
    all_updates,
    cropped,
    matching_entropy,
    matching_loss,
    sequence_loss,
)
from experiments.zoo.flow_truth import clip_frames, end_point_errors, real_pairs, synthetic_pairs, zero_flow
from experiments.zoo.running import REPORTS, rate_at, run
from experiments.zoo.synthetic_motion import (
    Chance,
    Motion,
    MotionPair,
    blob,
    composed,
    make_pairs,
    place_layer,
)
from experiments.zoo.train_flow import ASSET, FlowSettings, FlowTraining, export_flow, go_on_from
from tempcons.geometry.warp import pixel_grid, warp
from tempcons.models.flow import RaftFlow
from tempcons.models.raft_view import CentredView
from tempcons.weights.assets import read_asset

CLEAN = Motion(photometric=0.0)


def faces_of(count: int, size: int = 64) -> torch.Tensor:
    """(count, 3, size, size) smooth pictures."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def test_the_flow_brings_frame_b_to_frame_a_where_it_is_visible():
    pair = make_pairs(faces_of(16), CLEAN, torch.Generator().manual_seed(1))
    moved, _ = warp(pair.b, pair.flow)
    error = (moved - pair.a).abs().mean(1, keepdim=True)
    seen = (error * pair.visible).sum() / pair.visible.sum()
    hidden = (error * (1 - pair.visible)).sum() / (1 - pair.visible).sum()
    still = ((pair.b - pair.a).abs().mean(1, keepdim=True) * pair.visible).sum() / pair.visible.sum()
    assert seen < 0.35 * still and hidden > 5 * seen


def test_a_shift_hides_what_an_occluder_covers():
    size = 32
    chance = Chance(torch.Generator().manual_seed(0), 1)
    still, moving = torch.zeros(1, 2, size, size), torch.zeros(1, 2, size, size)
    moving[:, 0] = 6
    texture, mask = torch.zeros(1, 3, size, size), torch.zeros(1, 1, size, size)
    mask[..., 8:16, 16:24] = 1
    below = place_layer(chance, texture, torch.ones_like(mask), still, (1.0, 1.0))
    above = place_layer(chance, texture + 1, mask, moving, (1.0, 1.0))
    visible = composed([below, above]).visible[0, 0]
    # The occluder is at columns 10..17 in frame a and at 16..23 in frame b.
    assert (visible[8:16, 18:24] == 0).all()
    assert (visible[8:16, 10:18] == 1).all()
    assert (visible[20:30, :] == 1).all()


def test_an_occluder_has_an_inside_and_an_outside():
    mask = blob(Chance(torch.Generator().manual_seed(0), 8), 64)
    assert ((mask > 0.9) | (mask < 0.1)).float().mean() > 0.8 and (mask > 0.9).any(3).any(2).any(1).sum() >= 6


def test_the_same_seed_gives_the_same_pairs():
    first, second = (make_pairs(faces_of(4), Motion(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.a, second.a) and torch.equal(first.flow, second.flow)


def test_zero_flow_errs_by_the_length_of_the_motion():
    pictures = ((faces_of(8) + 1) * 127.5).byte()
    pair = next(synthetic_pairs(pictures, 4, CLEAN))
    errors = end_point_errors(zero_flow, iter([pair]))
    length = torch.linalg.vector_norm(pair.flow, dim=1, keepdim=True)
    assert errors["epe"] == pytest.approx(
        ((length * pair.visible).sum() / pair.visible.sum()).item(), rel=1e-4
    )
    assert errors["all"] == pytest.approx(length.mean().item(), rel=1e-4)


def test_real_frames_are_moved_by_a_flow_that_dis_finds(face_folder):
    frames = clip_frames(face_folder / "pictures", 2, 128)
    judged = estimators(None, [])
    dis, zero = (end_point_errors(judged[n], real_pairs(frames, 1))["epe"] for n in ("dis-medium-x2", "zero"))
    assert dis < 0.5 * zero


def test_frames_of_the_cache_are_read_as_they_are(tmp_path):
    stored = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3), np.uint8)
    np.save(tmp_path / "frames.npy", stored)
    frames = clip_frames(tmp_path / "frames.npy", 3, 32)
    expected = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(frames, expected)


def test_what_is_trained_is_what_is_used():
    torch.manual_seed(0)
    network, view = raft_small(weights=None).eval(), CentredView(2)
    a, b = faces_of(2, 64).split(1)
    with torch.no_grad():
        trained = all_updates(network, a, b, 3, view)[-1]
    assert trained.abs().max() > 0
    torch.testing.assert_close(RaftFlow(network, 3, view=view)(a, b), trained, atol=2e-4, rtol=1e-3)


def test_matching_is_cheapest_at_the_right_cell():
    height, width = 3, 4
    certain = torch.full((1, 1, height * width), -9.0)
    certain[0, 0, 1 * width + 2] = 0.0
    at = [
        matching_entropy(certain, torch.tensor([[[x], [y]]]), height, width).item()
        for x, y in ((2.0, 1.0), (2.5, 1.0), (1.0, 2.0), (2.5, 1.5))
    ]
    assert at == pytest.approx([0.0, 4.5, 9.0, 6.75])


def test_features_learn_to_match():
    torch.manual_seed(0)
    network, view = raft_small(weights=None).train(), CentredView(1)
    pair = make_pairs(faces_of(4, 128), Motion(photometric=0.0), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(network.feature_encoder.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        loss = matching_loss(network, pair, view)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_square_of_a_pair_keeps_its_truth():
    random = torch.Generator().manual_seed(0)
    grid = pixel_grid(16, 16, torch.zeros(1)).expand(2, -1, -1, -1)
    flow = torch.zeros(2, 2, 16, 16)
    flow[:, 0] = 3
    part = cropped(MotionPair(grid, grid, flow, torch.ones(2, 1, 16, 16)), 8, random)
    corner = part.a[..., :1, :1]
    torch.testing.assert_close(part.a - corner, pixel_grid(8, 8, torch.zeros(1)).expand(2, -1, -1, -1))
    assert part.b.equal(part.a) and (corner <= 8).all()
    # What moves right by 3 px leaves the square from its last three columns.
    assert (part.visible[..., :5] == 1).all() and (part.visible[..., 5:] == 0).all()


def test_later_updates_weigh_more_and_hidden_points_less():
    truth = torch.zeros(1, 2, 4, 4)
    visible = torch.ones(1, 1, 4, 4)
    pair = MotionPair(truth, truth, truth, visible)
    wrong, right = truth + 1, truth
    assert sequence_loss([wrong, right], pair, 0.8, 0.3) == pytest.approx(0.8)
    assert sequence_loss([right, wrong], pair, 0.8, 0.3) == pytest.approx(1.0)
    unseen = MotionPair(truth, truth, truth, 0 * visible)
    assert sequence_loss([wrong], unseen, 0.8, 0.3) == pytest.approx(0.3)


def test_the_rate_rises_then_falls():
    rates = [rate_at(share / 100) for share in range(101)]
    assert rates[0] < 0.1 and max(rates) > 0.95 and rates.index(max(rates)) <= 3 and rates[-1] < 0.03


def test_two_steps_then_two_more_and_the_asset(two_steps):
    pictures = ((faces_of(6, 128) + 1) * 127.5).byte()
    settings = FlowSettings(batch=1, updates=1, test_pairs=1)
    for expected in (2, 4):
        torch.manual_seed(0)
        module = FlowTraining(pictures, pictures, settings, Motion())
        before = {k: v.clone() for k, v in module.network.state_dict().items()}
        run(module, two_steps, {})
        assert int(module.taken) == expected
        assert any(not torch.equal(before[k], v) for k, v in module.network.state_dict().items())
    rows = [json.loads(line) for line in (two_steps.out / REPORTS).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4] and rows[1]["minutes"] >= rows[0]["minutes"]
    assert {"raft/epe", "zero/epe", "dis/epe"} <= set(rows[0])
    flow = read_flow(two_steps.out / ASSET)
    a, b = faces_of(2, 128).split(1)
    a.requires_grad_()
    flow(a, b).sum().backward()
    assert flow.updates == 1 and a.grad is not None and a.grad.abs().sum() > 0
    again = FlowTraining(pictures, pictures, settings, Motion())
    go_on_from(again, two_steps.out / ASSET)
    kept = read_asset(two_steps.out / ASSET, "flow").tensors
    for network in (again.network, again.average):
        for name, value in network.state_dict().items():
            assert torch.equal(value, kept[name].to(value)), name


def test_half_precision_finds_nearly_the_same_flow():
    torch.manual_seed(0)
    network, view = raft_small(weights=None).eval(), CentredView(2)
    a, b = faces_of(2, 64).split(1)
    with torch.no_grad():
        single = all_updates(network, a, b, 3, view)
        with torch.autocast("cpu", torch.bfloat16):
            half = all_updates(network, a, b, 3, view)
    assert all(flow.dtype == torch.float32 for flow in half)
    # Positions in half precision would be off by an eighth of a px and more.
    assert (half[-1] - single[-1]).abs().mean() < 0.03 * single[-1].abs().mean()


def test_a_flow_must_beat_dis_and_not_lose_on_real_frames():
    dis = {"epe": 1.0}
    good, slow = {"epe": 0.9}, {"epe": 1.2}
    names = "dis-medium-x2", "raft-small-8-x1"
    synthetic = dict(zip(names, (dis, good), strict=True))
    assert verdict(synthetic, {"clip": dict(zip(names, (dis, good), strict=True))}) == {names[1]: True}
    assert verdict(synthetic, {"clip": dict(zip(names, (dis, slow), strict=True))}) == {names[1]: False}


def test_one_command_gives_errors_and_seconds(face_folder, tmp_path, monkeypatch, capsys):
    export_flow(raft_small(weights=None), tmp_path / "flow.safetensors", updates=1, upscale=1)
    pictures = face_folder / "pictures"
    files = [f"--faces={pictures}", f"--clip={pictures}", f"--flow={tmp_path}/flow.safetensors"]
    counts = ["--updates=1", "--pairs=1", "--frames=1", "--repeats=1"]
    monkeypatch.setattr(sys, "argv", ["script", *files, *counts, f"--out={tmp_path}/found.json"])
    with torch.set_grad_enabled(True):  # the script turns gradients off for good
        evaluate_flow.main()
    shown, found = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    networks = {"dis-medium-x2", "dis-fine-x2", "raft-small-own-1", "raft-small-own-x1-1-lk"}
    assert set(found["synthetic"]) == set(found["real"]["pictures"]) == {"zero", *networks}
    assert set(found["pair_seconds"]) == networks and found["threads"] == torch.get_num_threads()
    for name, seconds in found["pair_seconds"].items():
        with_gradient = {"with_gradient"} if name.startswith("raft") else set()
        assert set(seconds) == {"without_gradient"} | with_gradient
        assert all(value > 0 for value in seconds.values())
    assert "with_gradient" in shown.split("seconds of a core")[1]
