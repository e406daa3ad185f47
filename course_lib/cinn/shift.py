"""A linear head start: what a linear function of the condition predicts is subtracted before the first block."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import CourseError

__all__ = ["FINE_WEIGHTS", "ConditionShift", "LocalShift"]

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


class LocalShift(nn.Module):
    """``z - (W * c + b)`` on a grid: every cell is predicted from the part of a map that lies under and around it.

    One convolution, the same in all cells, and an offset for every cell, so that a few hundred pictures fix it however
    large the map is. Log-determinant 0.

    Args:
        condition_shape: ``(C, H, W)`` with H = W = stride · G.
        channels: numbers in one cell of the latent.
        side: ``G``, cells along one side.
    """

    def __init__(self, condition_shape: tuple[int, int, int], channels: int, side: int) -> None:
        super().__init__()
        stride = condition_shape[1] // side
        # A cell's own places and a border of one: 3×3 where map and grid have equally many places.
        self.linear = nn.Conv2d(condition_shape[0], channels, stride + 2, stride, 1, bias=False)
        self.offset = nn.Parameter(torch.zeros(channels, side, side))
        nn.init.zeros_(self.linear.weight)

    @torch.no_grad()
    def fit(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Ridge regression of all cells of latents ``(N, D)`` on their neighbourhoods in maps ``(N, C, H, W)``.

        Latents and neighbourhoods are first centred in every cell; what is outside of the map counts as zero.

        Args:
            latent: training latents.
            condition: their conditions.
            ridge: penalty, relative to the mean variance of a neighbourhood's numbers.

        Raises:
            CourseError: fewer cells than numbers in a neighbourhood.
        """
        kernel, stride, count = self.linear.kernel_size[0], self.linear.stride[0], self.linear.weight[0].numel()
        cells = self.offset[0].numel()
        if len(latent) * cells <= count:
            raise CourseError(f"{len(latent) * cells} cells cannot fix a map from {count} numbers: give more pairs.")
        wanted, mean = latent.view(len(latent), -1, cells), condition.mean(0)
        middle = wanted.mean(0)
        gram, cross = (torch.zeros(count, n, dtype=torch.float64, device=latent.device) for n in (count, len(middle)))
        for some, z in zip(condition.split(256), wanted.split(256), strict=True):  # unfolded maps are large
            x = F.unfold(some - mean, kernel, padding=1, stride=stride).transpose(1, 2).flatten(0, 1)
            y = (z - middle).transpose(1, 2).flatten(0, 1)
            gram += (x.T @ x).double()
            cross += (x.T @ y).double()
        gram.diagonal().add_((ridge * gram.diagonal().mean()).clamp_min(1e-12))
        self.linear.weight.copy_(torch.linalg.solve(gram, cross).T.view_as(self.linear.weight))
        self.offset.copy_(middle.view_as(self.offset) - self.linear(mean[None].to(self.offset.dtype))[0])

    def _predict(self, condition: Tensor) -> Tensor:
        return (self.linear(condition) + self.offset).flatten(1)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Subtract the prediction: ``(B, D)``."""
        return latent - self._predict(condition)

    def inverse(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Add it again: ``(B, D)``."""
        return latent + self._predict(condition)
