"""Kernel distances, the Inception score and the bias of few samples: golden values, references, memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.image.kid import poly_mmd

from course_lib.errors import CourseError
from course_lib.evaluation import frechet_distance
from course_lib.evaluation.scores import gaussian_mmd, inception_score, kernel_distance


def wave(rows, columns, frequency, amplitude=1.0, phase=0.0):
    """The sets of the golden values: ``amplitude · sin(frequency · i · j + phase)``, i and j from 1."""
    i, j = (torch.arange(1, count + 1).double() for count in (rows, columns))
    return amplitude * torch.sin(frequency * i[:, None] * j + phase)


REAL, FAKE = wave(40, 6, 0.37), wave(50, 6, 0.53, 1.2, 0.4) + 0.1


def test_golden_values_of_the_released_metrics():
    assert gaussian_mmd(REAL, FAKE) == pytest.approx(0.1234763, abs=5e-8)
    assert frechet_distance(FAKE, REAL) == pytest.approx(0.2446846658, abs=5e-11)
    p = torch.exp(2 * wave(50, 7, 0.91, phase=0.2))
    p = p / p.sum(1, keepdim=True)
    assert inception_score(p) == pytest.approx((1.4479801728, 0.0982865875), abs=5e-11)
    assert inception_score(p, splits=1) == pytest.approx((1.5871875855, 0.0), abs=5e-11)


def kmmd_by_pairs(real, fake, sigma):
    """All pairs at once, from differences."""
    real, fake = real.double(), fake.double()
    squares = [(a[:, None] - b).square().sum(2) for a, b in ((real, real), (fake, fake), (real, fake))]
    width = 2 * sigma**2 * squares[0].mean()
    own, other, between = (torch.exp(-s / width).mean() for s in squares)
    return (own + other - 2 * between).sqrt().item()


@pytest.mark.parametrize(("sigma", "block"), [(1.0, 1024), (0.5, 7), (2.0, 33)])
def test_kmmd_is_that_of_all_pairs(sigma, block):
    real, fake = torch.rand(70, 12) + 3, torch.rand(45, 12) * 1.3 + 3
    assert gaussian_mmd(real, fake, sigma, block) == pytest.approx(kmmd_by_pairs(real, fake, sigma), abs=1e-9)


def test_kmmd_measures_in_the_real_set():
    """The bandwidth comes from the reals alone, so the order of the sets matters; units do not."""
    assert gaussian_mmd(REAL, FAKE) != pytest.approx(gaussian_mmd(FAKE, REAL), abs=1e-4)
    assert gaussian_mmd(1000 * REAL, 1000 * FAKE) == pytest.approx(gaussian_mmd(REAL, FAKE), rel=1e-9)
    assert gaussian_mmd(REAL, REAL) == pytest.approx(0.0, abs=1e-7)


def test_kernel_distance_is_torchmetrics_for_equal_sizes():
    real, fake = torch.randn(60, 9).double(), torch.randn(60, 9).double() * 1.5
    assert kernel_distance(real, fake, block=16) == pytest.approx(poly_mmd(real, fake).item(), rel=1e-10)


def test_kernel_distance_is_unbiased_for_unequal_sizes():
    """Mean 0 over draws of one distribution, while the Fréchet distance of the same draws is far above 0."""
    draws = [(torch.randn(20, 4), torch.randn(35, 4)) for _ in range(300)]
    found = torch.tensor([kernel_distance(*pair) for pair in draws])
    assert abs(found.mean()) < 3 * found.std() / 300**0.5
    assert min(frechet_distance(*pair) for pair in draws[:20]) > 0.05


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("score", [gaussian_mmd, kernel_distance])
def test_memory_grows_with_the_sets_and_not_with_their_product(score):
    def largest(count):
        with Largest() as seen:
            score(torch.randn(count, 8), torch.randn(count, 8), block=64)
        return seen.numbers

    assert largest(500) == max(64 * 64, 500 * 8) and largest(2000) == 2000 * 8


@pytest.mark.parametrize("score", [gaussian_mmd, kernel_distance])
def test_bad_features_are_refused(score):
    for real, fake in ((torch.zeros(1, 4), torch.zeros(5, 4)), (torch.zeros(5, 4), torch.zeros(5, 3))):
        with pytest.raises(CourseError, match="needs two sets"):
            score(real, fake)
    with pytest.raises(CourseError, match="not finite"):
        score(torch.randn(5, 2), torch.full((5, 2), float("inf")))


def test_kmmd_of_equal_real_features_is_refused():
    with pytest.raises(CourseError, match="all real pictures"):
        gaussian_mmd(torch.ones(5, 3), torch.randn(5, 3))


# --- the Inception score ----------------------------------------------------------------------------------------------


def test_inception_score_of_the_extremes():
    sure = torch.eye(5).repeat(4, 1)
    assert inception_score(sure, splits=4) == pytest.approx((5.0, 0.0))
    assert inception_score(sure[:1].expand(20, -1), splits=4) == pytest.approx((1.0, 0.0))
    assert inception_score(torch.full((20, 5), 0.2), splits=4) == pytest.approx((1.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("bad", [torch.randn(20, 5), torch.full((20, 5), 0.3), torch.full((5, 5), 0.2), torch.ones(20)])
def test_inception_score_refuses_what_is_no_probability(bad):
    with pytest.raises(CourseError, match="Inception score"):
        inception_score(bad)
