"""The pictures of old and of new classes."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..data import NEW_SUBGROUPS, ImageSet, few_per_class, load, regroup
from ..errors import CourseError

__all__ = ["new_classes", "old_pictures"]


def new_classes(dataset: str = "emoji", size: int = 64, per_class: int | None = None, seed: int = 0) -> ImageSet:
    """Pictures of new classes with ``labels["class"]`` from 0, in parts ``train``, ``val`` and ``test``.

    Args:
        dataset: ``emoji`` (the twenty subgroups that shipped generators never saw), ``folder:PATH`` with one folder per
            class, or another set of :func:`course_lib.data.load` with the label ``class``.
        size: pixels, of sets from files; that of the autoencoder that reads codes. Generators resize.
        per_class: at most so many training pictures a class; None for all. The other parts stay whole.
        seed: of the choice, and of the split where the set has none.

    Raises:
        CourseError: the set cannot be opened or has no classes, or a class has no training picture.
    """
    data = load(dataset, size)
    if dataset == "emoji":
        data = regroup(data, {name: (name,) for name in NEW_SUBGROUPS})
    if "class" not in data.labels:
        raise CourseError(f"{data.name!r} has no label 'class': give folder:PATH with one folder per class.")
    if not len(data.split):
        data = replace(data, split=_split(data.labels["class"], seed))
    train = data.split == 0
    present = data.labels["class"][train].bincount(minlength=len(data.classes["class"]))
    if (present == 0).any():
        name = data.classes["class"][int((present == 0).nonzero()[0])]
        raise CourseError(f"the class {name!r} has no training picture: add some, or leave the class out.")
    if per_class is None:
        return data
    kept = few_per_class(data.subset(train), per_class, seed)
    rest = data.subset(~train)
    return replace(
        data,
        images=torch.cat([kept.images, rest.images]),
        labels={name: torch.cat([kept.labels[name], rest.labels[name]]) for name in data.labels},
        captions=kept.captions + rest.captions,
        split=torch.cat([kept.split, rest.split]),
    )


def _split(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """A tenth of each class for ``val`` and for ``test``; classes of fewer than ten pictures train with all."""
    split, draw = torch.zeros_like(labels), torch.Generator().manual_seed(seed)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=draw)]
        tenth = len(members) // 10
        split[members[:tenth]], split[members[tenth : 2 * tenth]] = 1, 2
    return split


def old_pictures(names: Sequence[str], per_class: int | None = None, seed: int = 0) -> ImageSet:
    """Training pictures of the old classes of a shipped generator, with ``labels["class"]`` in the order of ``names``.

    Args:
        names: subgroups of the emoji set, as ``recipe["classes"]`` of the generator's card has them.
        per_class: at most so many of each.
        seed: of the choice.
    """
    data = regroup(load("emoji").part("train"), {name: (name,) for name in names})
    return data if per_class is None else few_per_class(data, per_class, seed)
