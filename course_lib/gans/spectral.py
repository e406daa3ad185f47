"""Spectral normalisation as BigGAN publishes it: one power iteration a call, its vector kept in the state dict.

Source: Brock et al. 2019 and the authors' PyTorch code. torch's own ``spectral_norm`` keeps two vectors under other
names and, in training, differentiates through none of them in the same way, so released weights would not load.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SNConv2d", "SNEmbedding", "SNLinear"]


class _Spectral(nn.Module):
    """Adds the vector ``u0`` and the last value ``sv0``, and gives the weight divided by its largest singular value."""

    weight: nn.Parameter

    def _start(self, rows: int, eps: float) -> None:
        self.sn_eps = eps
        self.register_buffer("u0", torch.randn(1, rows))
        self.register_buffer("sv0", torch.ones(1))

    def normalised(self) -> Tensor:
        """``weight / σ``, with σ = ‖v Wᵀ‖ after one power iteration; gradients pass through W in both places.

        The vector is stored only in training mode; in evaluation the step is made and forgotten.
        """
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.u0 @ matrix, eps=self.sn_eps)
            u = F.normalize(v @ matrix.T, eps=self.sn_eps)
        sigma = (v @ matrix.T @ u.T).squeeze()
        if self.training:
            with torch.no_grad():
                self.u0.copy_(u)
                self.sv0.copy_(sigma)
        return self.weight / sigma


class SNConv2d(nn.Conv2d, _Spectral):
    """A convolution with normalised weight; ``(B, C, H, W)`` in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True, eps: float = 1e-6):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self._start(outputs, eps)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        return self._conv_forward(x, self.normalised(), self.bias)


class SNLinear(nn.Linear, _Spectral):
    """A linear map with normalised weight; ``(B, inputs)`` → ``(B, outputs)``."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, eps: float = 1e-6):
        super().__init__(inputs, outputs, bias)
        self._start(outputs, eps)

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return F.linear(x, self.normalised(), self.bias)


class SNEmbedding(nn.Embedding, _Spectral):
    """A lookup table with normalised weight; class indices ``(B,)`` → ``(B, width)``."""

    def __init__(self, classes: int, width: int, eps: float = 1e-6):
        super().__init__(classes, width)
        self._start(classes, eps)

    def forward(self, x: Tensor) -> Tensor:
        """The rows."""
        return F.embedding(x, self.normalised())
