"""The hypernetwork: from a class to the modulation of every convolution."""

import torch
from torch import Tensor, nn

from ..gans.equalized import EqualLinear
from .adafm import ModulatedConv

__all__ = ["ClassNetwork", "FullHead", "LowRankHead", "StyleHead"]


class ClassNetwork(nn.Module):
    """Class indices ``(B,)`` → class vectors ``(B, width)``: a table and four small layers, shared by all heads."""

    def __init__(self, classes: int, width: int = 64, layers: int = 4):
        super().__init__()
        self.table = nn.Parameter(torch.randn(classes, width))
        self.scale = (2 / width) ** 0.5
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [EqualLinear(width, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts)

    def forward(self, labels: Tensor) -> Tensor:
        """Vectors; mix them to go from class to class."""
        return self.layers(self.table[labels] * self.scale)


class FullHead(nn.Module):
    """One linear map from the class vector to γ, β and δ of one layer, as published: ten times the layer's parameters.

    γ and β are interleaved in the last axis: output (o · I + i) · 2 is γ[o, i], the next one β[o, i].
    """

    def __init__(self, layer: ModulatedConv, width: int):
        super().__init__()
        rows, columns = self.pairs = layer.pairs
        self.kernel, self.bias = EqualLinear(width, 2 * rows * columns), EqualLinear(width, layer.outputs)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(N, width)`` → γ, β ``(N, *pairs)`` and δ ``(N, O)``."""
        # In full precision whatever the run's: casting the weights would cost more than the product.
        with torch.autocast(vectors.device.type, enabled=False):
            gain, shift = self.kernel(vectors.float()).view(len(vectors), *self.pairs, 2).unbind(-1)
            return gain, shift, self.bias(vectors.float())

    @torch.no_grad()
    def start_from_source(self, layer: ModulatedConv) -> None:
        """Analytic self-initialisation: constants of the source layer as biases, weights zero.

        Whatever the class, the layer then is the source layer; the first gradient step moves the weights.
        """
        gain, shift, bias = layer.source()
        self.kernel.weight.zero_()
        self.kernel.bias.copy_(torch.stack([gain[0], shift[0]], -1).flatten())
        self.bias.weight.zero_()
        self.bias.bias.copy_(bias[0])


class LowRankHead(nn.Module):
    """γ and β as those of the source layer plus a class-dependent product of thin matrices.

    ``rank · (O + I)`` numbers a class vector instead of ``O · I``, for each of γ and β.
    """

    def __init__(self, layer: ModulatedConv, width: int, rank: int = 4):
        super().__init__()
        self.rank, self.pairs = rank, layer.pairs
        rows, columns = self.pairs
        self.left, self.right = EqualLinear(width, 2 * rank * rows), EqualLinear(width, 2 * rank * columns)
        self.bias = EqualLinear(width, layer.outputs)
        for name, tensor in zip(("gain", "shift", "offset"), layer.source(), strict=True):
            self.register_buffer(name, tensor.clone(), persistent=False)
        # One factor zero: the product starts at zero, and its gradient does not.
        nn.init.zeros_(self.left.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(N, width)`` → γ, β ``(N, *pairs)`` and δ ``(N, O)``."""
        left = self.left(vectors).view(len(vectors), 2, self.pairs[0], self.rank)
        right = self.right(vectors).view(len(vectors), 2, self.rank, self.pairs[1])
        gain, shift = (left @ right / self.rank).unbind(1)
        # Relative to the source's own size, so that one learning rate suits all layers.
        return self.gain * (1 + gain), self.shift + self.gain * shift, self.offset + self.bias(vectors)

    def start_from_source(self, layer: ModulatedConv) -> None:
        """It already is the source layer."""


class StyleHead(nn.Module):
    """Class vector → offset of the style in every block, 0 until it is trained."""

    def __init__(self, width: int, blocks: int, latent: int):
        super().__init__()
        self.sizes, self.linear = (blocks, latent), EqualLinear(width, blocks * latent)
        nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(N, width)`` → ``(N, blocks, latent)``."""
        return self.linear(vectors).view(len(vectors), *self.sizes)
