"""Layers of ALAE. Their equalised learning rate comes in two forms that train alike.

Explicit, as in StyleGAN: the stored weight is N(0, 1) and is multiplied where it is used. Implicit, as in ALAE's code:
the stored weight already has its size, and the optimiser multiplies its step instead. Adam without momentum divides a
gradient by its own size, so a factor in front of the weight scales the effective step and nothing else: both forms walk
the same path, but for Adam's ε. The implicit one saves a product a layer and a step, and its files hold what is used.

Source: Pidhorskyi et al. 2020 and its code.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .equalized import four_shifts

__all__ = ["LayerNoise", "ScaledConv2d", "ScaledLinear", "equalised_groups", "standardise"]

ROOT2 = math.sqrt(2.0)


class _Scaled(nn.Module):
    """Weight and bias with their coefficients.

    Args:
        shape: of the weight.
        fan_in: inputs of one output.
        gain: the effective weight starts with deviation ``gain / √fan_in``.
        rate: factor on the learning rate of weight and bias (``lrmul``).
        bias: length of the bias, 0 for none.
        explicit: see the module's text.
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float, rate: float, bias: int, explicit: bool):
        super().__init__()
        self.coefficients = {"weight": rate * gain / math.sqrt(fan_in), "bias": rate}
        self.explicit = explicit
        deviation = 1 / rate if explicit else gain / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.randn(shape) * deviation)
        self.register_parameter("bias", nn.Parameter(torch.zeros(bias)) if bias else None)

    def scaled(self) -> tuple[Tensor, Tensor | None]:
        """The weight and bias that compute."""
        if not self.explicit:
            return self.weight, self.bias
        bias = None if self.bias is None else self.bias * self.coefficients["bias"]
        return self.weight * self.coefficients["weight"], bias


class ScaledLinear(_Scaled):
    """``(B, inputs)`` → ``(B, outputs)``."""

    def __init__(self, inputs: int, outputs: int, gain: float = ROOT2, rate: float = 1.0, explicit: bool = False):
        super().__init__((outputs, inputs), inputs, gain, rate, outputs, explicit)

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return F.linear(x, *self.scaled())


class ScaledConv2d(_Scaled):
    """Convolution, alone or with resampling by two in the same operation.

    Repetition of pixels before a convolution, and the mean of four after it, are one strided convolution with a kernel
    summed over four shifts: the same function with half the products, whatever the published code does at that size.

    Args:
        inputs, outputs: channels.
        kernel: 1 or 3.
        gain: see the base class.
        bias: whether it has one; ALAE's 3×3 convolutions have theirs behind the noise, as a parameter of the block.
        resample: ``up`` repeats pixels and convolves; ``transposed`` does so with a kernel that is stored
            ``(inputs, outputs, 3, 3)`` and acts mirrored, as large blocks are published; ``down`` convolves and takes
            the mean of four pixels.
        explicit: see the module's text.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        gain: float = ROOT2,
        bias: bool = False,
        resample: str | None = None,
        explicit: bool = False,
    ):
        channels = (inputs, outputs) if resample == "transposed" else (outputs, inputs)
        fan_in = inputs * kernel**2
        super().__init__((*channels, kernel, kernel), fan_in, gain, 1.0, outputs if bias else 0, explicit)
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` → ``(B, outputs, H, W)``, or twice or half as large."""
        weight, bias = self.scaled()
        if self.resample is None:
            return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        if self.resample == "down":
            return F.conv2d(x, four_shifts(weight), bias, stride=2, padding=1)
        if self.resample == "up":
            weight = weight.transpose(0, 1).flip(-1, -2)
        return F.conv_transpose2d(x, 4 * four_shifts(weight), bias, stride=2, padding=1)


class LayerNoise(nn.Module):
    """Adds noise, one map for all channels with a learned strength each (zero at first), then the bias, then LeakyReLU.

    Args:
        channels: C.
        level: index of the block; it sets the width of what stands in for noise.
    """

    def __init__(self, channels: int, level: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.width = math.sqrt(level + 1)

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Maps ``(B, C, H, W)`` and noise ``(B, 1, H, W)``.

        Asked for none, the published code does not leave it out but adds ``0.8 · s · exp(−x² / 2 s²) / √(2π)``.
        """
        if noise is None:
            s = self.width
            x = x + 0.8 * s * torch.exp(-x.square() / (2 * s * s)) / math.sqrt(2 * math.pi)
        else:
            x = torch.addcmul(x, self.strength.to(x.dtype), noise.to(x.dtype))
        return F.leaky_relu(x + self.bias.to(x.dtype), 0.2)


def standardise(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Instance norm, and what it takes away.

    Statistics are float32 or better; maps keep their precision and memory format, which ``F.instance_norm`` on a CPU
    does not.

    Args:
        x: ``(B, C, H, W)``.
        epsilon: added to the variance; 1e-5 in the encoder and 1e-8 in the decoder, as published.

    Returns:
        The standardised maps, and mean and standard deviation of every channel, ``(B, 2 C)``. The published deviation
        has no ε, so the gradient of a channel that is constant over a picture is 0 / 0. Here 1e-8 stands under the
        root; it moves the deviation by 1e-4 at most.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = x.mean((2, 3), keepdim=True, dtype=wide)
    x = x - mean.to(x.dtype)
    variance = x.square().mean((2, 3), keepdim=True, dtype=wide)
    style = torch.cat([mean, (variance + 1e-8).sqrt()], 1)[:, :, 0, 0]
    return x * (variance + epsilon).rsqrt().to(x.dtype), style


def equalised_groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Parameter groups for Adam with β₁ = 0, one for each learning rate.

    Args:
        network: with layers of this module; every other parameter has coefficient 1.
        rate: learning rate of coefficient 1.
    """
    coefficients: dict[int, float] = {}
    for module in network.modules():
        if isinstance(module, _Scaled) and not module.explicit:
            coefficients |= {id(p): module.coefficients[n] for n, p in module.named_parameters(recurse=False)}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault(coefficients.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": parameters, "lr": rate * coefficient} for coefficient, parameters in groups.items()]
