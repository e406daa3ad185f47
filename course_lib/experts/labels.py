"""Labels as a source expert: one class, or several attributes, as one-hot conditions."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["LabelExpert"]


class LabelExpert:
    """One-hot vectors of labels.

    Args:
        classes: number of classes, or attribute name → number of classes; then the one-hots are joined in that order.

    Attributes:
        condition_shape: ``(K,)``, or ``(ΣK,)`` for attributes.
        slices: attribute name → where its one-hot lies in the condition; empty for a plain label.

    Raises:
        CourseError: there is no attribute, or one without classes.

    References:
        Net2Net's ``Labelator`` (code), and its attribute modification (paper, section 4.3).
    """

    def __init__(self, classes: int | Mapping[str, int]):
        self.classes = dict(classes) if isinstance(classes, Mapping) else int(classes)
        counts = self.classes if isinstance(self.classes, dict) else {"label": self.classes}
        if not counts or min(counts.values()) < 1:
            raise CourseError(f"a label needs at least one class, not {self.classes}.")
        self.slices: dict[str, slice] = {}
        start = 0
        for name, count in counts.items():
            if isinstance(self.classes, dict):
                self.slices[name] = slice(start, start + count)
            start += count
        self.condition_shape = (start,)

    def encode(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Conditions ``float32 (B, K)`` on the labels' device.

        Args:
            x: ``int64 (B,)`` class numbers; for attributes a mapping from every attribute's name to such numbers.

        Raises:
            CourseError: a number is out of range, or the attributes are not those of this expert.
        """
        if not isinstance(self.classes, dict):
            if isinstance(x, Mapping):
                raise CourseError("this expert takes one label: give the numbers, not a mapping.")
            return _one_hot(x, self.classes, "label")
        if not isinstance(x, Mapping) or set(x) != set(self.classes):
            raise CourseError(f"this expert takes a mapping with the attributes {', '.join(self.classes)}.")
        return torch.cat([_one_hot(x[name], count, name) for name, count in self.classes.items()], dim=1)

    def other_label(self, labels: Tensor, generator: torch.Generator | None = None, name: str | None = None) -> Tensor:
        """Random labels that differ from ``labels``, all others equally likely.

        Args:
            labels: ``int64 (B,)``.
            generator: source of the choice, on the CPU.
            name: which attribute the labels are of.

        Raises:
            CourseError: there is no such attribute, a number is out of range, or there is only one class.
        """
        if isinstance(self.classes, dict) and name not in self.classes:
            raise CourseError(f"there is no attribute {name!r}: choose one of {', '.join(self.classes)}.")
        count = self.classes[name] if isinstance(self.classes, dict) else self.classes
        if count < 2:
            raise CourseError("there is no other label: this one has a single class.")
        _check(labels, count, name or "label")
        # A shift of 1 to K − 1 around the circle of classes reaches every other one and never the same.
        shift = torch.randint(1, count, labels.shape, generator=generator).to(labels.device)
        return (labels + shift) % count


def _check(labels: Tensor, count: int, name: str) -> None:
    if labels.ndim != 1 or labels.is_floating_point():
        raise CourseError(f"{name} numbers are whole and of shape (B,), not {labels.dtype} {tuple(labels.shape)}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise CourseError(
            f"{name} numbers go from 0 to {count - 1}; these go from {int(labels.min())} to {int(labels.max())}."
        )


def _one_hot(labels: Tensor, count: int, name: str) -> Tensor:
    labels = torch.as_tensor(labels)
    _check(labels, count, name)
    return F.one_hot(labels.long(), count).float()
