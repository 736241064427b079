"""The evaluate entry: identical, blurred, frozen and noisy videos show what they are."""

import json

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from tempcons.check import InputError
from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.metrics import evaluate
from tempcons.metrics.evaluate import Evaluator, measure
from tempcons.models.flow import DISFlow, FarnebackFlow
from tempcons.models.perceptual import Lite0Distance

FRAMES, SIZE, ANCHOR = 13, 48, 6


class CountingFlow:
    """A flow network that counts how often it is asked."""

    def __init__(self, network) -> None:
        self.network, self.name, self.calls = network, network.name, 0

    def pair(self, a, b):
        self.calls += 1
        return self.network.pair(a, b)


@pytest.fixture(scope="module")
def perceptual() -> Lite0Distance:
    return Lite0Distance(taps=(0, 2))


@pytest.fixture(scope="module")
def videos() -> dict[str, FrameStore]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 20, 20, generator=generator) * 1.8 - 0.9
    wide = torch.nn.functional.interpolate(coarse, size=80, mode="bicubic")
    moving = torch.cat([wide[..., 8 : 8 + SIZE, t : t + SIZE] for t in range(FRAMES)])
    noise = torch.randn(FRAMES, 3, SIZE, SIZE, generator=generator)
    direct = moving + 0.06 * noise
    stores = {
        "input": moving,
        "direct": direct,
        "blurred": gaussian_blur(direct, [7, 7], [1.0]),
        "frozen": direct[ANCHOR : ANCHOR + 1].expand_as(direct),
    }
    return {name: FrameStore(to_frames(pictures)) for name, pictures in stores.items()}


@pytest.fixture(scope="module")
def measured(videos, perceptual):
    flows = [DISFlow(), FarnebackFlow()]
    evaluator = Evaluator(videos["direct"], ANCHOR, flows, perceptual, videos["input"])
    return {name: evaluator.measure(frames) for name, frames in videos.items()}


def test_direct_edit_is_its_own_measure(measured):
    summary = measured["direct"].summary
    assert summary["distance"] == 0
    assert summary["motion"] == summary["sharpness"] == summary["flicker"] == 1
    assert summary["e_warp"] > 0 and summary["e_long"] > 0
    assert 0.8 < summary["motion_px"] < 1.2


def test_clean_video_has_less_error_and_flicker(measured):
    clean, direct = measured["input"].summary, measured["direct"].summary
    for name in ("e_warp", "e_long", "e_long_gap8", "e_warp_input_flow", "e_warp_lai2018"):
        assert clean[name] < 0.5 * direct[name], name
    second = "farneback-w15-x1"
    assert clean["second_flow"][second]["e_warp"] < 0.5 * direct["second_flow"][second]["e_warp"]
    assert clean["flicker"] < 1 and clean["distance"] > 0
    assert clean["e_warp"] == clean["e_warp_input_flow"]


def test_blur_shows(measured):
    blurred, direct = measured["blurred"].summary, measured["direct"].summary
    assert blurred["e_warp"] < direct["e_warp"]
    assert blurred["sharpness"] < 0.3
    assert blurred["distance"] > 0


def test_freezing_shows(measured):
    frozen = measured["frozen"].summary
    assert frozen["e_warp"] == frozen["e_long"] == 0
    assert frozen["motion"] < 0.05
    assert frozen["e_warp_input_flow"] > 10 * measured["input"].summary["e_warp_input_flow"]


def test_too_short_for_a_gap_is_none(measured):
    assert measured["direct"].summary["e_long_gap16"] is None
    assert measured["direct"].summary["e_long_gap8"] is not None


def test_per_frame_rows(measured):
    rows = measured["direct"].per_frame
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    errors = [row["e_warp"] for row in rows[:-1]]
    torch.testing.assert_close(sum(errors) / len(errors), measured["direct"].summary["e_warp"])
    assert "e_warp" not in rows[-1]
    assert [row["frame"] for row in rows if "e_long" in row] == [2, 10]
    assert all("e_warp[farneback-w15-x1]" in row for row in rows[:-1])
    assert all({"distance", "sharpness_abs"} <= row.keys() for row in rows)


def test_every_value_has_its_conditions(measured):
    result = measured["blurred"]
    assert set(result.conditions) == set(result.summary) - {"second_flow"}
    wanted = {"value_range", "channel_rule", "flow_network", "flow_source", "size", "mask_rule", "threshold"}
    for name in ("e_warp", "e_long", "e_warp_input_flow", "e_warp_lai2018"):
        assert wanted <= result.conditions[name].keys()
    assert result.conditions["e_warp"]["flow_source"] == "output"
    assert result.conditions["e_warp_lai2018"]["channel_rule"] == "mean"
    networks = [row["flow_network"] for row in result.rows() if row["metric"] == "e_warp"]
    assert networks == ["dis-medium-x2", "farneback-w15-x1"]
    json.dumps([result.summary, result.per_frame, result.conditions], allow_nan=False)


def test_without_input_video_and_with_short_clips(videos, perceptual):
    short = FrameStore(videos["direct"].array[:3])
    summary = measure(short, short, 1, [DISFlow("fast", 1)], perceptual).summary
    assert summary["e_warp"] > 0 and summary["second_flow"] == {}
    for name in ("e_warp_input_flow", "e_warp_lai2018", "e_long", "flicker"):
        assert summary[name] is None


def test_flows_are_computed_once(videos, perceptual):
    flow = CountingFlow(DISFlow("ultrafast", 1))
    evaluator = Evaluator(videos["direct"], ANCHOR, [flow], perceptual, videos["input"])
    own = (FRAMES - 1) + 2 + 2  # neighbours, long range, gap 8
    evaluator.measure(videos["direct"])
    assert flow.calls == own + (FRAMES - 1)  # and the input's
    evaluator.measure(videos["blurred"])
    assert flow.calls == 2 * own + 2 * (FRAMES - 1)  # and the direct edit's motion
    evaluator.measure(videos["frozen"])
    assert flow.calls == 3 * own + 2 * (FRAMES - 1)


def test_flows_of_a_long_clip_are_not_all_kept(videos, perceptual, measured, monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_KEPT_BYTES", 3 * 20 * SIZE * SIZE)
    flow = CountingFlow(DISFlow())
    evaluator = Evaluator(videos["direct"], ANCHOR, [flow], perceptual, videos["input"])
    found = [evaluator.measure(videos[name]).summary for name in ("direct", "direct")]
    assert len(evaluator.kept) == 3
    again = (FRAMES - 1) - 3
    assert flow.calls == 2 * ((FRAMES - 1) + 2 + 2) + (FRAMES - 1) + again
    for summary in found:
        assert summary["e_warp_input_flow"] == measured["direct"].summary["e_warp_input_flow"]


def test_identity_is_measured_where_a_network_is_there(videos, perceptual, measured):
    def colours(pictures):
        return pictures.mean((2, 3)) + 1

    assert measured["direct"].summary["identity"] is None
    direct, flows = videos["direct"], [DISFlow("ultrafast", 1)]
    result = Evaluator(direct, ANCHOR, flows, perceptual, direct, identity=colours).measure(direct)
    torch.testing.assert_close(result.summary["identity"], 1.0)
    assert all("identity" in row for row in result.per_frame)


def test_same_numbers_twice(videos, perceptual, measured):
    again = measure(
        videos["blurred"], videos["direct"], ANCHOR, [DISFlow(), FarnebackFlow()], perceptual, videos["input"]
    )
    assert again == measured["blurred"]


def test_bad_input_has_one_clear_message(videos, perceptual):
    direct, flows = videos["direct"], [DISFlow()]
    fewer, narrower = FrameStore(direct.array[:5]), FrameStore(np.ascontiguousarray(direct.array[:, :, :40]))
    with pytest.raises(InputError, match="video has 5 frames, direct edit has 13"):
        measure(fewer, direct, ANCHOR, flows, perceptual)
    with pytest.raises(InputError, match="video is 40x48 pixels, direct edit is 48x48"):
        measure(narrower, direct, ANCHOR, flows, perceptual)
    with pytest.raises(InputError, match="input has 5 frames"):
        measure(direct, direct, ANCHOR, flows, perceptual, fewer)
    with pytest.raises(InputError, match="1 frame can't be measured"):
        measure(FrameStore(direct.array[:1]), FrameStore(direct.array[:1]), 0, flows, perceptual)
    with pytest.raises(InputError, match="anchor 13"):
        measure(direct, direct, 13, flows, perceptual)
    with pytest.raises(InputError, match="no flow network"):
        measure(direct, direct, ANCHOR, [], perceptual)
