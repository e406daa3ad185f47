"""BigGAN: a class-conditional generator and its projection discriminator.

Source: Brock et al. 2019 and the authors' PyTorch code, whose names of tensors are kept so that its weights load.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .class_norm import ClassNorm, OutputNorm
from .spectral import SNConv2d, SNEmbedding, SNLinear

__all__ = ["CIFAR32", "IMAGENET128", "BigGANConfig", "Discriminator", "Generator", "start_weights"]


@dataclass(frozen=True)
class BigGANConfig:
    """Sizes and options of generator and discriminator.

    Attributes:
        classes: number of classes.
        generator: channels after the first linear layer and after each block; every block doubles the size from 4, as
            published.
        discriminator: channels after each block.
        halvings: how many of the discriminator's blocks, from the first, halve the size.
        noise: length of the noise vector z. With ``embedding`` it is split evenly over the first layer and the blocks.
        embedding: length of the class embedding that all blocks share, or None for a table in every batch norm, which
            then sees no part of z.
        attention: sizes of the maps, in pixels, after which self-attention stands.
        sn_eps: of spectral norm.
        colours: channels of what is drawn: 3 for pictures, those of a cell for the latents of an autoencoder.
        doublings: how many of the generator's blocks, from the first, double the size, if not all.
        bounded: whether the generator ends in tanh; latents have no bounds.
    """

    classes: int
    generator: tuple[int, ...] = (128, 96, 64, 32)
    discriminator: tuple[int, ...] = (32, 64, 96, 96)
    halvings: int = 3
    noise: int = 64
    embedding: int | None = 64
    attention: tuple[int, ...] = (16,)
    sn_eps: float = 1e-6
    colours: int = 3
    doublings: int | None = None
    bounded: bool = True

    def __post_init__(self) -> None:
        for name in ("generator", "discriminator", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.embedding is not None and self.noise % len(self.generator):
            raise CourseError(
                f"a noise vector of {self.noise} numbers cannot be split over {len(self.generator)} layers: choose a "
                f"multiple of {len(self.generator)}."
            )

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return 4 * 2 ** (len(self.generator) - 1 if self.doublings is None else self.doublings)

    @property
    def chunk(self) -> int:
        """Length of the part of z that each layer gets."""
        return self.noise if self.embedding is None else self.noise // len(self.generator)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


IMAGENET128 = BigGANConfig(
    1000, (1536, 1536, 768, 384, 192, 96), (96, 192, 384, 768, 1536, 1536), 5, 120, 128, (64,), 1e-6
)
"""The published configuration at 128 pixels."""
CIFAR32 = BigGANConfig(100, (256,) * 4, (256,) * 4, 2, 128, None, (), 1e-8)
"""The published configuration at 32 pixels."""


class Attention(nn.Module):
    """Self-attention over places, added with a weight that starts at zero (Zhang et al. 2019); maps in and out."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.theta = SNConv2d(channels, channels // 8, 1, bias=False, eps=eps)
        self.phi = SNConv2d(channels, channels // 8, 1, bias=False, eps=eps)
        self.g = SNConv2d(channels, channels // 2, 1, bias=False, eps=eps)
        self.o = SNConv2d(channels // 2, channels, 1, bias=False, eps=eps)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` → the same shape."""
        query = self.theta(x).flatten(2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2)
        value = F.max_pool2d(self.g(x), 2).flatten(2)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        found = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return self.gamma * self.o(found) + x


class GeneratorBlock(nn.Module):
    """ClassNorm → ReLU [→ ×2] → conv → ClassNorm → ReLU → conv, beside a 1×1 shortcut."""

    def __init__(self, inputs: int, outputs: int, config: BigGANConfig, double: bool = True):
        super().__init__()
        self.scale = 2 if double else 1
        eps = config.sn_eps
        condition = None if config.embedding is None else config.embedding + config.chunk
        self.conv1, self.conv2 = SNConv2d(inputs, outputs, 3, eps=eps), SNConv2d(outputs, outputs, 3, eps=eps)
        self.conv_sc = SNConv2d(inputs, outputs, 1, eps=eps)
        self.bn1 = ClassNorm(inputs, condition, config.classes, sn_eps=eps)
        self.bn2 = ClassNorm(outputs, condition, config.classes, sn_eps=eps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps ``(B, inputs, H, W)`` → ``(B, outputs, 2H, 2W)``, or of the same size."""
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
        self.output_layer = nn.Sequential(
            OutputNorm(last), nn.ReLU(), SNConv2d(last, config.colours, 3, eps=config.sn_eps)
        )

    def embed(self, labels: Tensor) -> Tensor:
        """Class indices ``(B,)`` → condition: embeddings ``(B, E)``, or the indices where every layer has a table."""
        return labels if self.config.embedding is None else self.shared(labels)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Pictures ``(B, colours, S, S)`` in [−1, 1], or unbounded.

        Args:
            z: ``(B, noise)``, standard normal.
            condition: of :meth:`embed`, or any vector ``(B, E)`` between embeddings; ``(B, blocks, E)`` gives each
                block its own.
        """
        conditions = condition.unbind(1) if condition.ndim == 3 else [condition] * len(self.blocks)
        if self.config.embedding is None:
            first = z
        else:
            first, *rest = z.split(self.config.chunk, 1)
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
        self.conv1, self.conv2 = SNConv2d(inputs, outputs, 3, eps=eps), SNConv2d(outputs, outputs, 3, eps=eps)
        self.conv_sc = SNConv2d(inputs, outputs, 1, eps=eps) if halve or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps → maps of half the size if ``halve``."""
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            # A 1×1 convolution and averaging commute, so the shortcut may always average first: cheaper.
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + (x if self.conv_sc is None else self.conv_sc(x))


class Discriminator(nn.Module):
    """Pictures and class to a score, real high (projection discriminator, Miyato and Koyama 2018)."""

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
        """Scores ``(B,)``."""
        h = self.features(images)
        return self.linear(h)[:, 0] + (self.embed(labels) * h).sum(1)


def start_weights(network: nn.Module, kind: str = "orthogonal") -> None:
    """Sets every weight of a convolution, linear map or table as published; biases keep torch's default.

    Args:
        network: changed in place.
        kind: ``orthogonal`` (ImageNet) or ``normal``, deviation 0.02 (CIFAR).
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            if kind == "orthogonal":
                nn.init.orthogonal_(module.weight)
            elif kind == "normal":
                nn.init.normal_(module.weight, 0.0, 0.02)
            else:
                raise CourseError(f"weights start 'orthogonal' or 'normal', not {kind!r}.")
