"""The probe that measures what one vector says about another."""

import pytest
import torch
from independence import predictability

from course_lib.errors import CourseError


def test_independent_vectors_score_nothing():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3000, 5, generator=generator), torch.randn(3000, 4, generator=generator)
    assert -0.1 < predictability(x, y) < 0.02


def test_functions_score_much_and_noise_lowers_it():
    x = torch.randn(3000, 3)
    linear = x @ torch.randn(3, 4)
    assert predictability(x, linear, ridge=1e-4) > 0.99
    assert predictability(x, (1.5 * linear).sin(), ridge=1e-3) > 0.5, "not linear, hence the random features"
    noisy = linear + linear.std() * torch.randn(3000, 4)
    assert 0.3 < predictability(x, noisy) < 0.6


def test_position_and_shape_do_not_matter():
    x, y = torch.randn(400, 3), torch.randn(400, 2)
    score = predictability(x, y)
    assert predictability(x, y + 100) == pytest.approx(score, abs=1e-6)
    assert predictability(10 * x - 5, y) == pytest.approx(score, abs=1e-3)
    assert predictability(x.view(400, 3, 1, 1), y) == pytest.approx(score, abs=1e-9)
    assert predictability(x, y) == score


def test_bad_sizes_are_refused():
    with pytest.raises(CourseError, match="equally long"):
        predictability(torch.randn(20, 2), torch.randn(19, 2))
    with pytest.raises(CourseError, match="ten rows"):
        predictability(torch.randn(9, 2), torch.randn(9, 2))
