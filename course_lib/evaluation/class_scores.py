"""Scores of generated classes against real pictures. Kernel distances have no bias and may fall below 0; Fréchet
distances of a few pictures are mostly bias, the same for all that is scored on the same pictures."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..data.avatars import load_kinds
from ..data.image_set import ImageSet
from ..errors import CourseError
from .distances import frechet_distance, gaussian_mmd, inception_score, kernel_distance, manifold_scores
from .features import Judge

KERNEL, FRECHET, ACCURACY = "kernel distance", "Fréchet distance", "class accuracy"

INTRA_CLASS_MEAN = "intra-class mean"
"""Key of the mean over classes in what :func:`class_wise` returns."""

Score = Callable[[Tensor, Tensor], float | dict[str, float]]
"""Real and generated features ``(N, F)`` and ``(M, F)`` → one number, or several by name."""


def feature_scores(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Fréchet and kernel distance, KMMD, precision, recall, density, coverage of features of more than ``k`` rows."""
    return _distances(real, fake) | manifold_scores(real, fake, k)._asdict()


def _distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    named = {FRECHET: frechet_distance, KERNEL: kernel_distance, "KMMD": gaussian_mmd}
    return {name: distance(real, fake) for name, distance in named.items()}


def class_wise(
    real: Tensor,
    fake: Tensor,
    real_labels: Tensor,
    fake_labels: Tensor,
    classes: Sequence[str],
    score: Score = kernel_distance,
    least: int = 2,
) -> dict[str, dict[str, float]]:
    """``score`` for each class by itself, and the mean over classes: a generator that ignores the class cannot hide.

    Labels ``(N,)`` and ``(M,)`` of features ``(N, F)`` and ``(M, F)`` are positions in ``classes``; classes with fewer
    than ``least`` real or generated pictures are left out. Returns class name → score name, "score" for a float, →
    value, and last :data:`INTRA_CLASS_MEAN` with the unweighted means.
    """
    if len(real) != len(real_labels) or len(fake) != len(fake_labels):
        raise CourseError("class-wise scores need one label for every feature vector.")
    found: dict[str, dict[str, float]] = {}
    for label, name in enumerate(classes):
        own = real[real_labels == label], fake[fake_labels == label]
        if min(map(len, own)) >= least:
            value = score(*own)
            found[name] = value if isinstance(value, dict) else {"score": value}
    if not found:
        raise CourseError(f"no class has {least} real and {least} generated pictures: take a larger part of the data.")
    names = next(iter(found.values()))
    mean = {name: torch.tensor([row[name] for row in found.values()]).double().mean().item() for name in names}
    return found | {INTRA_CLASS_MEAN: mean}


class ClassScores:
    """How generated pictures are scored against held-out ones, which have ``labels["class"]``; ``classes``, ``labels
    (N,)`` and ``features (N, F)`` are theirs."""

    def __init__(self, data: ImageSet, judge: Judge):
        self.judge, self.classes, self.labels = judge, data.classes["class"], data.labels["class"]
        kinds = load_kinds().classes["kind"]
        known = all(name in kinds for name in self.classes)
        self.kinds = torch.tensor([kinds.index(name) for name in self.classes]) if known else None
        self.features, self.real_seen = judge.read(torch.cat(list(data.batches(250, judge.size))))

    def asked(self, each: int) -> Tensor:
        """Classes to draw: every one ``each`` times, in order."""
        return torch.arange(len(self.classes)).repeat_interleave(each)

    def right(self, features: Tensor, seen: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Which pictures show the class they were asked for, ``bool (N,)``, of what the judge :meth:`Judge.read`:
        bundled kinds are told by it, among all 36; other classes by the nearest mean of real features."""
        if self.kinds is not None:
            return seen["kind"] == self.kinds[labels]
        means = torch.stack([self.features[self.labels == k].mean(0) for k in range(len(self.classes))])
        return torch.cdist(features, means).argmin(1) == labels

    @property
    def chance(self) -> float:
        """Class accuracy of a guess: one over the number of classes that the judge can answer."""
        return 1 / (self.judge.network.config.heads["kind"] if self.kinds is not None else len(self.classes))

    @property
    def real_accuracy(self) -> float:
        return self.right(self.features, self.real_seen, self.labels).float().mean().item()

    def by_class(self, pictures: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
        """Class, and ``INTRA_CLASS_MEAN``, → kernel and Fréchet distance, KMMD and class accuracy, of pictures ``(N, 3,
        S, S)`` in [−1, 1] and the classes ``(N,)`` that they were asked for."""
        return self._score(*self.judge.read(pictures), labels)

    def _score(self, features: Tensor, seen: dict[str, Tensor], labels: Tensor) -> dict[str, dict[str, float]]:
        found = class_wise(self.features, features, self.labels, labels, self.classes, _distances)
        right = self.right(features, seen, labels).double()
        shares = [right[labels == k].mean().item() for k in range(len(self.classes)) if (labels == k).any()]
        for scores, share in zip(found.values(), (*shares, sum(shares) / len(shares)), strict=True):
            scores[ACCURACY] = share
        return found

    def mean(self, pictures: Tensor, labels: Tensor) -> dict[str, float]:
        """The means over classes of :meth:`by_class`, and of all classes together ``Fréchet distance, all classes`` and
        the ``inception score`` with the judge's kinds, where it knows them."""
        features, seen = self.judge.read(pictures)
        found = self._score(features, seen, labels)[INTRA_CLASS_MEAN]
        found[f"{FRECHET}, all classes"] = frechet_distance(self.features, features)
        if self.kinds is not None:
            found["inception score"] = inception_score(self.judge.probabilities(features, "kind"), 1)[0]
        return found
