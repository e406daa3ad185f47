"""Adaptive filter modulation: a frozen convolution whose kernels a class vector rescales and shifts, tap by tap.

Source: Laria et al. 2022 (Hyper-Modulation) and its code; the parameters are those of GAN Memory (Cong et al. 2020).
A source kernel ``w[o, i]`` of nine taps is stored standardised, ``W = (w − M) / S``. A class gives ``γ`` and ``β`` for
every pair of channels and the layer convolves with ``c · (γ W + β)``: with ``γ = S / c`` and ``β = M / c`` that is the
source layer again.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..gans.equalized import EqualConv2d, FusedUpsample, four_shifts

__all__ = ["ModulatedConv", "standardise"]

GROUPED_FROM = 0.5
"""Classes a picture of the batch above which one grouped convolution is used instead of one convolution a class."""


def standardise(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(…, k, k)`` → taps with mean 0 and unbiased deviation 1, and the mean and deviation ``(…)`` taken away.

    A kernel of equal taps has no deviation; its standardised taps are zero instead of the published code's NaN.
    """
    mean, deviation = weight.mean((-1, -2)), weight.flatten(-2).std(-1)
    safe = torch.where(deviation > 0, deviation, 1.0)
    return (weight - mean[..., None, None]) / safe[..., None, None], mean, deviation


class ModulatedConv(nn.Module):
    """One modulated convolution; its own tensors are frozen buffers.

    Args:
        source: the layer of the source generator, plain or fused with upsampling.
        published: in fused layers modulate the 4×4 kernel after the four shifts, with the released scale, so that
            released weights work. Ours modulates the nine taps before, which alone can reproduce the source.

    Attributes:
        pairs: ``(O, I)`` for a plain layer, ``(I, O)`` for a fused one: the order in which γ and β are read.
    """

    def __init__(self, source: EqualConv2d | FusedUpsample, published: bool = False):
        super().__init__()
        self.fused, self.published = isinstance(source, FusedUpsample), published
        # Contiguous, so that the same source gives the same bits whatever its memory format.
        weight, bias = (source.weight.detach() * source.scale).contiguous(), source.bias.detach()
        self.pairs = tuple(weight.shape[:2])
        self.outputs = self.pairs[1] if self.fused else self.pairs[0]
        # The released code takes the wrong axis for the fan-in of a fused layer, and sixteen taps for nine.
        self.scale = math.sqrt(2 / (16 * self.outputs)) if self.fused and published else source.scale
        taps, mean, deviation = standardise(weight)
        spread = bias.std(unbiased=len(bias) > 1)
        standard = (bias - bias.mean()) / torch.where(spread > 0, spread, 1.0)
        self.register_buffer("weight", taps)
        self.register_buffer("bias", standard)
        self.register_buffer("source_gain", deviation / self.scale)
        self.register_buffer("source_shift", mean / self.scale)
        self.register_buffer("source_bias", bias - standard)

    def source(self) -> tuple[Tensor, Tensor, Tensor]:
        """γ, β ``(1, *pairs)`` and δ ``(1, O)`` of the source layer (in a published fused layer nearly so)."""
        return self.source_gain[None], self.source_shift[None], self.source_bias[None]

    def kernels(self, gain: Tensor, shift: Tensor) -> Tensor:
        """γ and β ``(N, *pairs)`` → N kernels."""
        # The factor goes to the small tensors, and the large one is made in one operation.
        gain, shift = (self.scale * part[..., None, None] for part in (gain, shift))
        if self.fused and self.published:
            return torch.addcmul(shift, gain, four_shifts(self.weight))
        kernels = torch.addcmul(shift, gain, self.weight)
        return four_shifts(kernels) if self.fused else kernels

    def forward(self, x: Tensor, gain: Tensor, shift: Tensor, bias: Tensor, owner: Tensor | None = None) -> Tensor:
        """Convolves every picture with the kernel of its class.

        Args:
            x: ``(B, I, H, W)``.
            gain, shift, bias: γ, β ``(N, *pairs)`` and δ ``(N, O)`` of N classes, or of every picture where N = B.
            owner: ``(B,)``: which of the N a picture uses; its own by default.

        Returns:
            ``(B, O, H, W)``, or twice as large from a fused layer.
        """
        kernels, bias = self.kernels(gain, shift), self.bias + bias
        if owner is None:
            return self.convolve(x, kernels, bias)
        order = owner.argsort(stable=True)
        return self.convolve(x[order], kernels, bias, owner.bincount(minlength=len(kernels)).tolist())[order.argsort()]

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Convolves with finished kernels.

        Args:
            x: ``(B, I, H, W)``.
            kernels: N of them, see :meth:`kernels`: one for all pictures, one a picture, or one for each of ``sizes``.
            bias: ``(N, O)``, the layer's own added.
            sizes: how many pictures in a row, N counts that add up to B, share a kernel.
        """
        count = len(kernels)
        if count == 1:
            return self._convolve(x, kernels[0], bias[0])
        if sizes is not None:
            if count <= GROUPED_FROM * len(x):
                parts = zip(x.split(list(sizes)), kernels, bias, strict=True)
                return torch.cat([self._convolve(part, k, b) for part, k, b in parts if len(part)])
            repeats = torch.tensor(sizes, device=x.device)
            kernels, bias = kernels.repeat_interleave(repeats, 0), bias.repeat_interleave(repeats, 0)
        flat = x.reshape(1, -1, *x.shape[2:])
        out = self._convolve(flat, kernels.flatten(0, 1), bias.flatten(), groups=len(x))
        return out.view(len(x), self.outputs, *out.shape[2:])

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
        if self.fused:
            return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1, groups=groups)
        return F.conv2d(x, kernel, bias, padding=1, groups=groups)
