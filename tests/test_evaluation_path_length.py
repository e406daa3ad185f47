"""Perceptual path length: what is known in closed form, and what must not count."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.path_length import feature_distance, path_length


def flat(pictures):
    return pictures.flatten(1)


@pytest.fixture
def linear():
    """A linear generator of 4×4 pictures, and its matrix."""
    matrix = torch.randn(48, 6).double()
    return (lambda points, pairs: (points @ matrix.T).view(-1, 3, 4, 4)), matrix


@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
@pytest.mark.parametrize("at", [0.0, 0.7])
def test_a_linear_generator_has_the_analytic_length(linear, epsilon, at):
    draw, matrix = linear
    start, end = torch.randn(2, 20, 6).double()
    found = path_length(draw, start, end, feature_distance(flat), epsilon, at=torch.full((20,), at).double(), trim=None)
    expected = ((end - start) @ matrix.T).square().sum(1)
    torch.testing.assert_close(found.lengths, expected, rtol=1e-8, atol=0)
    assert found.mean == pytest.approx(expected.mean().item(), rel=1e-8)


def test_a_curved_way_is_followed_at_its_place():
    """On the arc of a circle the speed is radius · angle everywhere; a straight way would be shorter."""
    start, end = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()

    def arc(a, b, t):
        angle = torch.pi / 2
        return torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b

    for at in (0.0, 0.5):
        where = torch.tensor([at]).double()
        distance = feature_distance(flat)
        found = path_length(lambda x, _: x, start, end, distance, 1e-4, arc, at=where, trim=None)
        assert found.mean == pytest.approx((2 * torch.pi / 2) ** 2, rel=1e-3)


def test_both_pictures_of_a_pair_share_everything_else(linear):
    """Noise that the drawing function takes by pair cancels; noise drawn anew would bury the length."""
    draw, _ = linear
    noise = 100 * torch.randn(30, 3, 4, 4).double()
    ends = torch.randn(2, 30, 6).double()
    distance = feature_distance(flat)
    plain = path_length(draw, *ends, distance, trim=None)
    noisy = path_length(lambda x, pairs: draw(x, pairs) + noise[pairs], *ends, distance, trim=None, batch_size=7)
    torch.testing.assert_close(noisy.lengths, plain.lengths, rtol=1e-6, atol=0)
    fresh = path_length(lambda x, pairs: draw(x, pairs) + torch.randn(len(x), 3, 4, 4), *ends, distance, trim=None)
    assert fresh.mean > 100 * plain.mean


def test_trimming_drops_both_tails():
    lengths = torch.arange(1.0, 1001.0).double()
    start, end = torch.zeros(1000, 1).double(), lengths.sqrt()[:, None]
    distance = feature_distance(flat)
    kept = path_length(lambda x, _: x, start, end, distance, trim=(0.1, 0.9))
    assert kept.mean == pytest.approx(lengths[100:900].mean().item(), abs=1) and len(kept.lengths) == 1000
    skewed = end.clone()
    skewed[-1] = 1e4
    assert path_length(lambda x, _: x, start, skewed, distance).mean < 1000
    assert path_length(lambda x, _: x, start, skewed, distance, trim=None).mean > 1e5


def test_impossible_ways_are_refused():
    distance, ends = feature_distance(flat), torch.zeros(4, 3)
    for start, end, epsilon in ((ends, ends[:3], 0.1), (ends[:0], ends[:0], 0.1), (ends, ends, 0.0)):
        with pytest.raises(CourseError, match="path length needs"):
            path_length(lambda x, _: x, start, end, distance, epsilon)
    with pytest.raises(CourseError, match="4 pairs"):
        path_length(lambda x, _: x, ends, ends, distance, at=torch.zeros(3))
