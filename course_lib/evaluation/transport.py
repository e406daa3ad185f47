"""A linear map between domains that needs no training: what an unpaired translator must be compared with."""

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["GaussianTransport"]


def _powers(matrix: Tensor, *exponents: float) -> list[Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return [(vectors * values.clamp_min(1e-10) ** exponent) @ vectors.T for exponent in exponents]


class GaussianTransport:
    """The optimal transport map between Gaussians fitted to two domains: of all linear maps that make mean and
    covariance right, the one that moves pictures least.

    z ↦ m₂ + A (z − m₁) with A = Σ₁^−½ (Σ₁^½ Σ₂ Σ₁^½)^½ Σ₁^−½.

    Args:
        own, other: training latents ``(N, D)`` and ``(M, D)``, two rows or more each.
        ridge: added to both variances; it matters where pictures are few.

    References:
        Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982.
    """

    def __init__(self, own: Tensor, other: Tensor, ridge: float = 0.02):
        if own.ndim != 2 or other.ndim != 2 or own.shape[1] != other.shape[1] or min(len(own), len(other)) < 2:
            raise CourseError(
                f"transport needs two sets of latents (N, D) with one D, not {tuple(own.shape)} and "
                f"{tuple(other.shape)}."
            )
        first, second = own.double(), other.double()
        self.start, self.end = first.mean(0), second.mean(0)
        eye = ridge * torch.eye(own.shape[1], dtype=torch.float64, device=own.device)
        root, inverse = _powers(torch.cov(first.T) + eye, 0.5, -0.5)
        (middle,) = _powers(root @ (torch.cov(second.T) + eye) @ root, 0.5)
        self.matrix = inverse @ middle @ inverse

    def __call__(self, latent: Tensor) -> Tensor:
        """``(B, D)`` in the other domain."""
        return (self.end + (latent.double() - self.start) @ self.matrix).to(latent)
