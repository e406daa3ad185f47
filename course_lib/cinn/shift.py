"""A linear head start: what a linear function of the condition predicts is subtracted before the first block."""

import torch
from torch import Tensor, nn

from course_lib.errors import CourseError

__all__ = ["FINE_WEIGHTS", "ConditionShift"]

FINE_WEIGHTS = ("shift.linear.weight",)
"""What must not be stored in 8 bits: where a condition says nearly everything, the blocks magnify what the shift leaves
and its rounding with it (measured for super-resolution: 17 nats a picture; all other weights together 0.03)."""


class ConditionShift(nn.Module):
    """``z - (A c + b)``: invertible whatever the condition, log-determinant 0.

    It begins as the identity. ``fit`` sets it to the least-squares prediction; the blocks then begin with what a linear
    map cannot explain, instead of spending their first thousand steps on finding it.

    Args:
        condition_dim: ``K``; a feature map counts all its numbers.
        dim: ``D``.
    """

    def __init__(self, condition_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def fit(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Ridge regression of latents ``(N, D)`` on conditions ``(N, K)``, in double precision.

        Args:
            latent: training latents.
            condition: their conditions, flattened where they are maps.
            ridge: penalty, relative to the mean variance of the condition.

        Raises:
            CourseError: fewer pairs than numbers in a condition.
        """
        x, y = condition.flatten(1).double(), latent.double()
        if len(x) <= x.shape[1]:
            raise CourseError(f"{len(x)} pairs cannot fix a map from {x.shape[1]} numbers: give more.")
        x_mean, y_mean = x.mean(0), y.mean(0)
        gram = (x - x_mean).T @ (x - x_mean) / len(x)
        gram += (ridge * gram.diagonal().mean()).clamp_min(1e-12) * torch.eye(len(gram), dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, (x - x_mean).T @ (y - y_mean) / len(x)).T
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(y_mean - weight @ x_mean)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Subtract the prediction: ``(B, D)``."""
        return latent - self.linear(condition.flatten(1))

    def inverse(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Add it again: ``(B, D)``."""
        return latent + self.linear(condition.flatten(1))
