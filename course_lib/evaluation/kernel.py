"""Kernel distances (maximum mean discrepancies) between sets of feature vectors, in blocks.

Unlike a Fréchet distance they take features for no Gaussian, and the unbiased one is comparable between sets of
different size: it is the score to use with few pictures.
"""

from torch import Tensor

from ..errors import CourseError
from .pairwise import check_features, kernel_sum, squared_distances

__all__ = ["kernel_distance", "kmmd"]

BLOCK = 1024
"""Rows of each set compared at a time: 8 MB in double precision."""


def kernel_distance(
    real: Tensor, fake: Tensor, degree: int = 3, gamma: float | None = None, coef: float = 1.0, block: int = BLOCK
) -> float:
    """Kernel distance, "KID" when the features are Inception's: unbiased squared MMD with ``(γ x·y + coef)^degree``.

    Expected to be 0 for two samples of one distribution, whatever their sizes, so it may come out below 0. Source:
    Bińkowski et al. 2018.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, at least two rows each.
        degree, gamma, coef: of the polynomial; γ is 1 / F by default.
        block: rows of each at a time.

    Raises:
        CourseError: fewer than two rows, different feature sizes, or features that are not finite.
    """
    real, fake = check_features(real, fake, 2, "the kernel distance")
    gamma = 1 / real.shape[1] if gamma is None else gamma

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (gamma * (x @ y.T) + coef) ** degree

    def within(x: Tensor) -> Tensor:
        # A vector with itself is left out: it says nothing about the distribution, and biases the mean.
        own = (gamma * x.square().sum(1) + coef) ** degree
        return (kernel_sum(x, x, kernel, block) - own.sum()) / (len(x) * (len(x) - 1))

    between = kernel_sum(real, fake, kernel, block) / (len(real) * len(fake))
    return (within(real) + within(fake) - 2 * between).item()


def kmmd(real: Tensor, fake: Tensor, sigma: float = 1.0, block: int = BLOCK) -> float:
    """KMMD of cGANTransfer: the root of the biased squared MMD with a Gaussian kernel.

    ``k(a, b) = exp(−‖a − b‖² / (2 σ² s))``, where s is the mean squared distance between all pairs of ``real``, equal
    pairs included. Source: Xu et al. 2018 and cGANTransfer (Shahbazi et al. 2021), which needs a matrix of all pairs.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, at least two rows each. Biased upwards for few rows: two samples of one
            distribution get about √(1/N + 1/M).
        sigma: width of the kernel in units of √s.
        block: rows of each at a time.

    Raises:
        CourseError: fewer than two rows, different feature sizes, features that are not finite, or real vectors that
            are all equal.
    """
    real, fake = check_features(real, fake, 2, "the KMMD")
    center = real.mean(0)
    real, fake = real - center, fake - center
    # The mean squared distance over all pairs is twice the variance: no pair has to be looked at.
    scale = 2 * sigma**2 * 2 * real.square().sum(1).mean()
    if scale == 0:
        raise CourseError("the KMMD is not defined when all real pictures have the same features: give other ones.")

    def mean(x: Tensor, y: Tensor) -> Tensor:
        total = kernel_sum(x, y, lambda a, b: squared_distances(a, b).div_(-scale).exp_(), block)
        return total / (len(x) * len(y))

    return (mean(real, real) + mean(fake, fake) - 2 * mean(real, fake)).clamp_min(0).sqrt().item()
