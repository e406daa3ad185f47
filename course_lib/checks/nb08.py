"""Checks of notebook 08, "From unconditional to conditional": own score, Barlow Twins, copies, mean over classes."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require

__all__ = ["copied", "over_classes", "own_score", "twins"]

Score = Callable[[Tensor, Tensor], float]


@exercise(
    solution=lambda scores, labels: scores.gather(1, labels[:, None])[:, 0],
    stub=lambda scores, labels: scores[:, 0],
    wrong=(
        lambda scores, labels: scores[:, labels],
        lambda scores, labels: scores.gather(1, labels[:, None]),
        lambda scores, labels: scores.amax(1),
    ),
)
def own_score(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: the score of the own class, ``(scores (B, C), labels (B,)) -> (B,)``."""
    scores, labels = torch.randn(6, 4), torch.tensor([3, 0, 2, 2, 1, 0])
    found = answer(scores, labels)
    require(
        isinstance(found, Tensor) and found.shape == (6,),
        f"the result has the shape {tuple(getattr(found, 'shape', ()))} and should have (B,)",
        "(B, 1) against (B,) broadcasts to (B, B) in a loss without any error: one number a picture",
    )
    require(
        all(found[n] == scores[n, labels[n]] for n in range(6)),
        "a picture does not get the score of its own label",
        "gather along dimension 1, with the labels as (B, 1)",
    )
    return passed("one score a picture, that of its own class")


def _standardised(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


def _right_twins(first: Tensor, second: Tensor, weight: float) -> Tensor:
    correlation = _standardised(first).T @ _standardised(second) / len(first)
    own = correlation.diagonal()
    return (1 - own).square().sum() + weight * (correlation.square().sum() - own.square().sum())


def _unstandardised(first: Tensor, second: Tensor, weight: float) -> Tensor:
    correlation = first.T @ second / len(first)
    own = correlation.diagonal()
    return (1 - own).square().sum() + weight * (correlation.square().sum() - own.square().sum())


def _diagonal_twice(first: Tensor, second: Tensor, weight: float) -> Tensor:
    correlation = _standardised(first).T @ _standardised(second) / len(first)
    return (1 - correlation.diagonal()).square().sum() + weight * correlation.square().sum()


def _over_pictures(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return _right_twins(first.T, second.T, weight)


@exercise(
    solution=_right_twins,
    stub=lambda first, second, weight: (first - second).square().mean(),
    wrong=(_unstandardised, _diagonal_twice, _over_pictures),
)
def twins(answer: Callable[[Tensor, Tensor, float], Tensor]) -> CheckResult:
    """Exercise 2: Barlow Twins, ``(first (N, F), second (N, F), weight) -> loss``."""
    first = 3 * torch.randn(16, 5) + 1
    second = first + torch.randn(16, 5)
    ways = torch.linalg.qr(torch.randn(64, 5) - torch.randn(64, 5).mean(0)).Q
    decorrelated = _standardised(ways - ways.mean(0))
    for weight in (0.0, 0.5):
        found, wanted = float(answer(first, second, weight)), float(_right_twins(first, second, weight))
        require(
            abs(found - wanted) < 1e-3 * max(1.0, abs(wanted)),
            f"with weight {weight} the loss of two given views is {found:.4g} and should be {wanted:.4g}",
            "standardise each view over the batch; C = Z₁ᵀ Z₂ / N is F × F; (1 − C_ii)² and weight · C_ij² for i ≠ j",
        )
    require(
        abs(float(answer(decorrelated, decorrelated, 0.005))) < 0.01,
        "equal views with uncorrelated features should cost nearly nothing",
        "only the parts off the diagonal are pushed to zero",
    )
    return passed("equal views pull the diagonal to one, and different features are decorrelated")


def _nearest(x: Tensor, among: Tensor) -> Tensor:
    return torch.cdist(x, among).amin(1)


def _right_copied(fake: Tensor, train: Tensor, held: Tensor) -> float:
    return float((_nearest(fake, train) < _nearest(held, train).median()).float().mean())


@exercise(
    solution=_right_copied,
    stub=lambda fake, train, held: 0.0,
    wrong=(
        lambda fake, train, held: float((_nearest(fake, train) < _nearest(fake, held)).float().mean()),
        lambda fake, train, held: float((_nearest(fake, held) < _nearest(train, held).median()).float().mean()),
        lambda fake, train, held: float((_nearest(fake, train) < _nearest(train, train).median()).float().mean()),
    ),
)
def copied(answer: Callable[[Tensor, Tensor, Tensor], float]) -> CheckResult:
    """Exercise 3: are samples nearer to the training set than unseen real pictures are?, ``(fake, train, held)``."""
    train, held = torch.randn(200, 6), torch.randn(400, 6)
    require(
        float(answer(train[:50] + 1e-4 * torch.randn(50, 6), train, held)) > 0.99,
        "samples that are training pictures do not give 1",
        "for each sample the distance to its nearest training vector, compared with what is usual for held-out vectors",
    )
    honest = float(answer(torch.randn(400, 6), train, held))
    require(
        abs(honest - 0.5) < 0.1,
        f"fresh samples of the same distribution give {honest:.2f} and should give about 0.5",
        "the yardstick is the median distance of *held-out* vectors to their nearest training vector",
    )
    require(
        float(answer(held + 1e-4 * torch.randn(400, 6), train, held)) < 0.6,
        "copies of held-out pictures count as copies of training pictures",
        "look at distances to the training set only",
    )
    require(
        float(answer(torch.randn(50, 6) + 20, train, held)) < 0.01,
        "samples that are far from everything give more than 0",
    )
    return passed("1 for copies, one half for honest samples, 0 for samples that resemble nothing")


def _right_over_classes(
    score: Score, real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor, classes: int
) -> float:
    return sum(score(real[real_labels == k], fake[fake_labels == k]) for k in range(classes)) / classes


def _weighted(
    score: Score, real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor, classes: int
) -> float:
    parts = [score(real[real_labels == k], fake[fake_labels == k]) for k in range(classes)]
    return sum(part * float((real_labels == k).float().mean()) for k, part in enumerate(parts))


@exercise(
    solution=_right_over_classes,
    stub=lambda score, real, fake, real_labels, fake_labels, classes: score(real, fake),
    wrong=(
        lambda score, real, fake, real_labels, fake_labels, classes: (
            sum(score(real[real_labels == k], fake) for k in range(classes)) / classes
        ),
        lambda score, real, fake, real_labels, fake_labels, classes: _right_over_classes(
            score, real, fake, real_labels, fake_labels.roll(1), classes
        ),
        _weighted,
    ),
)
def over_classes(answer: Callable[..., float]) -> CheckResult:
    """Exercise 4: mean of a score over classes, ``(score, real, fake, real_labels, fake_labels, classes) -> float``."""

    def score(first: Tensor, second: Tensor) -> float:
        return float((first.mean(0) - second.mean(0)).square().sum())

    real_labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    fake_labels = torch.arange(90) % 3
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    real = centres[real_labels] + 0.1 * torch.randn(100, 2)
    fake = centres[fake_labels] + 0.1 * torch.randn(90, 2)
    require(
        float(answer(score, real, fake, real_labels, fake_labels, 3)) < 0.05,
        "a generator that draws every class rightly gets a large distance",
        "compare real and generated pictures of the same class, class by class",
    )
    swapped = fake_labels.roll(1)
    require(
        float(answer(score, real, fake, real_labels, swapped, 3)) > 1.0,
        "a generator that ignores or confuses its classes is not found out",
        "pooled over classes the sets look alike: score each class by itself",
    )
    moved = fake + torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])[fake_labels]
    found = float(answer(score, real, moved, real_labels, fake_labels, 3))
    require(
        abs(found - 3.0) < 0.3,
        f"one class of three is off by 9: the mean over classes should be about 3, not {found:.2f}",
        "every class counts the same, however many pictures it has",
    )
    return passed("each class by itself, and all classes alike")
