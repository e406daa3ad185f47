"""The classes of a transfer, old and new, and a few pictures of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import CourseError
from .avatars import NEW_KINDS
from .image_set import ImageSet
from .registry import load

__all__ = ["few_per_class", "few_training_pictures", "regroup", "source_classes", "target_classes"]


def regroup(data: ImageSet, groups: Mapping[str, Sequence[str]], label: str) -> ImageSet:
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


def source_classes(names: Sequence[str]) -> ImageSet:
    """Pictures of bundled kinds, such as the old classes of a generator, with ``labels["class"]`` in that order.

    Args:
        names: of kinds, people styles included.
    """
    return regroup(load("kinds"), {name: (name,) for name in names}, "kind")


def target_classes(
    dataset: str = "kinds", names: Sequence[str] = (), per_class: int | None = None, seed: int = 0, size: int = 64
) -> ImageSet:
    """The classes that a transfer learns, with ``labels["class"]`` from 0, in parts ``train``, ``val`` and ``test``.

    Args:
        dataset: ``kinds``: bundled ones; ``folder:PATH`` with one folder a class, or another set of
            :func:`course_lib.data.load` with the label ``class``.
        names: of the classes to take; by default :data:`course_lib.data.NEW_KINDS`, or all of another set.
        per_class: at most so many training pictures a class; None for all. The other parts stay whole.
        seed: of the choice, and of the split where the set has none.
        size: pixels, of sets from files.

    Raises:
        CourseError: the set cannot be opened, has no classes or lacks one of ``names``, or a class has no training
            picture.
    """
    data = load(dataset, size)
    label = "kind" if dataset == "kinds" else "class"
    if label not in data.labels:
        raise CourseError(f"{data.name!r} has no label 'class': give folder:PATH with one folder per class.")
    wanted = list(names) or (list(NEW_KINDS) if dataset == "kinds" else data.classes[label])
    data = regroup(data, {name: (name,) for name in wanted}, label)
    if not len(data.split):
        data = replace(data, split=_split(data.labels["class"], seed))
    present = data.labels["class"][data.split == 0].bincount(minlength=len(wanted))
    if (present == 0).any():
        name = wanted[int((present == 0).nonzero()[0])]
        raise CourseError(f"the class {name!r} has no training picture: add some, or leave the class out.")
    return data if per_class is None else few_training_pictures(data, per_class, seed)


def few_training_pictures(data: ImageSet, per_class: int, seed: int = 0) -> ImageSet:
    """``data`` with at most ``per_class`` training pictures of each class; its other parts stay whole.

    Args:
        data: with ``labels["class"]`` and a split.
        per_class: at least 1.
        seed: of the choice, which is nested as in :func:`few_per_class`.

    Raises:
        CourseError: ``per_class`` is below one.
    """
    if per_class < 1:
        raise CourseError(f"a class needs at least one picture, not {per_class}.")
    train = (data.split == 0).nonzero()[:, 0]
    few = train[_few(data.labels["class"][train], len(data.classes["class"]), per_class, seed)]
    return data.subset(torch.cat([few, (data.split != 0).nonzero()[:, 0]]))


def _split(labels: Tensor, seed: int) -> Tensor:
    """A tenth of each class for ``val`` and for ``test``; classes of fewer than ten pictures train with all."""
    split, draw = torch.zeros_like(labels), torch.Generator().manual_seed(seed)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=draw)]
        tenth = len(members) // 10
        split[members[:tenth]], split[members[tenth : 2 * tenth]] = 1, 2
    return split


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
    return data.subset(_few(data.labels[label], len(data.classes[label]), count, seed))


def _few(labels: Tensor, classes: int, count: int, seed: int) -> Tensor:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    return torch.cat([order[shuffled == value][:count] for value in range(classes)]).sort().values
