"""StyleGAN, first version: a mapping network, and a synthesis network that is steered by styles and fed with noise;
before it the layers that it shares with ALAE: equalised learning rates, resampling by two, adaptive instance norm.

An optimiser that normalises its steps moves every equalised layer at the same relative speed, whatever its fan-in.
Two forms train alike under Adam without momentum. Explicit, as in StyleGAN (``rate`` is None): the stored weight is
N(0, 1) and is multiplied where it is used. Implicit, as in ALAE (``rate`` is a number): the stored weight already has
its size, and the optimiser multiplies its step instead, see :func:`equalised_groups`. Sources: Karras et al. 2018 and
2019, in the PyTorch port that Hyper-Modulation builds on (one noise map a block, styles that switch between blocks,
√(2 / fan-in) everywhere, no activation after to-RGB); Pidhorskyi et al. 2020 and its code."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

ROOT2 = math.sqrt(2.0)


class _Equalised(nn.Module):
    """Weight and bias; ``scale`` is ``gain / √fan_in``, times ``rate`` in the implicit form."""

    def __init__(self, shape: tuple[int, ...], fan_in: int, bias: int, gain: float = ROOT2, rate: float | None = None):
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

    def __init__(self, inputs: int, outputs: int, **equal: Any):
        super().__init__((outputs, inputs), inputs, outputs, **equal)

    def forward(self, x: Tensor) -> Tensor:
        # The factor goes to the input, which is far smaller than the weights of a hypernetwork's head.
        return F.linear(x * self.scale if self.rate is None else x, self.weight, self.bias)


class EqualConv2d(_Equalised):
    """Convolution ``(B, inputs, H, W)`` → ``(B, outputs, H, W)``, or twice or half as large where it resamples, which
    is one strided convolution with a kernel averaged over four shifts: the same function with half the products.
    ``resample``: ``up`` repeats pixels and convolves; ``transposed`` does so with a kernel that is stored ``(inputs,
    outputs, 3, 3)`` and acts mirrored; ``averaged`` is that divided by four, as StyleGAN's port has it; ``down``
    convolves and takes the mean of four pixels. ``gain`` and ``rate`` are those of :class:`EqualLinear`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, resample: str = "", bias: bool = True, **equal: Any):
        self.mirrored = resample in ("transposed", "averaged")
        channels = (inputs, outputs) if self.mirrored else (outputs, inputs)
        super().__init__((*channels, kernel, kernel), inputs * kernel**2, outputs if bias else 0, **equal)
        # A kernel of an odd side keeps the size, one of an even side covers all of its maps.
        self.resample, self.padding = resample, kernel // 2 if kernel % 2 else 0

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled()
        if not self.resample:
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
        self.style = EqualLinear(latent, 2 * channels, gain=ROOT2 if rate is None else 1.0, rate=rate)
        self.base, self.epsilon = (0.0, 1e-5) if rate is None else (1.0, 1e-8)
        if rate is None:
            nn.init.ones_(self.style.bias[:channels])

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        gain, offset = self.style(w)[:, :, None, None].chunk(2, 1)
        x, _, variance = _centred(x)
        gain = (gain + self.base) * (variance + self.epsilon).rsqrt()
        return torch.addcmul(offset.to(x.dtype), x, gain.to(x.dtype))


Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes. Further blocks than ``doublings`` keep the size, which is ours: grids of latents are small."""

    channels: tuple[int, ...] = (128, 128, 64, 32)  # of the blocks, from 4×4 pixels on
    critic: tuple[int, ...] = (128, 128, 64, 32)  # channels of the critic's maps, block for block
    latent: int = 128  # length of z and of the style w
    mapping: int = 8  # layers between them
    fused_from: int = 128  # size in pixels from which resampling and convolution are one operation
    colours: int = 3  # channels of what is drawn: 3 for pictures, those of a cell for the latents of an autoencoder
    doublings: int | None = None  # blocks that double the size; None: all but the first, as published

    def __post_init__(self) -> None:
        for name in ("channels", "critic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.channels) != len(self.critic) or len(self.channels) < 2:
            widths = f"{len(self.channels)} and {len(self.critic)}"
            raise CourseError(f"generator and critic need channels for the same sizes, at least two, not {widths}.")

    @property
    def sizes(self) -> list[int]:
        """Side of each block's maps."""
        most = len(self.channels) - 1 if self.doublings is None else self.doublings
        return [4 * 2 ** min(index, most) for index in range(len(self.channels))]

    @property
    def size(self) -> int:
        return self.sizes[-1]


_PUBLISHED = (512, 512, 512, 512, 256, 128, 64, 32, 16)
FFHQ1024 = StyleGANConfig(_PUBLISHED, _PUBLISHED, 512)
"""The published configuration; its files hold all nine blocks, whatever resolution they were trained to."""


class NoiseScale(nn.Module):
    """Adds noise ``(B, 1, H, W)`` to maps, with a learned strength for each channel that starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = math.sqrt(2 / channels)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        # In the maps' own precision, or autocast would go on in float32 from here.
        return torch.addcmul(x, (self.weight * self.scale).to(x.dtype), noise.to(x.dtype))


class Block(nn.Module):
    """Constant or upsampling convolution and blur; noise → LeakyReLU → AdaIN → conv → noise → LeakyReLU → AdaIN."""

    def __init__(self, inputs: int | None, outputs: int, size: int, doubles: bool, config: StyleGANConfig):
        super().__init__()
        self.size, self.repeats = size, doubles and size < config.fused_from
        self.blur = Blur() if doubles else nn.Identity()
        if inputs is None:
            self.constant = nn.Parameter(torch.randn(1, outputs, 4, 4))
        elif self.repeats:  # nested as in the released files
            self.conv1 = nn.ModuleDict({"conv": EqualConv2d(inputs, outputs)})
        else:
            self.conv1 = EqualConv2d(inputs, outputs, resample="averaged" if doubles else "")
        self.conv2 = EqualConv2d(outputs, outputs)
        self.noise1, self.noise2 = NoiseScale(outputs), NoiseScale(outputs)
        self.adain1, self.adain2 = AdaIN(outputs, config.latent), AdaIN(outputs, config.latent)

    def forward(self, x: Tensor | None, w: Tensor, noise: Tensor, convolve: Map | None = None) -> Tensor:
        """Maps after the block, of those before (None for the first), a style ``(B, latent)`` and noise
        ``(B, 1, H, W)``, used twice. ``convolve`` stands in for each of the block's convolutions, in their order."""
        if x is None:
            x = self.constant.expand(len(w), -1, -1, -1)
        else:
            conv1 = self.conv1["conv"] if self.repeats else self.conv1
            x = F.interpolate(x, scale_factor=2) if self.repeats else x
            x = self.blur((convolve or conv1)(x))
        x = self.adain1(F.leaky_relu(self.noise1(x, noise), 0.2), w)
        x = (convolve or self.conv2)(x)
        return self.adain2(F.leaky_relu(self.noise2(x, noise), 0.2), w)


class Synthesis(nn.Module):
    """Styles and noise to pictures. Every block has a to-RGB, for growing; without it only the last one draws."""

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        channels, sizes = pairwise((None, *config.channels)), pairwise((4, *config.sizes))
        parts = zip(channels, sizes, strict=True)
        self.blocks = nn.ModuleList([Block(*both, size, size > before, config) for both, (before, size) in parts])
        self.to_rgb = nn.ModuleList([EqualConv2d(channels, config.colours, 1) for channels in config.channels])

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise, one map ``(count, 1, H, W)`` a block; drawn on the CPU: a seed means the same everywhere."""
        device = self.to_rgb[0].weight.device
        return [torch.randn(count, 1, b.size, b.size, generator=generator).to(device) for b in self.blocks]

    def features(self, w: Tensor, noise: Sequence[Tensor], convolve: Map | None = None) -> Iterator[Tensor]:
        """The maps after each block in turn, of one style for all blocks, ``(B, latent)``, or ``(B, blocks, latent)``;
        ``convolve`` as for :class:`Block` (Hyper-Modulation)."""
        x = None
        for index, (block, given) in enumerate(zip(self.blocks, noise, strict=True)):
            x = block(x, w if w.ndim == 2 else w[:, index], given, convolve)
            yield x

    def forward(self, w: Tensor, noise: Sequence[Tensor], size: int | None = None, alpha: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, size, size)``, about [−1, 1], unbounded; ``w`` and ``noise`` as for :meth:`features`.
        Growing stops at the block of ``size``, ``alpha`` of which is drawn, the rest is the enlarged picture before
        it."""
        sizes = [block.size for block in self.blocks]
        if size is not None and size not in sizes:
            raise CourseError(f"this generator draws {', '.join(map(str, dict.fromkeys(sizes)))} pixels, not {size}.")
        last = len(sizes) if size is None else len(sizes) - sizes[::-1].index(size)
        *_, before, maps = [None, *islice(self.features(w, noise), last)]
        picture = self.to_rgb[last - 1](maps)
        if alpha == 1.0 or before is None:
            return picture
        before = F.interpolate(self.to_rgb[last - 2](before), picture.shape[2:])
        return torch.lerp(before, picture, alpha)


class StyleGAN(nn.Module):
    """Noise to pictures through styles."""

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [PixelNorm()]
        for _ in range(config.mapping):
            layers += [EqualLinear(config.latent, config.latent), nn.LeakyReLU(0.2)]
        self.mapping, self.synthesis = nn.Sequential(*layers), Synthesis(config)

    @torch.no_grad()
    def mean_style(self, count: int = 4096) -> Tensor:
        """``(1, latent)``: the mean of w, towards which truncation pulls."""
        z = torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(0))
        return self.mapping(z.to(self.synthesis.to_rgb[0].weight.device)).mean(0, keepdim=True)

    def styles(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """w of z, of the same shape; truncation 0 gives the mean style to all."""
        w = self.mapping(z.flatten(0, -2)).view(z.shape)
        return w if truncation == 1.0 else torch.lerp(self.mean_style(), w, truncation)

    def forward(self, z: Tensor, noise: Sequence[Tensor] | None = None, truncation: float = 1.0, **grow: Any) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of z ``(B, latent)``, standard normal, or one a block, ``(B, blocks, latent)``; the
        noise is fresh by default, ``grow`` are ``size`` and ``alpha`` of :meth:`Synthesis.forward`."""
        noise = self.synthesis.noise(len(z)) if noise is None else noise
        return self.synthesis(self.styles(z, truncation), noise, **grow)


class CriticBlock(nn.Module):
    """conv → LeakyReLU → blur → conv with halving → LeakyReLU; without blur and halving where the size stays."""

    def __init__(self, inputs: int, outputs: int, halves: bool):
        super().__init__()
        self.conv1, self.blur = EqualConv2d(inputs, outputs), Blur() if halves else nn.Identity()
        self.conv2 = EqualConv2d(outputs, outputs, resample="down" if halves else "")

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(self.blur(F.leaky_relu(self.conv1(x), 0.2))), 0.2)


class StyleGANCritic(nn.Module):
    """Pictures to scores, real high, one for each of ``classes``, of which the label picks one. Only the first from-RGB
    reads; the others, for growing, are kept as in the files."""

    def __init__(self, config: StyleGANConfig, classes: int = 1):
        super().__init__()
        self.config = config
        channels, sizes = config.critic[::-1], config.sizes[::-1]
        self.from_rgb = nn.ModuleList([EqualConv2d(config.colours, width, 1) for width in channels])
        steps = zip(pairwise(channels), pairwise(sizes), strict=True)
        self.blocks = nn.ModuleList([CriticBlock(*widths, size > after) for widths, (size, after) in steps])
        last = channels[-1]
        self.last = nn.ModuleList([EqualConv2d(last + 1, last), EqualConv2d(last, last, 4)])
        self.head = EqualLinear(last, classes)

    def features(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` → ``(B, C)``; a CourseError if the pictures have another size."""
        if images.shape[-1] != self.config.size:
            raise CourseError(f"this critic takes {self.config.size} pixels, not {images.shape[-1]}.")
        x = F.leaky_relu(self.from_rgb[0](images), 0.2)
        for block in self.blocks:
            x = block(x)
        # How much the pictures of the batch differ, as one more channel: a critic that sees it notices collapse.
        spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(len(x), 1, 4, 4)
        x = F.leaky_relu(self.last[0](torch.cat([x, spread], 1)), 0.2)
        return F.leaky_relu(self.last[1](x), 0.2)[:, :, 0, 0]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Scores ``(B,)``; ``labels: (B,)`` is needed with more than one class."""
        scores = self.head(self.features(images))
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None])[:, 0]
