"""How long a run lasts, and what it leaves."""

from dataclasses import dataclass, field

from torch import nn

from ..errors import CourseError

__all__ = ["Budget", "History"]


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``steps``, or after ``seconds`` of training (earlier runs of a resumed training included).

    Raises:
        CourseError: neither is given, or one is negative.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise CourseError("a training budget needs steps, seconds or both.")
        if min(self.steps or 0, self.seconds or 0) < 0:
            raise CourseError(f"a training budget cannot be negative: steps={self.steps}, seconds={self.seconds}.")

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

    def log(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one point."""
        for name, value in {"step": step, **scalars}.items():
            self.curve.setdefault(name, []).append(value)
