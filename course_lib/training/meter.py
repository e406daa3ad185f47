"""Logged numbers: summed between two points of the curve, and watched for values that are not finite."""

import math

import torch

from ..errors import CourseError
from .method import Loss

__all__ = ["Meter"]


class Meter:
    """Collects the scalars of each step.

    Args:
        eager: read each number at once. On a GPU reading waits for the device, so there it is left to :meth:`read`,
            which the loop calls before it logs or saves.

    Attributes:
        sums: name → values since the last :meth:`means`.
    """

    def __init__(self, eager: bool):
        self.eager = eager
        self.sums: dict[str, list[float]] = {}
        self.pending: list[tuple[int, dict]] = []

    def add(self, step: int, loss: Loss) -> None:
        """Records one phase of ``step``.

        Raises:
            CourseError: a number is not finite, see :meth:`read`.
        """
        self.pending.append((step, {f"loss/{loss.optimizer}": loss.value, **loss.scalars}))
        if self.eager:
            self.read()

    def read(self) -> None:
        """Reads what is pending.

        Raises:
            CourseError: a number is not finite; names it and the step.
        """
        for step, scalars in self.pending:
            for name, value in scalars.items():
                number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                if not math.isfinite(number):
                    raise CourseError(
                        f"{name} became {number} at step {step}: lower the learning rate or clip gradients."
                    )
                self.sums.setdefault(name, []).append(number)
        self.pending.clear()

    def means(self) -> dict[str, float]:
        """Mean of each number since the last call."""
        self.read()
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        self.sums = {}
        return means
