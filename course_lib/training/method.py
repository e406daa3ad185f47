"""What a method gives to the loop."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Loss", "Method", "frozen"]


@dataclass
class Loss:
    """One phase of a step: minimise ``value`` with the optimiser called ``optimizer``.

    Attributes:
        optimizer: its name.
        value: what is minimised.
        scalars: more numbers for the curve.
        also: names of further optimisers that step on the same gradients.
    """

    optimizer: str
    value: Tensor
    scalars: dict[str, Tensor | float] = field(default_factory=dict)
    also: tuple[str, ...] = ()


class Method:
    """Base class of everything that :func:`course_lib.training.train` trains.

    Attributes:
        modules: the networks that change, by name. The loop replaces them by wrapped ones (precision, DDP) while it
            runs, so call them through ``self.modules[name](…)``.
        optimizers: by name; their parameters belong to ``modules``.
        ema: name of a module → decay of its exponential moving average.
        length: number of training items.
        device: where :meth:`batch` must put its tensors; the loop sets it.
        autocast: the run's precision, for passes through :meth:`unwrapped` networks; the loop sets it.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    ema: dict[str, float]
    length: int
    device: torch.device = torch.device("cpu")
    autocast: Callable[[], AbstractContextManager] = nullcontext

    def __init__(self) -> None:
        self.modules, self.optimizers, self.ema, self.length = {}, {}, {}, 0
        self.plain: dict[str, nn.Module] = {}

    def to_device(self, device: torch.device) -> None:
        """Moves what the method reads but does not train: data, frozen experts."""
        self.device = device

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        """The training items ``index: (B,)`` as tensors on ``self.device``.

        Random augmentation must draw from ``generator`` (CPU) alone, or a resumed run sees other pictures.
        """
        raise TypeError(f"{type(self).__name__} must define batch()")

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Yields one :class:`Loss` per optimiser phase.

        The loop back-propagates and steps that optimiser before it asks for the next phase, so a critic's phase sees
        the generator that has just been updated. Under gradient accumulation every micro-batch runs phase one, then the
        optimiser steps once, then every micro-batch runs phase two.
        """
        raise TypeError(f"{type(self).__name__} must define losses()")

    def learning_rate(self, progress: float) -> float:
        """Factor on every learning rate at ``progress`` in [0, 1] of the budget; constant unless overridden."""
        return 1.0

    def preview(self) -> Tensor | None:
        """Pictures ``(N, 3, S, S)`` in [−1, 1] that show how far training is, or None."""
        return None

    def unwrapped(self, name: str) -> nn.Module:
        """Module ``name`` without the DDP wrapper, for passes whose parameter gradients are not wanted."""
        return self.plain.get(name, self.modules[name])


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through ``module`` but not into its parameters: saves their computation."""
    flags = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in zip(module.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
