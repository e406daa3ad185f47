"""The bound: every inequality, strictly, for linear and non-linear maps; and that a wrong number is noticed."""

from dataclasses import replace

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.mind2mind import couple, measure_bound, stretch, wasserstein

COUNT = 200


def noise(seed):
    return torch.Generator().manual_seed(seed)


def test_exact_distance_in_one_dimension_is_that_of_sorted_points():
    a, b = torch.randn(50, 1, generator=noise(0)), 2 + torch.randn(50, 1, generator=noise(1)).exp()
    assert wasserstein(a, b) == pytest.approx((a.sort(0).values - b.sort(0).values).abs().mean().item())
    assert wasserstein(a, a[torch.randperm(50)]) == 0
    distance, order = couple(a, b)
    assert sorted(order.tolist()) == list(range(50)) and (a - b[order]).abs().mean().item() == pytest.approx(distance)
    with pytest.raises(CourseError, match="as many points"):
        wasserstein(a, b[:10])


def test_stretch_of_a_diagonal_map():
    a, b = torch.randn(30, 3, generator=noise(0)), torch.randn(30, 3, generator=noise(1))
    factors = torch.tensor([0.5, 3.0, 1.0])
    coupled = stretch((a, b), (a * factors, b * factors), couple(a, b)[1])
    assert 1 < coupled <= 3 + 1e-6 and stretch((a, b), (2 * a, 2 * b), torch.arange(30)) == pytest.approx(2)


def linear(shift=0.0, off=0.0, spread=1.0):
    """Data near a plane of three dimensions in eight, its principal-component autoencoder, and codes."""
    basis = torch.linalg.qr(torch.randn(8, 3, generator=noise(0), dtype=torch.float64))[0]
    across = torch.linalg.qr(torch.cat([basis, torch.randn(8, 1, generator=noise(1), dtype=torch.float64)], 1))[0][:, 3]
    factors, scale = torch.randn(3, COUNT, 3, generator=noise(2), dtype=torch.float64), torch.tensor([1.0, 0.8, 0.6])
    source = factors[0] * scale @ basis.T + 0.05 * torch.randn(COUNT, 8, generator=noise(3), dtype=torch.float64)
    target = factors[1] * scale @ basis.T + 0.05 * torch.randn(COUNT, 8, generator=noise(4), dtype=torch.float64)
    target = target + shift * basis[:, 0] + off * across
    centre = torch.tensor([shift, 0.0, 0.0], dtype=torch.float64)
    codes = spread * factors[2] * scale + centre
    return measure_bound(target, source, codes, lambda x: x @ basis, lambda h: h @ basis.T)


CASES = {
    "near": {},
    "shifted in the plane": {"shift": 2.0},
    "off the plane": {"shift": 2.0, "off": 0.5},
    "bad codes": {"shift": 2.0, "spread": 4.0},
}


@pytest.mark.parametrize("case", CASES)
def test_the_bound_holds_for_a_linear_autoencoder(case):
    bound = linear(**CASES[case])
    bound.check()
    assert bound.lower <= bound.distance <= bound.tighter <= bound.upper
    assert bound.lip_decoder == pytest.approx(1.0) and max(bound.lip_autoencoder, bound.lip_encoder) <= 1 + 1e-9
    assert sum(bound.terms.values()) == bound.upper


def test_which_term_moves_when_something_moves():
    near, shifted, off, bad = (linear(**options) for options in CASES.values())
    assert shifted.distance == pytest.approx(near.distance, rel=1e-6), "the autoencoder follows in the plane"
    assert shifted.domain_gap > near.domain_gap + 1 and shifted.upper > near.upper + 1, "the bound is only looser"
    assert off.distance > shifted.distance + 0.2 and off.target_error > shifted.target_error + 0.3, "it cannot follow"
    assert bad.latent > shifted.latent + 1 and bad.distance > shifted.distance + 1


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_for_random_networks(seed):
    torch.manual_seed(seed)
    encode = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    decode = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12))
    target, source = torch.randn(COUNT, 12), 1.5 * torch.randn(COUNT, 12) + 0.5
    bound = measure_bound(target, source, torch.randn(COUNT, 4), encode, decode)
    bound.check()
    assert bound.lower > 0 and bound.tighter <= bound.upper * 1.5


def test_a_broken_bound_is_noticed():
    bound = linear()
    for broken in (
        replace(bound, distance=bound.upper * 1.01),
        replace(bound, distance=bound.tighter * 1.01),
        replace(bound, distance=bound.lower * 0.99),
        replace(bound, latent=float("nan")),
    ):
        with pytest.raises(CourseError, match="broken"):
            broken.check()


def test_a_decoder_that_draws_noise_breaks_it():
    """Target and source are the same pictures: the theorem's terms vanish, the noise does not."""
    x = torch.randn(COUNT, 6)
    bound = measure_bound(x, x.clone(), x.clone(), lambda x: x, lambda h: h + torch.randn(h.shape))
    with pytest.raises(CourseError, match="deterministic"):
        bound.check()
