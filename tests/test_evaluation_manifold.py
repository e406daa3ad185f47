"""Precision, recall, density and coverage against brute force, and in an order that cannot be swapped unnoticed."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.scores import manifold_scores, squared_distances


def brute_force(real, fake, k):
    """The definitions, point by point, in plain Python numbers."""

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    def radius(points, i):
        return sorted(distance(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    real, fake = real.tolist(), fake.tolist()
    around_real = [radius(real, i) for i in range(len(real))]
    around_fake = [radius(fake, j) for j in range(len(fake))]
    inside = [[distance(r, f) <= around_real[i] for i, r in enumerate(real)] for f in fake]
    return (
        sum(any(row) for row in inside) / len(fake),
        sum(any(distance(r, f) <= around_fake[j] for j, f in enumerate(fake)) for r in real) / len(real),
        sum(sum(row) for row in inside) / (k * len(fake)),
        sum(any(inside[j][i] for j in range(len(fake))) for i in range(len(real))) / len(real),
    )


@pytest.mark.parametrize(("k", "block", "dim"), [(5, 1024, 6), (3, 17, 2), (1, 1, 4)])
def test_scores_are_those_of_the_definitions(k, block, dim):
    real, fake = torch.randn(80, dim).double(), 0.8 * torch.randn(60, dim).double() + 0.3
    found = manifold_scores(real, fake, k, block)
    assert found == pytest.approx(brute_force(real, fake, k), abs=1e-6)
    assert 0 < found.recall < 1, "a test on extremes proves little"


def test_a_collapsed_generator_has_precision_and_no_recall():
    """Good pictures of one kind: precision 1, recall next to 0. With the sets swapped it would be the reverse."""
    real, fake = torch.randn(500, 8), 0.3 * torch.randn(500, 8)
    found = manifold_scores(real, fake)
    assert found.precision == 1.0 and found.recall < 0.03
    assert found.density > 1.5 and found.coverage < 0.6
    swapped = manifold_scores(fake, real)
    assert swapped.recall == 1.0 and swapped.precision < 0.03
    assert swapped.density < 0.05


def test_equal_distributions_score_high_and_distant_ones_nothing():
    real, fake = torch.randn(300, 4), torch.randn(300, 4)
    found = manifold_scores(real, fake)
    assert found.precision > 0.8 and found.recall > 0.8 and found.coverage > 0.85
    assert found.density == pytest.approx(1.0, abs=0.15)
    assert manifold_scores(real, fake + 100) == (0.0, 0.0, 0.0, 0.0)


def test_copies_of_real_pictures_lie_in_balls_of_radius_nothing():
    real = (torch.randn(10, 512) * 30 + 100).repeat_interleave(6, 0)
    assert manifold_scores(real, real[::2], k=2) == (1.0, 1.0, 3.0, 1.0)
    assert manifold_scores(real, real[::2] + 1e-3, k=2) == (0.0, 0.0, 0.0, 0.0)


def test_an_outlier_gains_precision_and_little_density():
    """Naeem et al.'s example: one real outlier covers wide empty space."""
    real = torch.cat([torch.randn(200, 2), torch.tensor([[40.0, 0.0]])])
    fake = torch.tensor([20.0, 0.0]) + torch.randn(200, 2)
    found = manifold_scores(real, fake)
    assert found.precision == 1.0 and found.density < 0.25


def test_squared_distances():
    a, b = torch.randn(7, 5).double(), torch.randn(4, 5).double()
    torch.testing.assert_close(squared_distances(a, b), (a[:, None] - b).square().sum(2))
    assert squared_distances(a + 1e4, a + 1e4).diagonal().abs().max() == 0


def test_too_few_pictures_are_refused():
    with pytest.raises(CourseError, match=r"k = 5 needs two sets .* N ≥ 6"):
        manifold_scores(torch.randn(5, 3), torch.randn(50, 3))
