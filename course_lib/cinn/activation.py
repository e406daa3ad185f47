"""Invertible activations that may stand between ActNorm and the coupling of a block."""

import math

import torch
from torch import Tensor, nn

__all__ = ["Identity", "InvertibleLeakyReLU"]


class Identity(nn.Module):
    """No activation; what every released configuration uses."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x: (B, D)`` and ``log_det: (B,)`` of zeros."""
        return x, x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """Return ``y: (B, D)``."""
        return y


class InvertibleLeakyReLU(nn.Module):
    """Multiply negative values by ``alpha``; invertible because ``alpha > 0``.

    Each negative coordinate stretches its axis by ``alpha``, so ``log_det`` is the number of negatives times
    ``log(alpha)``. The released code reports 0 instead, which makes its likelihood wrong while its inverse stays
    right; ``count_log_det=False`` reproduces that.

    Args:
        alpha: slope for negative values.
        count_log_det: False reports a log-determinant of 0.

    References:
        CompVis/net2net, the option "lrelu" of its flow blocks (slope 0.9).
    """

    def __init__(self, alpha: float = 0.9, count_log_det: bool = True) -> None:
        super().__init__()
        self.alpha = alpha
        self.count_log_det = count_log_det

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"alpha={self.alpha}, count_log_det={self.count_log_det}"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``y: (B, D)`` and ``log_det: (B,)``."""
        y = torch.where(x < 0, x * self.alpha, x)
        if not self.count_log_det:
            return y, x.new_zeros(x.shape[0])
        return y, (x < 0).sum(1).to(x.dtype) * math.log(self.alpha)

    def inverse(self, y: Tensor) -> Tensor:
        """Return ``x: (B, D)``."""
        return torch.where(y < 0, y / self.alpha, y)
