"""Distances between sets of feature vectors.

A number without the name of its features means nothing: whoever prints one says which features it used.
"""

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["diversity", "frechet_distance"]


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians fitted to the features; lower is better.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), in double precision; the trace of the root is the sum of the roots of the
    eigenvalues of Σ₁ Σ₂, which are real and not negative. Source: Heusel et al. 2017 (there with Inception features).

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, at least two rows each. Biased upwards for few rows: compare only
            numbers with the same N and M.

    Raises:
        CourseError: fewer than two rows, different feature sizes, or features that are not finite.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise CourseError(
            f"the Fréchet distance needs two sets (N, F) with N ≥ 2 and one F, not {tuple(real.shape)} and "
            f"{tuple(fake.shape)}."
        )
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise CourseError("some features are not finite: look at the pictures that they come from.")
    real, fake = real.double(), fake.double()
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    # torch.cov returns a scalar for a single feature.
    first, second = (torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (real, fake))
    root = torch.linalg.eigvals(first @ second).real.clamp_min(0).sqrt().sum()
    return max(0.0, (shift + first.trace() + second.trace() - 2 * root).item())


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
