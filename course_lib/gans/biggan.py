"""BigGAN: a class-conditional generator and its projection discriminator. Source: Brock et al. 2019 and the authors'
PyTorch code, whose names of tensors are kept so that its weights load."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError


@dataclass(frozen=True)
class BigGANConfig:
    """Sizes and options of generator and discriminator."""

    classes: int
    generator: tuple[int, ...] = (128, 96, 64, 32)  # channels after the first linear layer and after each block
    discriminator: tuple[int, ...] = (32, 64, 96, 96)  # channels after each block
    halvings: int = 3  # how many of the discriminator's blocks, from the first, halve the size
    noise: int = 64  # length of z; with an embedding it is split evenly over the first layer and the blocks
    embedding: int | None = 64  # of the class, shared by all blocks; None: a table in every batch norm, which sees no z
    attention: tuple[int, ...] = (16,)  # sizes of the maps, in pixels, after which self-attention stands
    sn_eps: float = 1e-6  # of spectral norm
    colours: int = 3  # channels of what is drawn: 3 for pictures, those of a cell for the latents of an autoencoder
    doublings: int | None = None  # blocks of the generator, from the first, that double the size from 4; None: all
    bounded: bool = True  # whether the generator ends in tanh; latents have no bounds

    def __post_init__(self) -> None:
        for name in ("generator", "discriminator", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.embedding is not None and self.noise % len(self.generator):
            split = f"{self.noise} numbers cannot be split over {len(self.generator)} layers"
            raise CourseError(f"a noise vector of {split}: choose a multiple of {len(self.generator)}.")

    @property
    def size(self) -> int:
        return 4 * 2 ** (len(self.generator) - 1 if self.doublings is None else self.doublings)

    @property
    def chunk(self) -> int:
        """Length of the part of z that each layer gets."""
        return self.noise if self.embedding is None else self.noise // len(self.generator)


IMAGENET128 = BigGANConfig(1000, (1536, 1536, 768, 384, 192, 96), (96, 192, 384, 768, 1536, 1536), 5, 120, 128, (64,))
CIFAR32 = BigGANConfig(100, (256,) * 4, (256,) * 4, 2, 128, None, (), 1e-8)
"""The published configurations at 128 and at 32 pixels."""


class _Spectral(nn.Module):
    """Spectral norm as BigGAN publishes it, with ``u0`` and ``sv0`` in the state dict and other gradients than
    torch's."""

    weight: nn.Parameter

    def __init__(self, *sizes: Any, eps: float = 1e-6, **options: Any):
        super().__init__(*sizes, **options)
        self.sn_eps = eps
        self.register_buffer("u0", torch.randn(1, len(self.weight)))
        self.register_buffer("sv0", torch.ones(1))

    def normalised(self) -> Tensor:
        """``weight / σ``, with σ = ‖v Wᵀ‖ after one power iteration, which is stored only in training mode; gradients
        pass through W in both places."""
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


class SNConv2d(_Spectral, nn.Conv2d):
    """torch's, with normalised weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalised(), self.bias)


class SNLinear(_Spectral, nn.Linear):
    """torch's, with normalised weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised(), self.bias)


class SNEmbedding(_Spectral, nn.Embedding):
    """torch's, with normalised weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.normalised())


class _BatchNorm(nn.Module):
    """Batch statistics in training, stored ones in evaluation. Each device of a run normalises its own pictures."""

    def __init__(self, channels: int):
        super().__init__()
        self.eps, self.momentum = 1e-5, 0.1
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def _normalise(self, x: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        settings = (self.training, self.momentum, self.eps)
        return F.batch_norm(x, self.stored_mean, self.stored_var, gain, bias, *settings)


class ClassNorm(_BatchNorm):
    """Class-conditional batch norm ``x̂ · (1 + gain(y)) + bias(y)``: all that a BigGAN generator knows of its class.
    ``condition`` is the length of the condition, or None for tables of ``classes`` rows without spectral norm."""

    def __init__(self, channels: int, condition: int | None, classes: int, sn_eps: float = 1e-6):
        super().__init__(channels)
        if condition is None:
            self.gain, self.bias = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        else:
            self.gain = SNLinear(condition, channels, bias=False, eps=sn_eps)
            self.bias = SNLinear(condition, channels, bias=False, eps=sn_eps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, condition ``(B, K)`` or class indices ``(B,)`` → maps."""
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return torch.addcmul(bias[:, :, None, None], self._normalise(x), gain[:, :, None, None])


class OutputNorm(_BatchNorm):
    """The last batch norm: one learned gain and bias a channel, the same for all classes."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self._normalise(x, self.gain, self.bias)


@torch.no_grad()
def standing_statistics(generator: nn.Module, forward: Callable[[], object], passes: int = 16) -> None:
    """Replaces the running statistics, which follow weights that were still moving, by their mean over ``passes`` calls
    of ``forward``, which feeds a fresh batch of the size and label mix of training (Brock et al. 2019, appendix C)."""
    layers = [layer for layer in generator.modules() if isinstance(layer, _BatchNorm)]
    modes = [(layer.training, layer.momentum) for layer in layers]
    for index in range(passes):
        for layer in layers:
            # Not train(): a frozen network ignores it on purpose, and spectral norm must not move.
            layer.training, layer.momentum = True, 1.0 / (index + 1)
        forward()
    for layer, (training, momentum) in zip(layers, modes, strict=True):
        layer.training, layer.momentum = training, momentum


class Attention(nn.Module):
    """Self-attention over places, added with a weight that starts at zero (Zhang et al. 2019); maps in and out."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        places = partial(SNConv2d, kernel_size=1, bias=False, eps=eps)
        self.theta, self.phi = places(channels, channels // 8), places(channels, channels // 8)
        self.g, self.o = places(channels, channels // 2), places(channels // 2, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2)
        value = F.max_pool2d(self.g(x), 2).flatten(2)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        return self.gamma * self.o((value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])) + x


class GeneratorBlock(nn.Module):
    """ClassNorm → ReLU [→ ×2] → conv → ClassNorm → ReLU → conv, beside a 1×1 shortcut."""

    def __init__(self, inputs: int, outputs: int, config: BigGANConfig, double: bool = True):
        super().__init__()
        self.scale = 2 if double else 1
        condition, eps = None if config.embedding is None else config.embedding + config.chunk, config.sn_eps
        self.conv1 = SNConv2d(inputs, outputs, 3, padding=1, eps=eps)
        self.conv2 = SNConv2d(outputs, outputs, 3, padding=1, eps=eps)
        self.conv_sc = SNConv2d(inputs, outputs, 1, eps=eps)
        self.bn1, self.bn2 = (ClassNorm(width, condition, config.classes, eps) for width in (inputs, outputs))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.bn1(x, condition)), scale_factor=self.scale)
        h = self.conv2(F.relu(self.bn2(self.conv1(h), condition)))
        # A 1×1 convolution and enlarging by repetition commute; this order is four times cheaper.
        return h + F.interpolate(self.conv_sc(x), scale_factor=self.scale)


class Generator(nn.Module):
    """Noise and class to pictures."""

    def __init__(self, config: BigGANConfig):
        super().__init__()
        self.config = config
        first, last = config.generator[0], config.generator[-1]
        if config.embedding is not None:
            self.shared = nn.Embedding(config.classes, config.embedding)
        self.linear = SNLinear(config.chunk, first * 16, eps=config.sn_eps)
        blocks, size = [], 4
        for inputs, outputs in pairwise(config.generator):
            double = size < config.size
            size *= 2 if double else 1
            parts: list[nn.Module] = [GeneratorBlock(inputs, outputs, config, double)]
            if double and size in config.attention:
                parts.append(Attention(outputs, config.sn_eps))
            blocks.append(nn.ModuleList(parts))
        self.blocks = nn.ModuleList(blocks)
        draw = SNConv2d(last, config.colours, 3, padding=1, eps=config.sn_eps)
        self.output_layer = nn.Sequential(OutputNorm(last), nn.ReLU(), draw)

    def embed(self, labels: Tensor) -> Tensor:
        """Class indices ``(B,)`` → condition: embeddings ``(B, E)``, or the indices where every layer has a table."""
        return labels if self.config.embedding is None else self.shared(labels)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Pictures ``(B, colours, S, S)`` in [−1, 1], or unbounded, of z ``(B, noise)``, standard normal, and the
        condition of :meth:`embed`, any vector ``(B, E)`` between embeddings, or one a block, ``(B, blocks, E)``."""
        conditions = condition.unbind(1) if condition.ndim == 3 else [condition] * len(self.blocks)
        first, *rest = z.split(self.config.chunk, 1)  # with tables the chunk is all of z
        if rest:
            conditions = [torch.cat(pair, 1) for pair in zip(conditions, rest, strict=True)]
        h = self.linear(first).view(-1, self.config.generator[0], 4, 4)
        for block, given in zip(self.blocks, conditions, strict=True):
            h = block[0](h, given)
            for attention in block[1:]:
                h = attention(h)
        h = self.output_layer(h)
        return h.tanh() if self.config.bounded else h


class DiscriminatorBlock(nn.Module):
    """[ReLU →] conv → ReLU → conv [→ halve], beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool, eps: float):
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1 = SNConv2d(inputs, outputs, 3, padding=1, eps=eps)
        self.conv2 = SNConv2d(outputs, outputs, 3, padding=1, eps=eps)
        self.conv_sc = SNConv2d(inputs, outputs, 1, eps=eps) if halve or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            # A 1×1 convolution and averaging commute, so the shortcut may always average first: cheaper.
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + (x if self.conv_sc is None else self.conv_sc(x))


class Discriminator(nn.Module):
    """Pictures and class to scores ``(B,)``, real high (projection discriminator, Miyato and Koyama 2018)."""

    def __init__(self, config: BigGANConfig):
        super().__init__()
        self.config = config
        eps, inputs, size, blocks = config.sn_eps, config.colours, config.size, []
        for index, outputs in enumerate(config.discriminator):
            halve = index < config.halvings
            size = size // 2 if halve else size
            parts: list[nn.Module] = [DiscriminatorBlock(inputs, outputs, halve, index == 0, eps)]
            if halve and size in config.attention:
                parts.append(Attention(outputs, eps))
            blocks.append(nn.ModuleList(parts))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.linear = SNLinear(inputs, 1, eps=eps)
        self.embed = SNEmbedding(config.classes, inputs, eps=eps)

    def features(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` in [−1, 1] → ``(B, C)``, summed over places."""
        h = images
        for block in self.blocks:
            for part in block:
                h = part(h)
        return F.relu(h).sum((2, 3))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        h = self.features(images)
        return self.linear(h)[:, 0] + (self.embed(labels) * h).sum(1)


def start_weights(network: nn.Module) -> None:
    """Makes every weight of a convolution, linear map or table orthogonal, as published; biases keep torch's start."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            nn.init.orthogonal_(module.weight)
