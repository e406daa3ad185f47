"""Checks of notebook 06, "Choosing what is kept": variability, crossing, pinned warps, and shape against texture."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.checks.toys import toy_flow

__all__ = ["cross", "pin", "shape_share", "spread"]


def _right_spread(pictures: Tensor) -> float:
    return float(pictures.var(dim=1, unbiased=True).mean().sqrt())


@exercise(
    solution=_right_spread,
    stub=lambda pictures: 0.0,
    wrong=(
        lambda pictures: float(pictures.std()),
        lambda pictures: float(pictures.var(dim=0, unbiased=True).mean().sqrt()),
        lambda pictures: float(pictures.var(dim=1, unbiased=False).mean().sqrt()),
    ),
)
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


def _right_cross(flow: cinn.ConditionalFlow, latent: Tensor, condition: Tensor) -> Tensor:
    count = len(latent)
    v, _ = flow(latent, condition)
    return flow.inverse(v.repeat_interleave(count, 0), condition.repeat(count, 1)).view(count, count, -1)


def _without_conditions(flow: cinn.ConditionalFlow, latent: Tensor, condition: Tensor) -> Tensor:
    count = len(latent)
    return flow.inverse(latent.repeat_interleave(count, 0), condition.repeat(count, 1)).view(count, count, -1)


@exercise(
    solution=_right_cross,
    stub=lambda flow, latent, condition: latent[:, None].repeat(1, len(latent), 1),
    wrong=(
        lambda flow, latent, condition: _right_cross(flow, latent, condition).transpose(0, 1),
        _without_conditions,
        lambda flow, latent, condition: _right_cross(flow, latent, condition.roll(1, 0)),
    ),
)
def cross(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 2: every residual under every condition, ``(flow, latent, condition) -> (N, N, D)``."""
    flow = toy_flow()
    latent, condition = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        grid = answer(flow, latent, condition)
        require(
            isinstance(grid, Tensor) and grid.shape == (4, 4, 4),
            "the grid should have the shape (N, N, D)",
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


def _right_pin(points: Tensor, moves: Tensor) -> Tensor:
    return moves * (points.abs() < 1)


@exercise(
    solution=_right_pin,
    stub=lambda points, moves: moves,
    wrong=(
        lambda points, moves: moves * (points.abs() < 1).all(1, keepdim=True),
        lambda points, moves: moves * (points.abs() < 1).flip(1),
        lambda points, moves: torch.zeros_like(moves),
    ),
)
def pin(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: the border stays on the border, ``(points, moves) -> moves``, both ``(P, 2)`` with x and y."""
    line = torch.linspace(-1, 1, 4)
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], 1)
    moves = torch.rand(16, 2) - 0.5
    found = answer(points, moves.clone())
    require(isinstance(found, Tensor) and found.shape == moves.shape, "the moves should keep their shape (P, 2)")
    inner = (points.abs() < 1).all(1)
    require(
        torch.equal(found[inner], moves[inner]),
        "points in the middle do not move as asked",
        "only the border is pinned",
    )
    for axis, name, sides in ((0, "x", "left and right"), (1, "y", "upper and lower")):
        on = points[:, axis].abs() == 1
        require(
            found[on, axis].abs().max() == 0,
            f"points on the {sides} border leave it",
            f"a point with {name} = 1 or −1 keeps its {name}",
        )
        other = on & (points[:, 1 - axis].abs() < 1)
        require(
            torch.equal(found[other, 1 - axis], moves[other, 1 - axis]),
            f"points on the {sides} border do not slide along it",
            "only the coordinate across the border is pinned, the one along it is free",
        )
    return passed("the border stays where it is, points slide along it, and the inside moves freely")


def _right_share(named: Tensor, shape: Tensor, texture: Tensor) -> float:
    differs = shape != texture
    by_shape, by_texture = ((named == cue)[differs].sum() for cue in (shape, texture))
    return float(by_shape / (by_shape + by_texture).clamp_min(1))


def _without_selection(named: Tensor, shape: Tensor, texture: Tensor) -> float:
    by_shape, by_texture = (named == shape).sum(), (named == texture).sum()
    return float(by_shape / (by_shape + by_texture))


@exercise(
    solution=_right_share,
    stub=lambda named, shape, texture: 0.5,
    wrong=(
        lambda named, shape, texture: float((named == shape).float().mean()),
        lambda named, shape, texture: float(
            (named == shape).sum() / ((named == shape).sum() + (named == texture).sum())
        ),
        lambda named, shape, texture: 1 - _right_share(named, shape, texture),
    ),
)
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
