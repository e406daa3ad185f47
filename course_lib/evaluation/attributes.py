"""Directions in a latent space that belong to an attribute, and scores for pictures edited along them."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from .judge import Judge
from .neighbours import nearest

__all__ = ["EditScore", "gallery_embeddings", "matched_pairs", "mean_difference", "score_edit"]

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


@dataclass(frozen=True)
class EditScore:
    """Shares in [0, 1]: the judge sees the new value; the picture is still recognised as the same base emoji."""

    changed: float
    kept: float


def gallery_embeddings(judge: Judge, data: ImageSet) -> Tensor:
    """The judge's embedding of every real picture, ``(N, 128)``: computed once for many :func:`score_edit`."""
    return torch.cat([judge.embeddings(images) for images in data.batches(250)])


def score_edit(
    judge: Judge, pictures: Tensor, data: ImageSet, origin: Tensor, label: str, value: str, gallery: Tensor
) -> EditScore:
    """Whether an edit worked, and whether it left the rest alone.

    Recognition is retrieval: of all real pictures in *other* styles than the original's, the one whose embedding is
    most similar must show the same base emoji. Other styles, so that a picture cannot be recognised by its strokes.

    Args:
        judge: never used to make the pictures.
        pictures: ``(P, 3, S, S)`` in [−1, 1], edited versions of ``data``'s pictures.
        data: the real pictures.
        origin: ``int64 (P,)``, which picture of ``data`` each one started from.
        label: what was edited; a label that the judge knows.
        value: what it should be now.
        gallery: :func:`gallery_embeddings` of ``data``.
    """
    changed = judge.predict(pictures, label) == data.classes[label].index(value)
    embeddings = judge.embeddings(pictures)
    base, style = data.labels["base"], data.labels["style"]
    kept = torch.zeros(len(pictures), dtype=torch.bool)
    for one in style[origin].unique():
        asked, others = style[origin] == one, (style != one).nonzero()[:, 0]
        found = others[nearest(embeddings[asked], gallery[others])[:, 0]]
        kept[asked] = base[found] == base[origin[asked]]
    return EditScore(changed.float().mean().item(), kept.float().mean().item())
