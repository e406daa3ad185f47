"""The small fully connected network inside couplings and the dense embedder."""

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["LEAKY_SLOPE", "FullyConnectedNet"]

LEAKY_SLOPE = 0.01


class FullyConnectedNet(nn.Module):
    """``depth + 2`` linear layers with LeakyReLU (slope 0.01) between them.

    Args:
        in_dim: width of the input.
        hidden_dim: width of the hidden layers.
        depth: number of hidden-to-hidden layers, so the network has ``depth + 2`` linear layers.
        out_dim: width of the output.
        tanh: end with a hyperbolic tangent (bounds a coupling's log-scale to (-1, 1)).
        batch_norm: BatchNorm before every LeakyReLU.

    References:
        Net2Net, supplement, table 4a; CompVis/net2net, ``BasicFullyConnectedNet``.
    """

    def __init__(
        self, in_dim: int, hidden_dim: int, depth: int, out_dim: int, tanh: bool = False, batch_norm: bool = False
    ) -> None:
        super().__init__()
        widths = [in_dim] + [hidden_dim] * (depth + 1)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden_dim) if batch_norm else nn.Identity() for _ in self.hidden)
        self.out = nn.Linear(hidden_dim, out_dim)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE)
        self.last = nn.Tanh() if tanh else nn.Identity()

    @property
    def linears(self) -> list[nn.Linear]:
        """All linear layers, input to output."""
        return [*self.hidden, self.out]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x: (B, in_dim)`` to ``(B, out_dim)``."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = self.activation(norm(linear(x)))
        return self.last(self.out(x))
