"""Perceptual path length: what is known in closed form, and what must not count."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.scores import path_length

ALL = (0.0, 1.0)


def flat(pictures):
    return pictures.flatten(1)


@pytest.fixture
def linear():
    """A linear generator of 4×4 pictures, and its matrix."""
    matrix = torch.randn(48, 6).double()
    return (lambda points, pairs: (points @ matrix.T).view(-1, 3, 4, 4)), matrix


@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
def test_a_linear_generator_has_the_analytic_length(linear, epsilon):
    draw, matrix = linear
    start, end = torch.randn(2, 20, 6).double()
    expected = ((end - start) @ matrix.T).square().sum(1).mean().item()
    assert path_length(draw, start, end, flat, epsilon, trim=ALL) == pytest.approx(expected, rel=1e-8)


def test_both_pictures_of_a_pair_share_everything_else(linear):
    """Noise that the drawing function takes by pair cancels; noise drawn anew would bury the length."""
    draw, _ = linear
    noise = 100 * torch.randn(100, 3, 4, 4).double()
    ends = torch.randn(2, 100, 6).double()
    plain = path_length(draw, *ends, flat, trim=ALL)
    noisy = path_length(lambda x, pairs: draw(x, pairs) + noise[pairs], *ends, flat, trim=ALL)
    assert noisy == pytest.approx(plain, rel=1e-6)
    fresh = path_length(lambda x, pairs: draw(x, pairs) + torch.randn(len(x), 3, 4, 4), *ends, flat, trim=ALL)
    assert fresh > 100 * plain


def test_trimming_drops_both_tails():
    lengths = torch.arange(1.0, 1001.0).double()
    start, end = torch.zeros(1000, 1).double(), lengths.sqrt()[:, None]
    kept = path_length(lambda x, _: x, start, end, flat, trim=(0.1, 0.9))
    assert kept == pytest.approx(lengths[100:900].mean().item(), abs=1)
    skewed = end.clone()
    skewed[-1] = 1e4
    assert path_length(lambda x, _: x, start, skewed, flat) < 1000
    assert path_length(lambda x, _: x, start, skewed, flat, trim=ALL) > 1e5


def test_impossible_ways_are_refused():
    ends = torch.zeros(4, 3)
    for start, end, epsilon in ((ends, ends[:3], 0.1), (ends[:0], ends[:0], 0.1), (ends, ends, 0.0)):
        with pytest.raises(CourseError, match="path length needs"):
            path_length(lambda x, _: x, start, end, flat, epsilon)
