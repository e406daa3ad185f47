"""What convolutions learn late, fitted at once: which numbers of a residual go together across the whole picture."""

import torch
from torch import Tensor, nn

__all__ = ["Whitening"]


class Whitening(nn.Module):
    """``v + U diag(s) Uᵀ (v − m)`` with orthonormal ``U: (D, K)``: rescales the K directions that matter most.

    It begins as the identity. ``fit`` makes residuals uncorrelated along the directions in which their variance is
    furthest from 1. Seen from the other side, samples get tints and fields that reach over many cells, which small
    convolutions only find after thousands of steps.

    Args:
        dim: ``D``.
        count: ``K``, directions.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(dim, count))
        self.register_buffer("change", torch.zeros(count))
        self.register_buffer("mean", torch.zeros(dim))

    @torch.no_grad()
    def fit(self, v: Tensor) -> None:
        """Sets directions and scales from residuals ``(N, D)``; few more than D of them are learned by heart."""
        self.mean.copy_(v.mean(0))
        centred = (v - v.mean(0)).double()
        variance, vectors = torch.linalg.eigh(centred.T @ centred / len(v))
        variance = variance.clamp_min(1e-3)
        # What a direction's wrong variance costs: the divergence of its Gaussian from the standard one.
        first = (variance - 1 - variance.log()).argsort(descending=True)[: len(self.change)]
        self.directions.copy_(vectors[:, first])
        self.change.copy_(variance[first].rsqrt() - 1)

    @property
    def _gram(self) -> Tensor:
        """``I + diag(s) Uᵀ U``, ``(K, K)``: so the inverse is exact even for rounded directions."""
        inner = self.directions.T @ self.directions
        return torch.eye(len(self.change)).to(inner) + self.change[:, None] * inner

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The whitened residual ``(B, D)`` and the logarithm of the determinant, a scalar."""
        moved = (v - self.mean) @ self.directions * self.change
        return v + moved @ self.directions.T, torch.linalg.slogdet(self._gram)[1]

    def inverse(self, v: Tensor) -> Tensor:
        """Back again: ``(B, D)``."""
        moved = torch.linalg.solve(self._gram, ((v - self.mean) @ self.directions * self.change).T).T
        return v - moved @ self.directions.T
