"""A fixed random permutation of the coordinates, so that successive couplings split them differently."""

import torch
from torch import Tensor, nn

__all__ = ["Shuffle"]


class Shuffle(nn.Module):
    """Permute coordinates with an order drawn once at construction.

    The order is a buffer: it is part of the trained network and must travel in its checkpoint.

    Args:
        dim: number of coordinates.
        generator: a CPU generator from which the order is drawn.

    References:
        CompVis/net2net, ``Shuffle``.
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        # The device is named so that a flow can be laid out on the "meta" device, where nothing can be drawn.
        order = torch.randperm(dim, generator=generator, device="cpu")
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.order.numel()}"

    def forward(self, x: Tensor) -> Tensor:
        """Permute ``x: (B, D)``; the log-determinant is 0."""
        return x[:, self.order]

    def inverse(self, y: Tensor) -> Tensor:
        """Undo the permutation of ``y: (B, D)``."""
        return y[:, self.inverse_order]
