"""Classes made of several label values, and a few pictures of each: the data of class-conditional transfer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..errors import CourseError
from .image_set import ImageSet

__all__ = ["TRANSFER_CLASSES", "few_per_class", "regroup", "transfer_classes"]

TRANSFER_CLASSES: dict[str, tuple[str, ...]] = {
    "hearts": ("heart",),
    "clocks": ("time",),
    "hands": ("hand-fingers-open",),
    "fruit": ("food-fruit", "food-vegetable"),
    "buttons": ("keycap", "av-symbol"),
    "signs": ("zodiac", "religion"),
}
"""Class → subgroups of the emoji set: what the generator of faces is transferred to in notebook 08. Each class has 90
to 270 training pictures that look alike, for 32 pixels and a few thousand steps; none shows a face."""


def regroup(data: ImageSet, groups: Mapping[str, Sequence[str]], label: str = "subgroup") -> ImageSet:
    """The pictures whose ``label`` is in one of the groups, with a new label ``class``: which group.

    Args:
        data: with ``labels[label]``.
        groups: class name → values of ``label``.
        label: that is grouped.

    Raises:
        CourseError: the set has no such label, or the label no such value, or a value stands in two groups.
    """
    if label not in data.labels:
        raise CourseError(f"{data.name!r} has no label {label!r}: it has {', '.join(data.labels) or 'none'}.")
    known, owner = data.classes[label], torch.full((len(data.classes[label]),), -1)
    for number, (name, values) in enumerate(groups.items()):
        for value in values:
            if value not in known:
                raise CourseError(
                    f"{label!r} has no value {value!r}: group {name!r} can take {', '.join(known[:12])}, …"
                )
            if owner[known.index(value)] >= 0:
                raise CourseError(f"{value!r} is in two groups: give it to one.")
            owner[known.index(value)] = number
    found = owner[data.labels[label]]
    kept = data.subset(found >= 0)
    labels, classes = kept.labels | {"class": found[found >= 0]}, kept.classes | {"class": list(groups)}
    return replace(kept, labels=labels, classes=classes)


def transfer_classes(data: ImageSet) -> ImageSet:
    """:func:`regroup` of the emoji set by :data:`TRANSFER_CLASSES`."""
    return regroup(data, TRANSFER_CLASSES)


def few_per_class(data: ImageSet, count: int, seed: int = 0, label: str = "class") -> ImageSet:
    """At most ``count`` random pictures of each class; with one seed, fewer pictures are part of more pictures.

    Args:
        data: with ``labels[label]``.
        count: pictures a class; a class that has fewer gives all.
        seed: of the choice.
        label: that names the class.

    Raises:
        CourseError: ``count`` is below one, or the set has no such label.
    """
    if count < 1:
        raise CourseError(f"a class needs at least one picture, not {count}.")
    if label not in data.labels:
        raise CourseError(f"{data.name!r} has no label {label!r}: it has {', '.join(data.labels) or 'none'}.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    shuffled = data.labels[label][order]
    chosen = [order[shuffled == value][:count] for value in range(len(data.classes[label]))]
    return data.subset(torch.cat(chosen).sort().values)
