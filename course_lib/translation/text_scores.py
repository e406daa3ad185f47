"""How well sentences become pictures: what the judge reads in them, beside what was said, and what was left open."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..data import ImageSet
from ..data.people import ATTRIBUTES
from ..evaluation import Judge
from ..evaluation.neighbours import nearest
from ..experts import SourceExpert

__all__ = ["Named", "nearest_caption_pictures", "open_variety", "read_as_asked", "table_of"]

Named = Sequence[Mapping[str, str]]
"""For every picture what its sentence names, attribute → value."""


def table_of(named: Named) -> dict[str, Tensor]:
    """Attribute → class numbers ``int64 (N,)``, −1 where a sentence leaves it open."""
    return {
        name: torch.tensor([values.index(one[name]) if name in one else -1 for one in named])
        for name, values in ATTRIBUTES.items()
    }


def read_as_asked(pictures: Tensor, named: Named, judge: Judge) -> dict[str, float]:
    """Attribute → share of the pictures ``(N, 3, S, S)`` that name it in which the judge reads the value named.

    An attribute that no sentence names is left out.
    """
    shares = {}
    for name, asked in table_of(named).items():
        said = asked >= 0
        if said.any():
            shares[name] = (judge.predict(pictures[said], name) == asked[said]).float().mean().item()
    return shares


def open_variety(pictures: Tensor, named: Named, judge: Judge) -> dict[str, tuple[float, float]]:
    """How much samples of one sentence differ in what it names, and in what it leaves open.

    Args:
        pictures: ``(B, samples, 3, S, S)``.
        named: of the B sentences.

    Returns:
        Attribute → for sentences that name it and for those that do not: the chance that the judge reads two different
        values in two samples of one sentence. Not a number where there is no such sentence.
    """
    count, samples = pictures.shape[:2]
    found = {}
    for name, asked in table_of(named).items():
        seen = judge.predict(pictures.flatten(0, 1), name).view(count, samples)
        differ = (seen[:, :, None] != seen[:, None]).float().sum((1, 2)) / (samples * (samples - 1))
        said = asked >= 0
        found[name] = (differ[said].mean().item(), differ[~said].mean().item())
    return found


def nearest_caption_pictures(
    asked: Sequence[str], sentences: SourceExpert, bank: ImageSet, rows: Tensor, captions: Sequence[str]
) -> Tensor:
    """The baseline that draws nothing: the training picture whose caption is most similar to a sentence.

    Args:
        asked: ``Q`` sentences.
        sentences: embeds them.
        bank: training pictures.
        rows: ``int64 (C,)``: a picture of the bank for each of the captions.
        captions: C training captions.

    Returns:
        ``(Q, 3, S, S)`` in [−1, 1].
    """
    found = nearest(sentences.encode(list(asked)), sentences.encode(list(captions)))[:, 0]
    return bank.batch(rows[found.cpu()])
