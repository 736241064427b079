"""Warping error, occlusion and warp against the reference implementations' recorded numbers."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tempcons.geometry.occlusion import visible_lai, visible_xu
from tempcons.geometry.warp import inside, round_trip_error, warp
from tempcons.media.range import to_pictures
from tempcons.metrics.ewarp import LaiWarpError, e_warp_lai2018

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("TEMPCONS_ORACLES", ROOT / "../shared/oracles"))
CASES = sorted(FOLDER.glob("warp_error_*.json"))
MOST_MASK_DIFFERENCES = 1e-3

pytestmark = pytest.mark.skipif(not CASES, reason=f"no warp_error oracle under {FOLDER}")


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def case(request) -> dict[str, torch.Tensor]:
    about = json.loads(request.param.read_text())
    return load_file(FOLDER / about.get("file", request.param.with_suffix(".safetensors").name))


def frame_pairs(case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = to_pictures(case["in/frames_uint8"].permute(0, 2, 3, 1).numpy())
    return pictures[:-1], pictures[1:]


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def mostly_equal(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got != wanted).float().mean() <= MOST_MASK_DIFFERENCES


def test_occlusion_of_lai2018(case):
    visible = visible_lai(case["in/flow_fw"], case["in/flow_bw"])
    mostly_equal(1 - visible[:, 0], case["out/occlusion_fw"].float())


def test_warped_next_frame(case):
    _, later = frame_pairs(case)
    warped, _ = warp((later + 1) / 2, case["in/flow_fw"], padding="border")
    close(warped, case["out/warped_next"])


def test_warp_error_of_lai2018(case):
    pair = *frame_pairs(case), case["in/flow_fw"], case["in/flow_bw"]
    close(e_warp_lai2018(*pair), case["out/warp_error_per_pair"].flatten())
    metric = LaiWarpError()
    for index in range(len(pair[0])):
        metric.update(*(tensor[index : index + 1] for tensor in pair))
    close(metric.compute().float(), case["out/warp_error_video"].flatten()[0])


def test_round_trip_error(case):
    error = round_trip_error(case["in/flow_fw"], case["in/flow_bw"])
    close(error, case["out/veg_occlusion_err"])
    mostly_equal((error > 1).float(), case["out/veg_occlusion"].float())
    close(torch.exp(-5 * error), case["out/veg_soft_mask_exp_m5_err"])


def test_forward_backward_check(case):
    flows = case["in/flow_fw"], case["in/flow_bw"]
    within = inside(flows[0])
    # Ours also masks pixels that leave the picture; the reference judges them by the check alone.
    mostly_equal(visible_xu(*flows), within * (1 - case["out/veg_occ_bidirection"].float()))
