"""Layers of StyleGAN and ALAE: equalised learning rates, resampling by two, noise, adaptive instance norm.

An optimiser that normalises its steps moves every equalised layer at the same relative speed, whatever its fan-in.
There are two forms, which train alike under Adam without momentum. Explicit, as in StyleGAN (``rate`` is None): the
stored weight is N(0, 1) and is multiplied where it is used. Implicit, as in ALAE (``rate`` is a number): the stored
weight already has its size, and the optimiser multiplies its step instead, see :func:`equalised_groups`.

Sources: Karras et al. 2018 and 2019, in the port whose weights are released; Pidhorskyi et al. 2020 and its code.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT2 = math.sqrt(2.0)


class _Equalised(nn.Module):
    """Weight and bias; ``scale`` is ``gain / √fan_in``, times ``rate`` in the implicit form."""

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float, rate: float | None, bias: int):
        super().__init__()
        deviation, self.rate = gain / math.sqrt(fan_in), rate
        self.scale = deviation * (rate or 1.0)
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if rate is None else deviation))
        self.register_parameter("bias", nn.Parameter(torch.zeros(bias)) if bias else None)

    def scaled(self) -> Tensor:
        """The weight that acts."""
        return self.weight * self.scale if self.rate is None else self.weight


class EqualLinear(_Equalised):
    """``(B, inputs)`` → ``(B, outputs)``; the weight that acts starts with the standard deviation ``gain / √inputs``.
    ``rate`` is the factor on the learning rate in the implicit form; None takes the explicit form."""

    def __init__(self, inputs: int, outputs: int, gain: float = ROOT2, rate: float | None = None):
        super().__init__((outputs, inputs), inputs, gain, rate, outputs)

    def forward(self, x: Tensor) -> Tensor:
        # The factor goes to the input, which is far smaller than the weights of a hypernetwork's head.
        return F.linear(x * self.scale if self.rate is None else x, self.weight, self.bias)


class EqualConv2d(_Equalised):
    """Convolution ``(B, inputs, H, W)`` → ``(B, outputs, H, W)``, or twice or half as large where it resamples, which
    is one strided convolution with a kernel averaged over four shifts: the same function with half the products.

    ``resample``: ``up`` repeats pixels and convolves; ``transposed`` does so with a kernel that is stored ``(inputs,
    outputs, 3, 3)`` and acts mirrored; ``averaged`` is that divided by four, as StyleGAN's port has it; ``down``
    convolves and takes the mean of four pixels. ``gain`` and ``rate`` are those of :class:`EqualLinear`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        resample: str | None = None,
        gain: float = ROOT2,
        rate: float | None = None,
        bias: bool = True,
        padding: int | None = None,
    ):
        self.mirrored = resample in ("transposed", "averaged")
        channels = (inputs, outputs) if self.mirrored else (outputs, inputs)
        super().__init__((*channels, kernel, kernel), inputs * kernel**2, gain, rate, outputs if bias else 0)
        self.resample, self.padding = resample, kernel // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled()
        if self.resample is None:
            return F.conv2d(x, weight, self.bias, padding=self.padding)
        weight = four_shifts(weight)
        if self.resample == "down":
            return F.conv2d(x, weight, self.bias, stride=2, padding=1)
        if not self.mirrored:
            weight = weight.transpose(0, 1).flip(-1, -2)
        weight = weight if self.resample == "averaged" else 4 * weight
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=1)


def four_shifts(weight: Tensor) -> Tensor:
    """A 3×3 kernel ``(…, 3, 3)`` averaged over four shifts by one pixel: 4×4, so it resamples by two without a comb."""
    padded = F.pad(weight, (1, 1, 1, 1))
    return (padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]) / 4


def equalised_groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Parameter groups for Adam with β₁ = 0, one a learning rate: ``rate``, or what an implicit layer makes of it."""
    coefficients: dict[int, float] = {}
    for layer in network.modules():
        if isinstance(layer, _Equalised) and layer.rate is not None:
            coefficients |= {id(layer.weight): layer.scale, id(layer.bias): layer.rate}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault(coefficients.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": parameters, "lr": rate * coefficient} for coefficient, parameters in groups.items()]


class PixelNorm(nn.Module):
    """Scales every vector ``(B, D)`` to length √D."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Blur(nn.Module):
    """The binomial filter [1, 2, 1] ⊗ [1, 2, 1] / 16 on every channel; the border sees zeros."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", line[:, None] * line / 16, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)


def _centred(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps without their mean, mean and variance ``(B, C, 1, 1)``. Statistics are float32 or better; maps keep their
    precision and memory format, which ``F.instance_norm`` on a CPU does not."""
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = x.mean((2, 3), keepdim=True, dtype=wide)
    x = x - mean.to(x.dtype)
    return x, mean, x.square().mean((2, 3), keepdim=True, dtype=wide)


def instance_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """Instance norm ``(B, C, H, W)``, and what it takes away: mean and deviation of every channel, ``(B, 2 C)``, with
    1e-8 under the root, where published is nothing: the gradient of a constant channel would be 0 / 0."""
    x, mean, variance = _centred(x)
    moments = torch.cat([mean, (variance + 1e-8).sqrt()], 1)[:, :, 0, 0]
    return x * (variance + 1e-5).rsqrt().to(x.dtype), moments


class AdaIN(nn.Module):
    """Adaptive instance norm: every channel of maps ``(B, C, H, W)`` is standardised, then scaled and shifted by the
    style ``(B, latent)``: gain and offset in StyleGAN, gain minus one in ALAE (``rate`` is a number)."""

    def __init__(self, channels: int, latent: int, rate: float | None = None):
        super().__init__()
        self.style = EqualLinear(latent, 2 * channels, ROOT2 if rate is None else 1.0, rate)
        self.base, self.epsilon = (0.0, 1e-5) if rate is None else (1.0, 1e-8)
        if rate is None:
            nn.init.ones_(self.style.bias[:channels])

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        gain, offset = self.style(w)[:, :, None, None].chunk(2, 1)
        x, _, variance = _centred(x)
        gain = (gain + self.base) * (variance + self.epsilon).rsqrt()
        return torch.addcmul(offset.to(x.dtype), x, gain.to(x.dtype))


def mix_styles(w: Tensor, other: Tensor, blocks: int, generator: torch.Generator) -> Tensor:
    """Style mixing: styles ``w`` and ``other (B, latent)``, or the noise vectors that become styles, to one a block,
    ``(B, blocks, latent)``; from a block on that is drawn for the whole batch the second rules."""
    cut = int(torch.randint(1, blocks, (1,), generator=generator))
    return torch.stack([w if index < cut else other for index in range(blocks)], 1)
