"""Labels as a source expert: one class, or several attributes, as one-hot conditions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["LabelExpert"]


class LabelExpert:
    """One-hot vectors of labels.

    Args:
        classes: number of classes, or attribute name → number of classes; then the one-hots are joined in that order.
        crossed: groups of attribute names. For each group the product of their one-hots follows: a number that is 1 for
            one combination of values. A linear map of the condition then has a mean of its own for, say, black hair in
            each style.

    Attributes:
        joined: length of the joined one-hots, before the products.
        condition_shape: ``(K,)``.
        slices: attribute name → where its one-hot lies in the condition; empty for a plain label.

    Raises:
        CourseError: there is no attribute, one without classes, or a group of unknown ones.

    References:
        Net2Net's ``Labelator`` (code), and its attribute modification (paper, section 4.3). The products are ours.
    """

    def __init__(self, classes: int | Mapping[str, int], crossed: Sequence[Sequence[str]] = ()):
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
        self.crossed = tuple(tuple(group) for group in crossed)
        unknown = {name for group in self.crossed for name in group} - set(self.slices)
        if unknown:
            raise CourseError(f"there is no attribute {', '.join(sorted(unknown))} to cross.")
        self.joined, width = start, start
        for group in self.crossed:
            cells = 1
            for name in group:
                cells *= counts[name]
            width += cells
        self.condition_shape = (width,)

    def encode(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Conditions ``float32 (B, K)`` on the labels' device.

        Args:
            x: ``int64 (B,)`` class numbers; for attributes a mapping from names to such numbers. An attribute that is
                not in the mapping is left open: zeros.

        Raises:
            CourseError: a number is out of range, or an attribute is not one of this expert.
        """
        return self.cross(self.join(x))

    def join(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The joined one-hots ``(B, joined)`` without products; arguments and errors as for :meth:`encode`."""
        if not isinstance(self.classes, dict):
            if isinstance(x, Mapping):
                raise CourseError("this expert takes one label: give the numbers, not a mapping.")
            return _one_hot(x, self.classes, "label")
        if not isinstance(x, Mapping) or not x or set(x) - set(self.classes):
            raise CourseError(f"this expert takes a mapping with some of the attributes {', '.join(self.classes)}.")
        known = next(iter(x.values()))
        empty = torch.zeros(len(known), 1, device=known.device)
        parts = [
            _one_hot(x[name], count, name) if name in x else empty.expand(-1, count)
            for name, count in self.classes.items()
        ]
        return torch.cat(parts, dim=1)

    def cross(self, joined: Tensor) -> Tensor:
        """Conditions of joined one-hots, or of degrees of belief in their place: ``(B, joined)`` → ``(B, K)``."""
        parts = [joined]
        for group in self.crossed:
            product = joined[:, self.slices[group[0]]]
            for name in group[1:]:
                product = (product[:, :, None] * joined[:, None, self.slices[name]]).flatten(1)
            parts.append(product)
        return torch.cat(parts, dim=1)


def _one_hot(labels: Tensor, count: int, name: str) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point():
        raise CourseError(f"{name} numbers are whole and of shape (B,), not {labels.dtype} {tuple(labels.shape)}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise CourseError(
            f"{name} numbers go from 0 to {count - 1}; these go from {int(labels.min())} to {int(labels.max())}."
        )
    return F.one_hot(labels.long(), count).float()
