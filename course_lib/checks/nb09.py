"""Checks of notebook 09, "Propagating batch norm across classes": a propagation layer, what a class costs, KMMD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape
from course_lib.evaluation import distances

__all__ = ["kmmd", "parameters_per_class", "propagation_layer"]


@exercise
def propagation_layer(answer: Callable[[Tensor, Tensor], nn.Module]) -> CheckResult:
    """Exercise 1: a module ``(table (N_o, C), mixtures (N_n, N_o))`` that maps class weights ``(B, N_n)`` to offsets.

    It begins at the mixtures, all of it trains, and training does not touch ``table``.
    """
    table, picked = torch.randn(7, 5), torch.tensor([4, 0, 4])
    kept, one_hot = table.clone(), torch.eye(7)[picked]
    classes = torch.eye(3)
    layer = answer(table, one_hot)
    found = layer(classes)
    require_shape(found, (3, 5), "three class vectors should give offsets (3, C)")
    require(
        torch.allclose(found, table[picked], atol=1e-5),
        "a one-hot mixture does not give the offsets of that old class at the start",
        "no softmax: weights are used as they are; the residual and a0 begin at zero",
    )
    mixtures = torch.randn(3, 7)
    layer = answer(table, mixtures)
    half = torch.full((1, 3), 0.5)
    require(
        torch.allclose(layer(classes), mixtures @ table, atol=1e-5)
        and torch.allclose(layer(half), half @ mixtures @ table, atol=1e-5),
        "mixtures that do not sum to 1 do not give the weighted sum of old offsets",
        "P (A e + a0) + R e is linear in e and in A",
    )
    numbers, wanted = sum(p.numel() for p in layer.parameters() if p.requires_grad), 7 * 3 + 7 + 5 * 7 + 5 * 3
    parts = "A (N_o, N_n), a0 (N_o), P (C, N_o) and R (C, N_n), all of them nn.Parameter"
    require(numbers == wanted, f"{numbers} numbers train instead of {wanted}", parts)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    layer(classes)[1].sum().backward()
    optimizer.step()
    require(
        torch.equal(table, kept),
        "a training step has rewritten the old classes",
        "a transpose is a view into the same memory: clone it",
    )
    moved = layer(classes) - mixtures @ table
    require(
        moved[1].abs().max() > 1e-4, "a step on the second class does not move it", "register what trains as Parameter"
    )
    target, layer = torch.randn(3, 5), answer(torch.zeros(7, 5), torch.zeros(3, 7))
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(classes) - target).square().sum().backward()
        optimizer.step()
    require(
        torch.allclose(layer(classes), target, atol=0.05),
        "three classes that borrow nothing cannot learn offsets of their own",
        "add R e: the residual of the class",
    )
    return passed("old classes come back exactly, mixtures add up, residuals learn, and the old table is untouched")


@exercise
def parameters_per_class(answer: Callable[[int, Sequence[int]], tuple[int, int]]) -> CheckResult:
    """Exercise 2: numbers that each further class adds, ``(old, widths) -> (with propagation, free γ and β)``."""
    found = tuple(answer(3, [4]))
    require(found[1] == 8, "one layer of 4 channels has not 8 free numbers a class", "one γ and one β a channel")
    require(
        found[0] == 14,
        "one layer of 4 channels and 3 old classes has not 14 numbers a class",
        "two sets of mixing weights over the old classes, and a residual of γ and of β",
    )
    wide = [1536, 1536, 1536, 768, 768, 384, 384, 192, 192, 96]
    for old, widths, expected in ((80, [256] * 6, (4032, 3072)), (1000, wide, (34784, 14784))):
        require(
            tuple(answer(old, widths)) == expected,
            f"{old} old classes and {len(widths)} layers are not counted as published",
            "every layer has weights of its own",
        )
    return passed("4,032 numbers a class for the published CIFAR network, 34,784 for the ImageNet one")


@exercise
def kmmd(answer: Callable[[Tensor, Tensor], float]) -> CheckResult:
    """Exercise 3: KMMD with a Gaussian kernel, ``(real, fake) -> distance``, features ``(N, F)`` and ``(M, F)``."""
    real = torch.randn(40, 6, dtype=torch.float64)
    require(
        abs(float(answer(real, real.flip(0)))) < 1e-6,
        "a set and itself in another order are not at distance 0",
        "compare all pairs, not row with row",
    )
    fake = 1.5 * torch.randn(50, 6, dtype=torch.float64) + 0.3
    value, expected = float(answer(real, fake)), distances.gaussian_mmd(real, fake)
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
