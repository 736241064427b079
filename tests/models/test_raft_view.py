"""RAFT's grid of cells: flow comes back where the cells look, for any size."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.optical_flow import raft_large, raft_small

from tempcons.geometry.warp import pixel_grid
from tempcons.models.flow import RaftFlow
from tempcons.models.raft_view import STRIDE, CentredView, PaperView

SIZES = [(128, 128), (130, 61), (137, 152)]


def linear_flow(height: int, width: int) -> torch.Tensor:
    """A turn and a zoom: flow that any enlargement draws exactly if it is put in the right place."""
    turn = torch.tensor([[0.02, -0.05], [0.05, 0.01]])
    return torch.einsum("ij,bjhw->bihw", turn, pixel_grid(height, width, torch.zeros(1))) + 1.5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("upscale", [1, 2, 3])
def test_a_centred_view_has_a_cell_at_every_eighth_pixel(size, upscale):
    view, truth = CentredView(upscale), linear_flow(*size)
    seen = view.enter(torch.zeros(1, 3, *size))
    assert all(side % STRIDE == 0 and side >= 128 for side in seen.shape[-2:])
    height, width = (side // STRIDE for side in seen.shape[-2:])
    looked = (pixel_grid(height, width, truth) * STRIDE + 0.5) / upscale - 0.5
    x, y = looked[:, :1], looked[:, 1:]
    at_cells = torch.cat([0.02 * x - 0.05 * y, 0.05 * x + 0.01 * y], 1) + 1.5
    found = view.leave(at_cells * upscale / STRIDE, None, *size)
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=1e-4)


def test_the_papers_view_puts_the_same_flow_elsewhere():
    truth = linear_flow(128, 128)
    found = PaperView().leave(truth[..., ::STRIDE, ::STRIDE] / STRIDE, None, 128, 128)
    assert (found - truth).abs().max() > 0.2


@pytest.mark.parametrize("view", [PaperView(), CentredView(1), CentredView(2)], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_flow_to_start_from_is_the_flow(view, size):
    flow = torch.full((1, 2, *size), 3.0)
    torch.testing.assert_close(view.leave(view.start(flow), None, *size), flow)


def test_cells_look_where_the_view_says():
    """A bright point moves the features most in the cell whose centre it is on."""
    torch.manual_seed(0)
    encoder, view = raft_small(weights=None).context_encoder.eval(), CentredView(1)
    picture = torch.zeros(1, 3, 160, 160)
    with torch.no_grad():
        dark = encoder(view.enter(picture))
        for cell in (7, 11):
            bright = picture.clone()
            bright[..., STRIDE * cell, STRIDE * cell] = 1.0
            change = (encoder(view.enter(bright)) - dark).square().sum(1)
            height, width = change.shape[-2:]
            columns = pixel_grid(height, width, change)[0, 0]
            centre = ((change * columns).sum() / change.sum()).item()
            assert centre == pytest.approx(cell, abs=0.4)


def test_a_centred_network_finds_flow_of_any_size_and_starts_from_flow():
    torch.manual_seed(0)
    network = RaftFlow(raft_small(weights=None), 2, view=CentredView(2))
    a, b = (torch.rand(1, 3, 70, 60) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        pair = network.pair(a, b)
        torch.testing.assert_close(pair[0], network(a, b), atol=1e-4, rtol=1e-4)
        started = network.pair_from(a, b, (pair[0] + 4, pair[1] + 4), 1)
    assert pair[0].shape == (1, 2, 70, 60)
    assert (started[0] - pair[0]).mean() > 2


def test_a_mask_of_neighbours_has_no_centred_view():
    with pytest.raises(ValueError, match="raft_small"), torch.no_grad():
        RaftFlow(raft_large(weights=None), 1, view=CentredView(1))(*torch.zeros(2, 1, 3, 128, 128))
