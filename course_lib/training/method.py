"""What a method gives to the training loop, how long a run lasts, and what it leaves."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``steps``, or after ``seconds`` of training (earlier runs of a resumed training included)."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {int: self.steps, Real: self.seconds}
        right = [isinstance(x, kind) and 0 <= x < math.inf for kind, x in given.items() if x is not None]
        if not right or not all(right):
            found = f"steps={self.steps!r}, seconds={self.seconds!r}"
            raise CourseError(f"a training budget is a whole number of steps, a finite time, or both, not {found}.")

    def progress(self, step: int, seconds: float) -> float:
        """Share used, in [0, 1]; an empty budget is used up from the start."""
        pairs = ((step, self.steps), (seconds, self.seconds))
        return min(1.0, max(used / limit if limit else 1.0 for used, limit in pairs if limit is not None))


@dataclass
class History:
    """What a run leaves: steps done, seconds of training, logged means, and the averaged modules if any."""

    steps: int = 0
    seconds: float = 0.0
    curve: dict[str, list[float]] = field(default_factory=dict)
    averaged: dict[str, nn.Module] = field(default_factory=dict)


@dataclass
class Loss:
    """One phase of a step: minimise ``value`` with the optimiser called ``optimizer``."""

    optimizer: str
    value: Tensor
    scalars: dict[str, Tensor | float] = field(default_factory=dict)  # more numbers for the curve
    also: tuple[str, ...] = ()  # further optimisers that step on the same gradients


class Method:
    """Base class of everything that :func:`course_lib.training.train` trains.

    While it runs, the loop replaces ``modules`` by wrapped ones (precision, DDP): call ``self.modules[name](…)``.
    """

    modules: dict[str, nn.Module]  # the networks that change
    optimizers: dict[str, torch.optim.Optimizer]  # their parameters belong to ``modules``
    ema: dict[str, float]  # name of a module → decay of its exponential moving average
    length: int  # number of training items
    moved: tuple[str, ...] = ()  # attributes that go to the device, too: tensors, image sets, lists of these
    device: torch.device = torch.device("cpu")  # where batch() must put its tensors; the loop sets it
    autocast: Callable[[], AbstractContextManager] = nullcontext  # the run's precision, for unwrapped networks

    def __init__(self) -> None:
        self.modules, self.optimizers, self.ema, self.length = {}, {}, {}, 0
        self.plain: dict[str, nn.Module] = {}

    def to_device(self, device: torch.device) -> None:
        """Moves what the method reads but does not train: what :attr:`moved` names; frozen experts by overriding."""
        self.device = device
        for name in self.moved:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, [x.to(device) for x in value] if isinstance(value, list) else value.to(device))

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        """The training items ``index: (B,)`` as tensors on ``self.device``; augmentation draws from ``generator`` (CPU)
        alone, or a resumed run sees other pictures."""
        raise TypeError(f"{type(self).__name__} must define batch()")

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Yields one :class:`Loss` per optimiser phase; the loop steps that optimiser before it asks for the next, so a
        critic's phase sees the generator that has just been updated."""
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
