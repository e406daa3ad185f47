"""Checks of notebook 08, "From unconditional to conditional": own score, Barlow Twins, a head of low rank."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape

__all__ = ["low_rank", "own_score", "twins"]


@exercise
def own_score(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: the score of the own class, ``(scores (B, C), labels (B,)) -> (B,)``."""
    scores, labels = torch.randn(6, 4), torch.tensor([3, 0, 2, 2, 1, 0])
    found = answer(scores, labels)
    require_shape(
        found, (6,), "(B, 1) against (B,) broadcasts to (B, B) in a loss without any error: one number a picture"
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


@exercise
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


@exercise
def low_rank(answer: Callable[[Tensor, Tensor, int, int], nn.Module]) -> CheckResult:
    """Exercise 3: a head of low rank, ``(gain (O, I), shift (O, I), width, rank) -> module``; see the notebook."""
    gain, shift, u = torch.rand(12, 10) + 0.5, torch.randn(12, 10), torch.randn(3, 5)
    head = answer(gain, shift, 5, 2)
    found = head(u)
    require(len(found) == 2, "head(u) should give γ and β")
    for part in found:
        require_shape(part, (3, 12, 10), "head(u) should give γ and β, each (N, O, I)")
    require(
        torch.allclose(torch.stack(found), torch.stack([gain, shift])[:, None].expand(-1, 3, -1, -1), atol=1e-5),
        "an untrained head does not give the source's γ and β for every class vector",
        "start with one of the two thin factors at zero (weights and biases): then their product is zero",
    )
    free = sum(p.numel() for p in head.parameters() if p.requires_grad)
    require(
        free <= 2 * 2 * (12 + 10) * (5 + 1),
        f"the head has {free} parameters; of rank 2 it needs no more than 2 · 2 · (O + I) · (width + 1) = 528",
        "two linear layers: u → 2 · O · rank numbers and u → 2 · rank · I numbers",
    )
    goal = torch.randn(3, 12, 10)
    total = sum((part * goal).sum() for part in found)
    if total.requires_grad:
        total.backward()
    require(
        any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in head.parameters()),
        "no parameter has a gradient at the start, so the head never learns",
        "with both factors at zero each gradient is a product with zero: leave one of them random",
    )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    gains, shifts = head(u)
    for name, moved in (("γ / S − 1", gains / gain - 1), ("(β − M) / S", (shifts - shift) / gain)):
        values = torch.linalg.svdvals(moved.detach())
        require(
            bool((values[:, 2:] < 1e-3 * values[:, :1]).all() and (values[:, 1] > 1e-3 * values[:, 0]).all()),
            f"{name} of a trained head should be a matrix of rank 2 for every class",
            "γ = S · (1 + left @ right / rank) and β = M + S · (left' @ right' / rank)",
        )
    require(
        not torch.allclose(gains[0], gains[1], atol=1e-3),
        "two class vectors give the same γ",
        "both factors depend on u",
    )
    return passed("it starts at the source, it can learn, and every class moves its kernels by a matrix of low rank")
