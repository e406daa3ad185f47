"""Does a generator draw the class that it was asked for? A classifier looks at the pictures and says what it sees."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["confusion", "most_probable_group"]


def most_probable_group(probabilities: Tensor, values: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Tensor:
    """``int64 (N,)``: the position of the group whose values are the most probable together.

    Args:
        probabilities: ``(N, len(values))``, for example ``Judge.probabilities(images, "subgroup")``. Values of no group
            do not take part: the question is which *of the groups* is seen.
        values: their names.
        groups: group → values.

    Raises:
        CourseError: names that do not fit the probabilities, or a group with an unknown value.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(values):
        raise CourseError(f"{len(values)} values do not fit probabilities of {tuple(probabilities.shape)}.")
    unknown = [value for members in groups.values() for value in members if value not in values]
    if unknown:
        raise CourseError(f"there is no value {unknown[0]!r}: groups can take {', '.join(list(values)[:12])}, …")
    columns = [[list(values).index(value) for value in members] for members in groups.values()]
    return torch.stack([probabilities[:, members].sum(1) for members in columns], 1).argmax(1)


def confusion(asked: Tensor, seen: Tensor, classes: int) -> Tensor:
    """``(classes, classes)``: of the pictures of the class of a row, the share that is seen as that of a column.

    Args:
        asked: ``int64 (N,)``, what the pictures should show; a class without pictures gets a row of zeros.
        seen: ``int64 (N,)``, what the classifier says.
        classes: how many.

    Raises:
        CourseError: different lengths, or labels out of range.
    """
    if asked.shape != seen.shape or asked.ndim != 1:
        raise CourseError(f"{tuple(asked.shape)} labels cannot be compared with {tuple(seen.shape)}.")
    if len(asked) and not 0 <= int(torch.cat([asked, seen]).min()) <= int(torch.cat([asked, seen]).max()) < classes:
        raise CourseError(f"labels of {classes} classes go from 0 to {classes - 1}.")
    counts = (asked * classes + seen).bincount(minlength=classes**2).view(classes, classes).float()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)
