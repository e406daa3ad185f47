"""Distances between sets of feature vectors.

A number without the name of its features means nothing: whoever prints one says which features it used.
"""

import torch
from torch import Tensor

from ..errors import CourseError
from .pairwise import check_features

__all__ = ["diversity", "frechet_distance"]


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians fitted to the features; lower is better.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), in double precision. With Σ = RᵀR the trace of the root is the sum of the
    singular values of R₁ R₂ᵀ: no root of a nearly singular product is taken, and for few rows the matrix is small.
    Source: Heusel et al. 2017 (there with Inception features).

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, at least two rows each. Biased upwards for few rows: compare only
            numbers with the same N and M.

    Raises:
        CourseError: fewer than two rows, different feature sizes, or features that are not finite.
    """
    real, fake = check_features(real, fake, 2, "the Fréchet distance")
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    first, second = _root(real), _root(fake)
    root = torch.linalg.svdvals(first @ second.T).sum()
    return max(0.0, (shift + first.square().sum() + second.square().sum() - 2 * root).item())


def _root(x: Tensor) -> Tensor:
    """R with RᵀR the covariance of the rows of ``x (N, F)``; it has the fewer of N and F rows."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    if len(x) <= x.shape[1]:
        return centred
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    return values.clamp_min(0).sqrt()[:, None] * vectors.T


def diversity(features: Tensor) -> float:
    """Mean distance between samples that share one condition.

    Args:
        features: ``(conditions, samples, F)`` with at least two samples; 0 means that all samples are alike.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise CourseError(f"diversity needs features (conditions, samples ≥ 2, F), not {tuple(features.shape)}.")
    count = features.shape[1]
    # Not by matrix products, whose rounding gives equal samples a distance.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances.sum((1, 2)) / (count * (count - 1))).mean().item()
