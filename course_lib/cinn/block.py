"""One block of the flow: ActNorm, activation, coupling, shuffle."""

import torch
from torch import Tensor, nn

from course_lib.cinn.activation import Identity, InvertibleLeakyReLU
from course_lib.cinn.actnorm import ActNorm
from course_lib.cinn.config import FlowConfig
from course_lib.cinn.coupling import ConditionalCoupling
from course_lib.cinn.shuffle import Shuffle

__all__ = ["FlowBlock"]


class FlowBlock(nn.Module):
    """ActNorm, then activation, then the conditional coupling, then a permutation.

    This is the order of the released weights; the paper's figure 15 draws another one.

    Args:
        config: sizes and options.
        generator: CPU generator for the permutation.

    References:
        CompVis/net2net, ``ConditionalFlatDoubleCouplingFlowBlock``.
    """

    def __init__(self, config: FlowConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = ActNorm(config.dim)
        if config.activation == "leaky_relu":
            self.activation: nn.Module = InvertibleLeakyReLU(config.activation_slope, config.activation_log_det)
        else:
            self.activation = Identity()
        self.coupling = ConditionalCoupling(config.dim, config.embedding_width, config.hidden_dim, config.hidden_depth)
        self.shuffle = Shuffle(config.dim, generator)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``x: (B, D)`` with ``embedding: (B, E)`` towards the residual.

        Returns:
            ``(B, D)`` and ``log_det: (B,)``, the sum of the three parts that change volume.
        """
        h, log_det_norm = self.norm(x)
        h, log_det_activation = self.activation(h)
        h, log_det_coupling = self.coupling(h, embedding)
        return self.shuffle(h), log_det_norm + log_det_activation + log_det_coupling

    def inverse(self, y: Tensor, embedding: Tensor) -> Tensor:
        """Undo ``forward``, mirrored step by step: ``y: (B, D)``, ``embedding: (B, E)`` to ``(B, D)``."""
        h = self.coupling.inverse(self.shuffle.inverse(y), embedding)
        return self.norm.inverse(self.activation.inverse(h))
