"""Checks of notebook 06, "Choosing what is kept": variability, sources, crossing, and shape against texture."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib import cinn
from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape, toy_flow

__all__ = ["cross", "shape_share", "source", "spread"]

Expert = Callable[[Tensor], Tensor]


@exercise
def spread(answer: Callable[[Tensor], float]) -> CheckResult:
    """Exercise 1: how much samples of one input differ, ``(N, samples, 3, S, S) -> standard deviation of a pixel``."""
    base = torch.randn(50, 1, 3, 8, 8)
    require(
        abs(float(answer(base.expand(-1, 4, -1, -1, -1)))) < 1e-6,
        "samples that are all alike do not score 0",
        "compare samples of one input with each other, not with the samples of other inputs",
    )
    for deviation in (0.1, 0.5):
        drawn = base + deviation * torch.randn(50, 2, 3, 8, 8)
        require(
            abs(float(answer(drawn)) - deviation) < 0.03 * deviation,
            f"noise of standard deviation {deviation} around each input is not measured as {deviation}",
            "average the variances over inputs and pixels, then take the root; two samples need the unbiased variance",
        )
    return passed("0 for equal samples, and the standard deviation of known noise, whatever the inputs")


@exercise
def cross(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: every residual under every condition, ``(flow, latent, condition) -> (N, N, D)``."""
    flow = toy_flow()
    latent, condition = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        grid = answer(flow, latent, condition)
        require_shape(
            grid,
            (4, 4, 4),
            "repeat the residuals along the columns and the conditions along the rows, and view the result at the end",
        )
        diagonal = grid.diagonal(dim1=0, dim2=1).T
        require(
            torch.allclose(diagonal, latent, atol=1e-8),
            "the diagonal does not give the latents back",
            "a residual under its own condition is the latent that it came from",
        )
        v, _ = flow(latent, condition)
        again, _ = flow(grid[1], condition)
        require(
            torch.allclose(again, v[1].expand_as(again), atol=1e-8),
            "row 1, read under the column's conditions, is not the residual of latent 1 in every column",
            "row i has the residual of i, column j the condition of j; look at what changes along a row",
        )
    return passed("the diagonal reconstructs, and every row carries one residual through all conditions")


def _right_source(expert: Expert, pictures: Tensor, side: int) -> Expert:
    known = expert(pictures)
    maps = known.ndim == 4

    def pool(output: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(output, side) if maps else output

    axes = (0, 2, 3) if maps else 0
    mean, std = pool(known).mean(axes, keepdim=True), pool(known).std(axes, keepdim=True)
    return lambda x: (pool(expert(x)) - mean) / std


@exercise
def source(answer: Callable[[Expert, Tensor, int], Expert]) -> CheckResult:
    """Exercise 2: any expert's output as a condition, ``(expert, pictures, side) -> function of pictures``."""
    pictures, other = torch.randn(40, 3, 16, 16), 2 * torch.randn(10, 3, 16, 16) + 1
    # Places differ, so that statistics per channel and per place are not the same; channels have means of their own.
    slope = torch.linspace(-2, 2, 16)

    def maps(x: Tensor) -> Tensor:
        return torch.cat([x, 3 * x[:, :1] + slope + 5], 1)

    def vectors(x: Tensor) -> Tensor:
        return maps(x).mean((2, 3))

    condition = answer(maps, pictures, 4)(pictures)
    require_shape(condition, (40, 4, 4, 4), "F.adaptive_avg_pool2d(output, side) for outputs with four axes")
    require(
        condition.mean((0, 2, 3)).abs().max() < 1e-4 and (condition.std((0, 2, 3)) - 1).abs().max() < 1e-2,
        "the condition of the training pictures does not have mean 0 and standard deviation 1 in every channel",
        "take the statistics of the pooled output, over pictures and places: axes 0, 2 and 3",
    )
    places = "one mean and one standard deviation for each channel, the same in all places"
    inner = "mean and standard deviation are fixed by the training pictures, outside the inner function"
    axes = "vectors are not pooled; their statistics go over axis 0 only"
    for expert, given, message, hint in (
        (maps, pictures, "places are standardised one by one", places),
        (maps, other, "other pictures change the statistics", inner),
        (vectors, other, "an expert that gives vectors is not standardised in every coordinate", axes),
    ):
        found, wanted = (make(expert, pictures, 4)(given) for make in (answer, _right_source))
        require(torch.allclose(found, wanted, atol=1e-3), message, hint)
    return passed("maps are pooled, vectors are not, and the training pictures fix all statistics")


@exercise
def shape_share(answer: Callable[[Tensor, Tensor, Tensor], float]) -> CheckResult:
    """Exercise 4: shape bias of answers to cue conflicts, ``(named, shape, texture) -> share``, all ``int64 (N,)``."""
    shape, texture = torch.arange(100) % 10, (torch.arange(100) % 10 + 1) % 10
    named = torch.full((100,), -1)
    named[:30], named[30:40] = shape[:30], texture[30:40]
    require(
        abs(float(answer(named, shape, texture)) - 0.75) < 1e-6,
        "30 decisions for the shape, 10 for the texture and 60 for neither are not a share of 0.75",
        "decisions for neither cue say nothing about the preference: leave them out of the denominator",
    )
    texture[50:60] = shape[50:60]
    named[50:60] = shape[50:60]
    require(
        abs(float(answer(named, shape, texture)) - 0.75) < 1e-6,
        "pairs of one class change the result",
        "where shape and texture have the same class there is no conflict: leave these pictures out",
    )
    return passed("only conflicts count, and of them only the decisions for one of the two cues")
