"""Eq. 2, 4 and 7: codes, residuals and the local regularisation by hand."""

import pytest
import torch

from tempcons.losses.local_regularisation import local_regularisation_loss, move_code
from tempcons.losses.residual import residual_loss, update_codes


def test_eq2_by_hand():
    codes, residual = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0])
    assert update_codes(codes, residual, 0.1).tolist() == pytest.approx([1.05, -1.6])
    assert torch.equal(update_codes(codes, residual, 0.0), codes)


def test_eq4_by_hand():
    frame, anchor = torch.tensor([[1.0, -3.0]]), torch.tensor([[0.5, 0.0]])
    assert residual_loss(frame, anchor).item() == pytest.approx(2.0 + 0.25)


@pytest.mark.parametrize("distance", [0.5, 30.0])
def test_code_moves_exactly_the_distance_towards_the_target(distance):
    codes, target = torch.randn(3, 18, 32, dtype=torch.float64), torch.randn(3, 18, 32, dtype=torch.float64)
    step = move_code(codes, target, distance) - codes
    torch.testing.assert_close(step.flatten(1).norm(dim=1), torch.full((3,), distance, dtype=torch.float64))
    along = torch.nn.functional.cosine_similarity(step.flatten(1), (target - codes).flatten(1))
    torch.testing.assert_close(along, torch.ones(3, dtype=torch.float64))


def test_code_at_the_target_stays():
    codes = torch.randn(1, 4, 4)
    assert torch.isfinite(move_code(codes, codes, 30.0)).all()
    assert torch.equal(move_code(codes, codes, 30.0), codes)


def test_eq7_by_hand():
    old, new = torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.5)

    def distance(a, b):
        return (a - b).abs().sum(dim=(1, 2, 3))  # 12 * 0.5 = 6 each

    assert local_regularisation_loss(old, new, distance, 0.1).item() == pytest.approx(6 + 0.1 * 0.25)
    pti = local_regularisation_loss(old, new, distance, 0.1, lambda_perceptual=0.1).item()
    assert pti == pytest.approx(0.6 + 0.025)


def test_eq7_of_the_same_pictures_is_zero_even_outside_the_range():
    picture = torch.full((1, 3, 2, 2), 1.7)
    assert local_regularisation_loss(picture, picture.clone(), lambda a, b: (a - b).abs(), 0.1).item() == 0
    # Distances see pictures in [-1, 1], the squared difference sees what is outside too.
    brighter = local_regularisation_loss(picture, picture + 1, lambda a, b: (a - b).abs(), 0.1).item()
    assert brighter == pytest.approx(0.1)
