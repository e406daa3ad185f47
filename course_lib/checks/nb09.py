"""Checks of notebook 09, "Propagating batch norm across classes": propagation, installation, counting, KMMD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.evaluation import kernel

__all__ = ["install", "kmmd", "parameters_per_class", "propagate"]


def _right_propagate(gamma: Tensor, beta: Tensor, scores: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    return 1 + scores[0] @ (gamma - 1) + residual[0], scores[1] @ beta + residual[1]


def _whole_gamma(gamma: Tensor, beta: Tensor, scores: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    return scores[0] @ gamma + residual[0], scores[1] @ beta + residual[1]


def _softmax_first(gamma: Tensor, beta: Tensor, scores: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    return _right_propagate(gamma, beta, scores.softmax(1), residual)


def _one_set(gamma: Tensor, beta: Tensor, scores: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    return _right_propagate(gamma, beta, scores[:1].expand(2, -1), residual)


@exercise(
    solution=_right_propagate,
    stub=lambda gamma, beta, scores, residual: (gamma[0], beta[0]),
    wrong=(
        _whole_gamma,
        _softmax_first,
        _one_set,
        lambda gamma, beta, scores, residual: (1 + scores[0] @ (gamma - 1), scores[1] @ beta),
    ),
)
def propagate(answer: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> CheckResult:
    """Exercise 1: one new class at one layer, ``(gamma, beta, scores, residual) -> (new_gamma, new_beta)``.

    ``gamma, beta: (N_o, C)`` of the old classes, ``scores: (2, N_o)`` and ``residual: (2, C)``, each for γ and for β.
    """
    gamma, beta = 1 + 0.1 * torch.randn(7, 5, dtype=torch.float64), 0.1 * torch.randn(7, 5, dtype=torch.float64)
    scores, nothing = torch.randn(2, 7, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64)
    silent = answer(gamma, beta, torch.zeros_like(scores), nothing)
    require(
        torch.allclose(silent[0], torch.ones_like(gamma[0])) and torch.allclose(silent[1], nothing[1]),
        "a class that borrows nothing and has no residual does not get γ = 1 and β = 0",
        "combine the offsets γ − 1, and add 1 at the end",
    )
    copied = answer(gamma, beta, torch.eye(7, dtype=torch.float64)[[3, 3]], nothing)
    require(
        torch.allclose(copied[0], gamma[3]) and torch.allclose(copied[1], beta[3]),
        "with all of the score on one old class its γ and β do not come back",
        "no softmax: scores are used as they are",
    )
    once = answer(gamma, beta, scores, nothing)
    for row, other, name in ((0, 1, "γ"), (1, 0, "β")):
        changed = scores.clone()
        changed[row] += 1
        now = answer(gamma, beta, changed, nothing)
        require(
            not torch.allclose(once[row], now[row]) and torch.equal(once[other], now[other]),
            f"the scores in row {row} do not move {name} and nothing else",
            "scores[0] belongs to γ, scores[1] to β",
        )
    mixed = 0.5 * (gamma[0] - 1) + 0.75 * (gamma[1] - 1)
    part = torch.zeros_like(scores)
    part[:, 0], part[:, 1] = 0.5, 0.75
    require(
        torch.allclose(answer(gamma, beta, part, nothing)[0] - 1, mixed),
        "scores that do not sum to 1 do not give the weighted sum of offsets",
        "the weight of each old class multiplies γ − 1",
    )
    own = torch.randn(2, 5, dtype=torch.float64)
    moved = answer(gamma, beta, scores, own)
    require(
        torch.allclose(moved[0] - once[0], own[0]) and torch.allclose(moved[1] - once[1], own[1]),
        "the residual of the class is not added as it is",
        "residual[0] is added to γ, residual[1] to β",
    )
    return passed("nothing borrowed is neutral, one old class comes back exactly, offsets add up, residuals are added")


def _right_install(table: Tensor) -> Tensor:
    return table.T.clone()


@exercise(
    solution=_right_install,
    stub=torch.t,
    wrong=(
        lambda table: table.T.detach(),
        lambda table: table.clone(),
        lambda table: torch.zeros_like(table.T),
        lambda table: table.transpose(0, 1).requires_grad_(),
    ),
)
def install(answer: Callable[[Tensor], Tensor]) -> CheckResult:
    """Exercise 2: the old classes' table as a trainable matrix, ``(N_o, C) -> (C, N_o)``."""
    table = torch.randn(7, 5)
    kept = table.clone()
    found = answer(table)
    require(isinstance(found, Tensor) and found.shape == (5, 7), "the result is not (C, N_o)", "transpose the table")
    require(torch.equal(found, kept.T), "the values are not those of the table, transposed")
    with torch.no_grad():
        found.add_(1)  # what an optimiser does
    require(
        torch.equal(table, kept),
        "a training step on the result has rewritten the old classes",
        "a transpose is a view into the same memory, and so is what detach gives: make a copy",
    )
    return passed("same values, memory of its own: the old classes survive a training step")


def _right_count(old: int, widths: Sequence[int]) -> tuple[int, int]:
    return sum(2 * old + 2 * width for width in widths), sum(2 * width for width in widths)


@exercise(
    solution=_right_count,
    stub=lambda old, widths: (0, 0),
    wrong=(
        lambda old, widths: (sum(2 * old for _ in widths), sum(2 * width for width in widths)),
        lambda old, widths: (sum(old + 2 * width for width in widths), sum(2 * width for width in widths)),
        lambda old, widths: (2 * old + 2 * sum(widths), 2 * sum(widths)),
    ),
)
def parameters_per_class(answer: Callable[[int, Sequence[int]], tuple[int, int]]) -> CheckResult:
    """Exercise 3: numbers that each further class adds, ``(old, widths) -> (with propagation, free γ and β)``."""
    found = tuple(answer(3, [4]))
    require(found[1] == 8, "one layer of 4 channels has not 8 free numbers a class", "one γ and one β a channel")
    require(
        found[0] == 14,
        "one layer of 4 channels and 3 old classes has not 14 numbers a class",
        "two sets of scores over the old classes, and a residual of γ and of β",
    )
    wide = [1536, 1536, 1536, 768, 768, 384, 384, 192, 192, 96]
    for old, widths, expected in ((80, [256] * 6, (4032, 3072)), (1000, wide, (34784, 14784))):
        require(
            tuple(answer(old, widths)) == expected,
            f"{old} old classes and {len(widths)} layers are not counted as published",
            "every layer has scores of its own",
        )
    return passed("4,032 numbers a class for the published CIFAR network, 34,784 for the ImageNet one")


def _right_kmmd(real: Tensor, fake: Tensor) -> float:
    scale = torch.cdist(real, real).square().mean()

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a, b).square() / (2 * scale)).exp().mean()

    return float((mean(real, real) + mean(fake, fake) - 2 * mean(real, fake)).clamp_min(0).sqrt())


def _diagonal_left_out(real: Tensor, fake: Tensor) -> float:
    return kernel.kmmd(real, fake, sigma=(len(real) / (len(real) - 1)) ** 0.5)


@exercise(
    solution=_right_kmmd,
    stub=lambda real, fake: 0.0,
    wrong=(
        _diagonal_left_out,
        lambda real, fake: kernel.kmmd(real, fake) ** 2,
        lambda real, fake: kernel.kmmd(fake, real),
        lambda real, fake: float((real.mean(0) - fake.mean(0)).norm()),
    ),
)
def kmmd(answer: Callable[[Tensor, Tensor], float]) -> CheckResult:
    """Exercise 4: KMMD with a Gaussian kernel, ``(real, fake) -> distance``, features ``(N, F)`` and ``(M, F)``."""
    real = torch.randn(40, 6, dtype=torch.float64)
    require(
        abs(float(answer(real, real.flip(0)))) < 1e-6,
        "a set and itself in another order are not at distance 0",
        "compare all pairs, not row with row",
    )
    fake = 1.5 * torch.randn(50, 6, dtype=torch.float64) + 0.3
    value, expected = float(answer(real, fake)), kernel.kmmd(real, fake)
    require(abs(value - expected**2) > 1e-4 * expected, "this is the squared distance", "take the root at the end")
    require(
        abs(value - expected) < 1e-6,
        "the distance of two normal samples is not that of the definition",
        "the width is the mean squared distance among the real rows alone, zeros of the diagonal included",
    )
    require(
        abs(float(answer(10 * real, 10 * fake)) - expected) < 1e-6,
        "features in other units change the distance",
        "the width has to follow the real features",
    )
    return passed("zero for equal sets, the value of the definition otherwise, whatever the unit of the features")
