"""Lucas-Kanade steps: nearer to the truth, still where nothing is seen, not fooled by brightness."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from tempcons.geometry.warp import pixel_grid, warp
from tempcons.models.lucas_kanade import SMOOTHNESS, blurred, refine, step

SIZE = 48
INNER = (..., slice(8, -8), slice(8, -8))


def texture(seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((SIZE, SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return torch.from_numpy(smooth / np.abs(smooth).max()).permute(2, 0, 1)[None]


def moved_pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """a, b, F_{a->b}: a turn, a zoom and a shift."""
    turn = torch.tensor([[0.03, -0.02], [0.02, 0.01]])
    flow = torch.einsum("ij,bjhw->bihw", turn, pixel_grid(SIZE, SIZE, torch.zeros(1)) - SIZE / 2) + 0.7
    b = texture()
    return warp(b, flow, "border")[0], b, flow


def length(flow: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(flow[INNER], dim=1).mean()


def test_an_error_of_half_a_pixel_shrinks_to_a_tenth():
    a, b, flow = moved_pair()
    error = torch.tensor([0.4, -0.3]).view(1, 2, 1, 1)
    assert length(refine(flow + error, a, b) - flow) < 0.05


def test_the_truth_stays():
    a, b, flow = moved_pair()
    assert length(refine(flow, a, b) - flow) < 0.02
    assert refine(torch.zeros_like(flow), a, a).abs().max() < 1e-5


def test_where_nothing_is_seen_flow_is_only_smoothed():
    flat = torch.full((1, 3, SIZE, SIZE), 0.3)
    flow = torch.randn(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    smooth = blurred(blurred(flow, SMOOTHNESS), SMOOTHNESS)
    torch.testing.assert_close(refine(flow, flat, flat, windows=(3.0, 2.0)), smooth)


def test_noise_does_not_add_up_over_the_steps():
    a, b, flow = moved_pair()
    random = torch.Generator().manual_seed(0)
    a, b = (x + 0.03 * torch.randn(x.shape, generator=random) for x in (a, b))
    errors = [length(refine(flow, a, b, windows=(2.0,) * steps) - flow) for steps in (2, 8)]
    assert errors[1] < 0.05
    assert errors[1] < 1.3 * errors[0]


def test_a_brighter_frame_has_not_moved():
    a, b, flow = moved_pair()
    error = torch.tensor([0.4, -0.3]).view(1, 2, 1, 1)
    assert length(refine(flow + error, a, b + 0.1) - flow) < 0.08


def test_a_step_solves_the_normal_equations():
    """With one window over everything, a plane's slope and difference give its shift at once."""
    x, y = pixel_grid(SIZE, SIZE, torch.zeros(1)).split(1, 1)
    slope = torch.stack([torch.sin(x / 3), torch.cos(y / 2)], 2)
    wanted = torch.tensor([0.2, -0.1])
    difference = -(slope * wanted.view(1, 1, 2, 1, 1)).sum(2)
    found = step(difference, slope, 6.0)
    torch.testing.assert_close(
        found[INNER], wanted.view(1, 2, 1, 1).expand_as(found[INNER]), atol=2e-3, rtol=0
    )


def test_gradients_into_the_pictures_are_those_of_finite_differences():
    a, b, flow = (x.double()[..., 16:28, 16:28] for x in moved_pair())
    inputs = [x.clone().requires_grad_(True) for x in (a, b)]

    def refined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return refine(flow + 0.3, one, other, windows=(2.0,))

    assert torch.autograd.gradcheck(refined, inputs, fast_mode=True)
