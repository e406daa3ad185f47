"""Scores of unpaired translation by pairs that were held back: is it still the same emoji, and is it in the style?"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from .distances import frechet_distance
from .judge import Judge
from .neighbours import retrieval_accuracy

__all__ = ["DirectionScore", "Gallery", "directions", "mean_score"]


@dataclass(frozen=True)
class DirectionScore:
    """One direction, from domain to domain.

    Attributes:
        top1, top5: share of pictures whose true counterpart is the nearest, or among the five nearest, of all held-out
            pictures of the target domain; cosine of judge features.
        style: share that the judge takes for the target domain.
        frechet: distance to the real pictures of the target domain, judge features.
    """

    top1: float
    top5: float
    style: float
    frechet: float


def directions(domains: int) -> list[tuple[int, int]]:
    """All ordered pairs of different domains."""
    return [(s, t) for s in range(domains) for t in range(domains) if s != t]


def mean_score(scores: Sequence[DirectionScore]) -> DirectionScore:
    """The mean over directions."""
    columns = [[getattr(one, field.name) for one in scores] for field in fields(DirectionScore)]
    return DirectionScore(*(sum(column) / len(scores) for column in columns))


@dataclass(frozen=True)
class Gallery:
    """Held-out pictures of paired domains: picture ``k`` of every domain shows the same thing.

    Attributes:
        data: the pictures.
        judge: gives features.
        positions: for each domain where its pictures are in ``data``, ``int64 (M,)``.
        features: of all pictures, ``(N, F)``.
    """

    data: ImageSet
    judge: Judge
    positions: tuple[Tensor, ...]
    features: Tensor

    @classmethod
    def of(cls, data: ImageSet, judge: Judge, label: str = "style") -> "Gallery":
        """Computes the features once.

        Raises:
            CourseError: the domains do not hold the same emoji in the same order.
        """
        positions = tuple((data.labels[label] == k).nonzero()[:, 0] for k in range(len(data.classes[label])))
        shown = [data.labels["emoji"][index] for index in positions]
        if any(len(one) != len(shown[0]) or not torch.equal(one, shown[0]) for one in shown):
            raise CourseError("the domains must show the same emoji in the same order: take a whole split of them.")
        features = torch.cat([judge.features(images) for images in data.batches(250)])
        return cls(data, judge, positions, features)

    def pictures(self, domain: int, chosen: Tensor | None = None) -> Tensor:
        """Float pictures of a domain, all or those ``chosen``."""
        index = self.positions[domain]
        return self.data.batch(index if chosen is None else index[chosen])

    def real(self, domain: int) -> Tensor:
        """Judge features of the real pictures of a domain, ``(M, F)``."""
        return self.features[self.positions[domain]]

    def score(self, pictures: Tensor, own: int, other: int, chosen: Tensor | None = None) -> DirectionScore:
        """Scores translations ``pictures`` of the pictures ``chosen`` of domain ``own`` as domain ``other``."""
        return self.score_features(self.judge.features(pictures), own, other, chosen)

    def score_features(self, features: Tensor, own: int, other: int, chosen: Tensor | None = None) -> DirectionScore:
        """The same for judge features ``(M, F)``; ``own`` is only named so that calls read like :meth:`score`."""
        real, count = self.real(other), len(self.positions[own])
        truth = torch.arange(count) if chosen is None else chosen
        top1, top5 = (retrieval_accuracy(features, real, truth, torch.arange(count), k) for k in (1, 5))
        head = self.judge.network.heads["style"]
        with torch.no_grad():
            seen = head(features.to(head.weight.device)).argmax(1).cpu()
        return DirectionScore(top1, top5, (seen == other).float().mean().item(), frechet_distance(real, features))
