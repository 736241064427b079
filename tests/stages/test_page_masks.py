"""Flow colours, mask pictures and the sheet for dashboards."""

import numpy as np
import pytest
import torch
from pages import pair_masks
from PIL import Image

from tempcons.stages.page_masks import (
    COLUMNS,
    flow_key,
    flow_picture,
    full_motion,
    panels,
    section,
    write_sheet,
)


def colour(x: float, y: float, full_px: float = 4.0) -> list[int]:
    return flow_picture(torch.tensor([[[x]], [[y]]]), full_px)[0, 0].tolist()


def test_flow_colours_by_hand():
    assert colour(0, 0) == [255, 255, 255]
    assert colour(4, 0) == [255, 0, 0]
    assert colour(-4, 0) == [0, 255, 255]
    assert colour(2, 0) == [255, 128, 128]
    assert colour(40, 0) == colour(4, 0)
    assert colour(0, 4) == [128, 255, 0] and colour(0, -4) == [128, 0, 255]


def test_the_key_shows_flow_where_it_points():
    key = flow_key()
    middle, last = key.shape[0] // 2, key.shape[0] - 1
    assert key[middle, last].tolist() == [255, 0, 0]
    assert key[middle, middle].tolist() == key[0, 0].tolist() == [255, 255, 255]


def test_masks_are_shown_as_they_are():
    pair = pair_masks(3.0)
    picture, flow, visible, difference, fused = (np.asarray(panel) for panel in panels(pair, 3.0))
    assert (picture == 128).all() and flow[0, 0].tolist() == [255, 0, 0]
    assert visible[0, 0].tolist() == [0, 0, 0] and visible[0, 15].tolist() == [255, 255, 255]
    assert np.array_equal(difference, 255 - visible) or np.abs(difference + visible - 255.0).max() <= 1
    assert (fused == 255).all()
    assert panels(pair_masks(0.0, in_domain=False), 1.0)[3] is None


def test_colours_are_scaled_by_the_motion_there_is():
    assert full_motion({1: pair_masks(2.0), 2: pair_masks(5.0)}) == pytest.approx(5)
    assert full_motion({1: pair_masks(0.0)}) == 1


def test_a_row_leads_to_its_frame():
    html = section({"phase1": {47: pair_masks(2.0)}}, {"phase1": "after <1>"}, list(range(40, 56)))
    assert 'data-seek="7"' in html and "after &lt;1&gt;" in html and "2 px or more" in html


def test_large_masks_are_made_smaller_on_the_page():
    pair = pair_masks(1.0)
    parts = (pair.picture, pair.flow, pair.visible, pair.difference, pair.fused)
    large = type(pair)(*(torch.nn.functional.interpolate(v[None], 400)[0] for v in parts if v is not None))
    html = section({"phase1": {40: large}}, {"phase1": "p"}, [40])
    assert len(html) < 60_000


def test_sheet(tmp_path):
    path = write_sheet(tmp_path / "masks.png", {40: pair_masks(1.0), 41: pair_masks(1.0, False)})
    with Image.open(path) as sheet:
        assert sheet.size == (len(COLUMNS) * 20 - 4, 2 * 36)
        assert sheet.getpixel((1 * 20 + 3, 16 + 3)) == (255, 0, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["masks.png"]
