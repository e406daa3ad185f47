"""Attribute modification: the condition is a vector of labels, and one of them is flipped (paper, section 4)."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from ..cinn import ConditionalFlow
from ..data import ImageSet
from ..errors import CourseError
from ..experts import LabelExpert, TargetExpert
from .translator import Translator

__all__ = ["EDITED", "AttributeEditor", "editable", "linear_edit", "other_values"]

EDITED = ("skin_tone", "gender", "age", "hair")
"""Attributes in the order of the condition."""
_NO_VALUE = ("none", "mixed")
_IDENTITY = ("style", "base", "subgroup", "skin_tone", "gender", "age", "hair")


def matched_pairs(data: ImageSet, label: str, first: str, second: str) -> tuple[Tensor, Tensor]:
    """Positions of picture pairs that agree in every label but ``label``, which is ``first`` and ``second``.

    In the emoji set *old man: light skin tone* and *old man: dark skin tone* of one style are such a pair for
    ``skin_tone``. Where several pictures agree (a person walks left and walks right), they are paired in order.

    Args:
        data: a set with labels; those of style, base emoji and attributes that it has must agree.
        label: the label that differs, for example ``skin_tone`` or ``style``.

    Returns:
        Two ``int64 (P,)``: pictures with ``first``, and their partners with ``second``.

    Raises:
        CourseError: no such label or value, or no pair.
    """
    for value in (first, second):
        data.where(**{label: value})  # its errors name the labels and values there are
    # A style differs in the drawing alone, so there the emoji itself must agree.
    names = ["emoji"] if label == "style" and "emoji" in data.labels else _IDENTITY
    names = [name for name in names if name in data.labels and name != label]
    if not names:
        raise CourseError(f"{data.name!r} has no label beside {label!r} in which two pictures could agree.")
    keys = torch.stack([data.labels[name] for name in names], 1).tolist()
    values = data.labels[label].tolist()
    wanted = [data.classes[label].index(value) for value in (first, second)]
    groups: dict[tuple, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        if value in wanted:
            groups[tuple(key)][wanted.index(value)].append(position)
    pairs = [pair for left, right in groups.values() for pair in zip(left, right, strict=False)]
    if not pairs:
        raise CourseError(f"no two pictures of {data.name!r} differ only in {label!r}, {first} against {second}.")
    left, right = torch.tensor(pairs).T
    return left, right


def mean_difference(latents: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """``(D,)``: mean of second minus first, for latents ``(N, D)`` and the positions :func:`matched_pairs` gives."""
    first, second = pairs
    return (latents[second] - latents[first]).mean(0)


def editable(data: ImageSet, name: str) -> Tensor:
    """Positions ``int64 (M,)`` of the pictures that have a definite value of attribute ``name``.

    Raises:
        CourseError: there is no such attribute, or no such picture.
    """
    if name not in data.labels:
        raise CourseError(f"{data.name!r} has no attribute {name!r}: it has {', '.join(data.labels)}.")
    without = torch.tensor([data.classes[name].index(value) for value in _NO_VALUE if value in data.classes[name]])
    found = (~torch.isin(data.labels[name], without)).nonzero()[:, 0]
    if not len(found):
        raise CourseError(f"no picture of {data.name!r} has a definite {name!r}.")
    return found


def other_values(labels: Tensor, classes: list[str], generator: torch.Generator) -> Tensor:
    """For each label ``(M,)`` another definite value, all equally likely among those that occur in ``labels``.

    Raises:
        CourseError: only one value occurs.
    """
    present = torch.tensor([k for k in labels.unique().tolist() if classes[k] not in _NO_VALUE])
    if len(present) < 2:
        raise CourseError("there is no other value to flip to: take pictures with two values or more.")
    place = torch.searchsorted(present, labels)
    shift = torch.randint(1, len(present), labels.shape, generator=generator)
    return present[(place + shift) % len(present)]


class AttributeEditor(Translator):
    """A flow between attribute vectors and an autoencoder.

    Args:
        classes: attribute → its values, as in ``ImageSet.classes``; those of :data:`EDITED` are used.
        flow: conditioned on their joined one-hots.
        target: draws the pictures.
    """

    def __init__(self, classes: Mapping[str, list[str]], flow: ConditionalFlow, target: TargetExpert):
        super().__init__(LabelExpert({name: len(classes[name]) for name in EDITED}), flow, target)

    @torch.no_grad()
    def edit(self, latent: Tensor, labels: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
        """Latents ``(B, D)`` with the attribute ``name`` set to ``values (B,)``, everything in ``v`` kept.

        Raises:
            CourseError: ``labels`` are not those of this editor, or there is no attribute ``name``.
        """
        if name not in EDITED:
            raise CourseError(f"there is no attribute {name!r}: choose one of {', '.join(EDITED)}.")
        labels = {key: labels[key] for key in EDITED}
        v = self.flow.encode(latent, self.source.encode(labels).to(latent.device))
        return self.flow.inverse(v, self.source.encode(labels | {name: values}).to(latent.device))


def linear_edit(
    latent: Tensor, old: Tensor, new: Tensor, data: ImageSet, known: Tensor, name: str, matched: bool = True
) -> Tensor:
    """The baseline: add a direction for each change of value.

    The direction is the mean difference of *matched* training pictures, which differ in this attribute alone
    (supervision the flow does not get); where there are none, or on request, the difference of the two class means.

    Args:
        latent: ``(B, D)`` to edit.
        old, new: values ``int64 (B,)``.
        data: training pictures, with ``known (N, D)`` their latents.
        matched: False takes class means throughout.
    """
    edited, classes = latent.clone(), data.classes[name]
    for change in torch.stack([old, new], 1).unique(dim=0):
        first, second = change.tolist()
        try:
            if not matched:
                raise CourseError("class means were asked for.")
            direction = mean_difference(known, matched_pairs(data, name, classes[first], classes[second]))
        except CourseError:
            labels = data.labels[name].to(known.device)
            direction = known[labels == second].mean(0) - known[labels == first].mean(0)
        rows = (old == first) & (new == second)
        edited[rows.to(latent.device)] += direction
    return edited
