"""Layers with an equalised learning rate: weights stay N(0, 1) and are scaled where they are used.

Source: Karras et al. 2018 and 2019. An optimiser that normalises its steps then moves every layer at the same relative
speed, whatever its fan-in. The factor is √(2 / fan-in) everywhere, as in the StyleGAN port whose weights are released.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Blur",
    "EqualConv2d",
    "EqualLinear",
    "FusedDownsample",
    "FusedUpsample",
    "NoiseScale",
    "four_shifts",
]


class EqualLinear(nn.Module):
    """``(B, inputs)`` → ``(B, outputs)``."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
        self.scale = math.sqrt(2 / inputs)

    def forward(self, x: Tensor) -> Tensor:
        """The product; the factor goes to the input, which is far smaller than the weights of a hypernetwork's head."""
        return F.linear(x * self.scale, self.weight, self.bias)


class EqualConv2d(nn.Module):
    """``(B, inputs, H, W)`` → ``(B, outputs, H, W)``, or smaller without padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = math.sqrt(2 / (inputs * kernel**2))
        self.padding = kernel // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def four_shifts(weight: Tensor) -> Tensor:
    """A 3×3 kernel ``(…, 3, 3)`` averaged over four shifts by one pixel: 4×4, so it resamples by two without a comb."""
    padded = F.pad(weight, (1, 1, 1, 1))
    return (padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]) / 4


class FusedUpsample(nn.Module):
    """Doubling and 3×3 convolution in one transposed convolution; the weight is stored ``(inputs, outputs, 3, 3)``."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs, 3, 3)), nn.Parameter(torch.zeros(outputs))
        self.scale = math.sqrt(2 / (inputs * 9))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` → ``(B, outputs, 2H, 2W)``."""
        return F.conv_transpose2d(x, four_shifts(self.weight * self.scale), self.bias, stride=2, padding=1)


class FusedDownsample(nn.Module):
    """3×3 convolution and halving in one strided convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs, 3, 3)), nn.Parameter(torch.zeros(outputs))
        self.scale = math.sqrt(2 / (inputs * 9))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` → ``(B, outputs, H/2, W/2)``."""
        return F.conv2d(x, four_shifts(self.weight * self.scale), self.bias, stride=2, padding=1)


class NoiseScale(nn.Module):
    """Adds noise, the same map to all channels, with one learned strength each that starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = math.sqrt(2 / channels)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, noise ``(B, 1, H, W)`` → maps."""
        # In the maps' own precision, or autocast would go on in float32 from here.
        return torch.addcmul(x, (self.weight * self.scale).to(x.dtype), noise.to(x.dtype))


class Blur(nn.Module):
    """The binomial filter [1, 2, 1] ⊗ [1, 2, 1] / 16 on every channel."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", line[:, None] * line / 16, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps → maps of the same size; the border sees zeros."""
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
