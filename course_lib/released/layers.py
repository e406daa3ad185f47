"""Pieces that several released networks share, named as their checkpoints name them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from course_lib.experts.autoencoder import Posterior
from course_lib.experts.protocol import freeze

__all__ = ["ActNorm", "FrozenNetwork", "Layers", "blocks_of_stages", "fully_connected", "posterior_of"]


class FrozenNetwork(nn.Module):
    """A released network.

    Attributes:
        notes: what the reader of its file left out or filled in, in words.
    """

    notes: tuple[str, ...] = ()

    def frozen(self) -> Self:
        """Ends a constructor: evaluation mode for good, without gradients."""
        return freeze(self)


class ActNorm(nn.Module):
    """``scale · (x + loc)`` per channel, the frozen form of :class:`course_lib.cinn.actnorm.ActNorm`.

    The encoder of the 256-pixel autoencoder set these layers from a noise picture when it was constructed, before any
    training (facts of CompVis/net2net). Whatever they began with, the trained values are in the file, so a frozen layer
    needs no initialisation.

    Args:
        channels: ``C``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``."""
        return self.scale * (x + self.loc)


class Layers(nn.Module):
    """A chain whose tensors are called ``sub_layers.{i}``."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.sub_layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.sub_layers:
            x = layer(x)
        return x


class _Main(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def fully_connected(widths: Sequence[int]) -> nn.Module:
    """Linear layers of these widths with LeakyReLU (slope 0.01) between them, called ``main.{0, 2, 4, …}``."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.01)]
    return _Main(*layers[:-1])


def blocks_of_stages(stages: Iterable[Iterable[str]]) -> tuple[int, ...]:
    """How many residual blocks each stage of a ResNet has, from the names ``{block}.….weight`` of its tensors.

    Raises:
        ValueError: a stage without tensors.
    """
    return tuple(1 + max(int(name.split(".")[0]) for name in stage) for stage in stages)


def posterior_of(moments: Tensor) -> Posterior:
    """From ``(B, 2 D)`` or ``(B, 2 D, 1, 1)``: means, then log-variances, which the released code clamps."""
    mean, log_variance = moments.flatten(1).chunk(2, dim=1)
    return Posterior(mean, log_variance.clamp(-30.0, 10.0))
