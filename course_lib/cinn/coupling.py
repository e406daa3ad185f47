"""The conditional double affine coupling: each half of the vector scales and shifts the other."""

import torch
from torch import Tensor, nn

from course_lib.cinn.networks import FullyConnectedNet

__all__ = ["ConditionalCoupling"]


class ConditionalCoupling(nn.Module):
    """Two affine couplings in a row, so that every coordinate is changed once; both read the condition's embedding.

    With ``h = [a, b]`` and embedding ``e``::

        b' = b * exp(S0[a, e]) + T0[a, e]
        a' = a * exp(S1[b', e]) + T1[b', e]
        output [b', a']                       log_det = sum(S0) + sum(S1)

    The halves leave in swapped order. ``S`` ends in a tanh, so one coupling scales by a factor between 1/e and e; ``T``
    is free. An odd ``dim`` is split into ``ceil(dim / 2)`` and ``floor(dim / 2)``, and the inverse splits its input the
    other way round, so it inverts odd sizes exactly (the released unconditional code does not).

    Args:
        dim: number of coordinates, at least 2.
        embedding_dim: width of ``e``.
        hidden_dim: width of the networks S and T.
        hidden_depth: their depth, see ``FullyConnectedNet``.

    References:
        Dinh et al., "Density estimation using Real NVP", 2017; Net2Net, supplement, table 4a and figure 15;
        CompVis/net2net, ``ConditionalDoubleVectorCouplingBlock``.
    """

    def __init__(self, dim: int, embedding_dim: int, hidden_dim: int, hidden_depth: int) -> None:
        super().__init__()
        self.large, self.small = (dim + 1) // 2, dim // 2
        shapes = ((self.large + embedding_dim, self.small), (self.small + embedding_dim, self.large))
        self.scale_nets = nn.ModuleList(FullyConnectedNet(i, hidden_dim, hidden_depth, o, tanh=True) for i, o in shapes)
        self.shift_nets = nn.ModuleList(FullyConnectedNet(i, hidden_dim, hidden_depth, o) for i, o in shapes)

    def forward(self, h: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Couple.

        Args:
            h: ``(B, dim)``.
            embedding: ``(B, embedding_dim)``.

        Returns:
            ``(B, dim)`` with the halves swapped, and ``log_det: (B,)``.
        """
        a, b = h.split([self.large, self.small], 1)
        b, log_scale0 = self._affine(0, a, b, embedding)
        a, log_scale1 = self._affine(1, b, a, embedding)
        return torch.cat([b, a], 1), log_scale0.sum(1) + log_scale1.sum(1)

    def inverse(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Undo ``forward``: ``h: (B, dim)`` and ``embedding: (B, embedding_dim)`` to ``(B, dim)``."""
        b, a = h.split([self.small, self.large], 1)
        a = self._affine_inverse(1, b, a, embedding)
        b = self._affine_inverse(0, a, b, embedding)
        return torch.cat([a, b], 1)

    def _affine(self, step: int, known: Tensor, moved: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([known, embedding], 1)
        log_scale = self.scale_nets[step](inputs)
        return moved * log_scale.exp() + self.shift_nets[step](inputs), log_scale

    def _affine_inverse(self, step: int, known: Tensor, moved: Tensor, embedding: Tensor) -> Tensor:
        inputs = torch.cat([known, embedding], 1)
        return (moved - self.shift_nets[step](inputs)) * (-self.scale_nets[step](inputs)).exp()
