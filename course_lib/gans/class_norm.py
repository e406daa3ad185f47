"""Batch norm whose scale and offset depend on the class: the only place where a BigGAN generator knows its class."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spectral import SNLinear
from .synchronise import batch_norm_everywhere, several_processes

__all__ = ["ClassNorm", "OutputNorm", "standing_statistics", "synchronise"]


class _Statistics(nn.Module):
    """Batch statistics in training, stored ones in evaluation."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps, self.momentum, self.synchronised = eps, 0.1, False
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def _normalise(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        stored = self.stored_mean, self.stored_var
        if self.training and self.synchronised and several_processes():
            return batch_norm_everywhere(x, *stored, weight, bias, self.momentum, self.eps)
        return F.batch_norm(x, *stored, weight, bias, self.training, self.momentum, self.eps)


class ClassNorm(_Statistics):
    """Class-conditional batch norm: ``x̂ · (1 + gain(y)) + bias(y)``.

    Args:
        channels: of the maps.
        condition: length of the condition vector (class embedding with the block's part of z), or None for a lookup
            table per class.
        classes: number of classes of the table.
        eps: of the batch norm.
        sn_eps: of the spectral norm of the two linear maps; the tables have none.
    """

    def __init__(self, channels: int, condition: int | None, classes: int, eps: float = 1e-5, sn_eps: float = 1e-6):
        super().__init__(channels, eps)
        if condition is None:
            self.gain, self.bias = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        else:
            self.gain = SNLinear(condition, channels, bias=False, eps=sn_eps)
            self.bias = SNLinear(condition, channels, bias=False, eps=sn_eps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, condition ``(B, K)`` or class indices ``(B,)`` → maps."""
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return torch.addcmul(bias[:, :, None, None], self._normalise(x), gain[:, :, None, None])


class OutputNorm(_Statistics):
    """The last batch norm: one learned gain and bias a channel, the same for all classes."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__(channels, eps)
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps → maps."""
        return self._normalise(x, self.gain, self.bias)


def synchronise(network: nn.Module, on: bool = True) -> nn.Module:
    """Whether batch statistics in training are those of all devices together.

    Published: no, each device normalises its own pictures, so that the number of devices changes the training; only the
    first one's running statistics survive.
    """
    for layer in network.modules():
        if isinstance(layer, _Statistics):
            layer.synchronised = on
    return network


@contextmanager
def _statistics_mode(layers: list[_Statistics]) -> Iterator[None]:
    modes = [(layer.training, layer.momentum) for layer in layers]
    try:
        yield
    finally:
        for layer, (training, layer.momentum) in zip(layers, modes, strict=True):
            layer.training = training


@torch.no_grad()
def standing_statistics(generator: nn.Module, forward: Callable[[], object], passes: int = 16) -> None:
    """Replaces the running statistics by their mean over ``passes`` fresh batches.

    Running statistics follow weights that were still moving, and an averaged generator never computed any of its own.
    Brock et al. 2019 (appendix C) accumulate them anew before sampling.

    Args:
        generator: whose batch norms are set; spectral vectors stay as they are.
        forward: calls the generator once on a fresh batch of the size and label mix of training.
        passes: number of batches.
    """
    layers = [layer for layer in generator.modules() if isinstance(layer, _Statistics)]
    with _statistics_mode(layers):
        for index in range(passes):
            for layer in layers:
                # Not train(): a frozen network ignores it on purpose, and spectral norm must not move.
                layer.training, layer.momentum = True, 1.0 / (index + 1)
            forward()
