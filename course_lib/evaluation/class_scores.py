"""Scores of generated classes against pictures that were held out, in the features of the judge."""

import torch
from torch import Tensor

from ..data import ImageSet, load_kinds
from .class_wise import INTRA_CLASS_MEAN, class_wise
from .distances import frechet_distance
from .inception_score import inception_score
from .judge import Judge
from .kernel import kernel_distance, kmmd

__all__ = ["ACCURACY", "FRECHET", "KERNEL", "ClassScores"]

KERNEL, FRECHET, ACCURACY = "kernel distance", "Fréchet distance", "class accuracy"


def _distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    return {KERNEL: kernel_distance(real, fake), FRECHET: frechet_distance(real, fake), "KMMD": kmmd(real, fake)}


class ClassScores:
    """Held-out pictures of some classes, and how generated ones are scored against them.

    Distances are means over classes, so that a generator that ignores the class cannot hide. The kernel distance has no
    bias and may fall below 0; Fréchet distances of a few pictures are mostly bias, which is the same for all that is
    scored on the same pictures.

    Args:
        data: with ``labels["class"]``; pictures that nothing was trained on.
        judge: gives features, and kinds where the classes are bundled kinds.

    Attributes:
        classes: names.
        labels: ``(N,)``.
        features: ``(N, F)``.
    """

    def __init__(self, data: ImageSet, judge: Judge):
        self.judge, self.classes, self.labels = judge, data.classes["class"], data.labels["class"]
        kinds = load_kinds().classes["kind"]
        known = all(name in kinds for name in self.classes)
        self.kinds = torch.tensor([kinds.index(name) for name in self.classes]) if known else None
        self.features, self.real_seen = self._read(torch.cat(list(data.batches(250, judge.size))))

    def _read(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        features, seen = self.judge.read(pictures)
        return features, None if self.kinds is None else seen["kind"]

    def asked(self, each: int) -> Tensor:
        """Classes to draw: every one ``each`` times, in order."""
        return torch.arange(len(self.classes)).repeat_interleave(each)

    def right(self, features: Tensor, seen: Tensor | None, labels: Tensor) -> Tensor:
        """Which of the pictures show the class they were asked for, ``bool (N,)``.

        Bundled kinds are told by the judge, among all 36; other classes by the nearest mean of real features.
        """
        if self.kinds is not None:
            return seen == self.kinds[labels]
        means = torch.stack([self.features[self.labels == k].mean(0) for k in range(len(self.classes))])
        return torch.cdist(features, means).argmin(1) == labels

    @property
    def chance(self) -> float:
        """Class accuracy of a guess: one over the number of classes that the judge can answer."""
        return 1 / (self.judge.network.config.heads["kind"] if self.kinds is not None else len(self.classes))

    @property
    def real_accuracy(self) -> float:
        """Class accuracy of the held-out pictures themselves."""
        return self.right(self.features, self.real_seen, self.labels).float().mean().item()

    def by_class(self, pictures: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
        """Class, and ``INTRA_CLASS_MEAN``, → kernel and Fréchet distance, KMMD and class accuracy.

        Args:
            pictures: ``(N, 3, S, S)`` in [−1, 1].
            labels: ``(N,)``: the classes they were asked for.
        """
        return self._score(*self._read(pictures), labels)

    def _score(self, features: Tensor, seen: Tensor | None, labels: Tensor) -> dict[str, dict[str, float]]:
        found = class_wise(self.features, features, self.labels, labels, self.classes, _distances)
        right = self.right(features, seen, labels).double()
        shares = [right[labels == k].mean().item() for k in range(len(self.classes)) if (labels == k).any()]
        for name, share in zip((*found,), (*shares, sum(shares) / len(shares)), strict=True):
            found[name][ACCURACY] = share
        return found

    def mean(self, pictures: Tensor, labels: Tensor) -> dict[str, float]:
        """The means over classes of :meth:`by_class`, and of all classes together ``Fréchet distance, all classes`` and
        the ``inception score`` with the judge's kinds, where it knows them."""
        features, seen = self._read(pictures)
        found = self._score(features, seen, labels)[INTRA_CLASS_MEAN]
        found[f"{FRECHET}, all classes"] = frechet_distance(self.features, features)
        if self.kinds is not None:
            head = self.judge.network.heads["kind"]
            found["inception score"] = inception_score(head(features.to(head.weight)).softmax(1).detach().cpu(), 1)[0]
        return found
