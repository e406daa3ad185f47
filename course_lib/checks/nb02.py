"""Checks of notebook 02, "Building cINN blocks": each asks for a property, so any correct code passes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.checks.toys import toy_flow

__all__ = ["leaky_relu", "log_prob", "sigmoid_coupling", "transfer"]

_TOLERANCE = 1e-5  # an answer may well compute its log-determinant in float32


def _log_det_by_autograd(function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """``log|det|`` of ``function(x, *others): (B, D)`` by ``x: (B, D)``, sample by sample: ``(B,)``."""

    def at(row: Tensor, *own: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda r: function(r[None], *(o[None] for o in own))[0], row)

    jacobians = torch.stack([at(*sample) for sample in zip(x, *others, strict=True)])
    return torch.linalg.slogdet(jacobians).logabsdet


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < _TOLERANCE)


def _require_per_sample(log_det: Tensor, count: int) -> None:
    require(
        isinstance(log_det, Tensor) and log_det.shape == (count,),
        f"the second result should be one number per sample, a tensor of shape ({count},)",
        "sum over the coordinates, dimension 1, and keep the batch",
    )


def _leaky(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x < 0, alpha * x, x)


@exercise(
    solution=lambda x, alpha: (_leaky(x, alpha), (x < 0).sum(1) * math.log(alpha)),
    stub=lambda x, alpha: (x, torch.zeros(len(x))),
    wrong=(
        lambda x, alpha: (_leaky(x, alpha), x.new_zeros(len(x))),
        lambda x, alpha: (_leaky(x, alpha), (x < 0).sum(1) * alpha),
        lambda x, alpha: (_leaky(x, alpha), (x > 0).sum(1) * math.log(alpha)),
    ),
)
def leaky_relu(answer: Callable[[Tensor, float], tuple[Tensor, Tensor]]) -> CheckResult:
    """Exercise 1: an invertible leaky ReLU with its true log-determinant, ``(x, alpha) -> (y, log_det)``."""
    x = torch.randn(16, 6, dtype=torch.float64)
    for alpha in (0.9, 0.25):
        y, log_det = answer(x, alpha)
        require(
            y.shape == x.shape and _close(y, _leaky(x, alpha)),
            "the values are not those of a leaky ReLU",
            "negative entries become alpha times themselves, the others stay",
        )
        _require_per_sample(log_det, len(x))
        true = _log_det_by_autograd(lambda rows, alpha=alpha: answer(rows, alpha)[0], x)
        require(
            _close(log_det, true),
            "the log-determinant differs from the one autograd finds",
            "each negative coordinate stretches its own axis by alpha; add the logarithms",
        )
    return passed("values and log-determinant agree with autograd for two slopes")


def _right_log_prob(v: Tensor, log_det: Tensor) -> Tensor:
    return log_det - 0.5 * v.square().sum(1) - 0.5 * v.shape[1] * math.log(2 * math.pi)


@exercise(
    solution=_right_log_prob,
    stub=lambda v, log_det: torch.zeros(len(v)),
    wrong=(
        lambda v, log_det: _right_log_prob(v, -log_det),
        lambda v, log_det: log_det - 0.5 * v.square().sum(1),
        lambda v, log_det: log_det - 0.5 * v.square().mean(1) - 0.5 * math.log(2 * math.pi),
        lambda v, log_det: -_right_log_prob(v, log_det),
    ),
)
def log_prob(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 2: the log-density of ``z`` from the flow's two outputs, ``(v, log_det) -> (B,)``."""
    for dim in (2, 5):
        matrix = torch.randn(dim, dim, dtype=torch.float64) + 2 * torch.eye(dim, dtype=torch.float64)
        z = torch.randn(32, dim, dtype=torch.float64)
        log_det = torch.linalg.slogdet(matrix).logabsdet.expand(len(z))
        value = answer(z @ matrix.T, log_det)
        _require_per_sample(value, len(z))
        known = torch.distributions.MultivariateNormal(z.new_zeros(dim), precision_matrix=matrix.T @ matrix)
        gap = value.double() - known.log_prob(z)
        require(
            gap.abs().max() < 1e-6, _log_prob_message(gap, dim), "log q(v) + log|det|, both summed over coordinates"
        )
    return passed("the density of a linear flow is the Gaussian that theory asks for, in 2 and in 5 dimensions")


def _log_prob_message(gap: Tensor, dim: int) -> str:
    constant = 0.5 * dim * math.log(2 * math.pi)
    if (gap - constant).abs().max() < 1e-6:
        return f"the constant is missing: in {dim} dimensions the density integrates to more than 1"
    return f"in {dim} dimensions the value is not that of the Gaussian which a linear flow gives"


def _right_couple(x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    scale = 0.5 + torch.sigmoid(s)
    return x * scale + t, scale.log().sum(1)


def _right_uncouple(y: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return (y - t) / (0.5 + torch.sigmoid(s))


@exercise(
    solution=(_right_couple, _right_uncouple),
    stub=(lambda x, s, t: (x, torch.zeros(len(x))), lambda y, s, t: y),
    wrong=(
        (lambda x, s, t: (_right_couple(x, s, t)[0], s.sum(1)), _right_uncouple),
        (_right_couple, lambda y, s, t: y / (0.5 + torch.sigmoid(s)) - t),
        (_right_couple, lambda y, s, t: (y - t) * (0.5 + torch.sigmoid(-s))),
    ),
)
def sigmoid_coupling(
    couple: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    uncouple: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> CheckResult:
    """Exercise 3: a coupling whose scale is ``0.5 + sigmoid(s)``: ``(x, s, t) -> (y, log_det)`` and its inverse."""
    x, s, t = torch.randn(3, 16, 4, dtype=torch.float64).mul(2).unbind(0)
    y, log_det = couple(x, s, t)
    require(
        y.shape == x.shape and _close(y, x * (0.5 + torch.sigmoid(s)) + t),
        "the forward values are not x * (0.5 + sigmoid(s)) + t",
        "scale first, then shift",
    )
    require(
        _close(uncouple(y, s, t), x),
        "the inverse does not bring x back",
        "undo the steps in the opposite order: take the shift away, then divide by the scale",
    )
    _require_per_sample(log_det, len(x))
    require(
        _close(log_det, _log_det_by_autograd(lambda *parts: couple(*parts)[0], x, s, t)),
        "the log-determinant differs from the one autograd finds",
        "the factor on the diagonal is the scale itself, not s: what is its logarithm?",
    )
    return passed("invertible, and the log-determinant agrees with autograd")


@exercise(
    solution=lambda flow, z, own, other: flow.inverse(flow(z, own)[0], other),
    stub=lambda flow, z, own, other: z,
    wrong=(
        lambda flow, z, own, other: flow.inverse(flow(z, other)[0], own),
        lambda flow, z, own, other: flow.inverse(flow(z, other)[0], other),
        lambda flow, z, own, other: flow.inverse(torch.randn_like(z), other),
        lambda flow, z, own, other: flow(flow.inverse(z, own), other)[0],
    ),
)
def transfer(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 4: keep the residual, change the condition: ``(flow, z, own, other) -> z_new``."""
    flow = toy_flow()
    z = torch.randn(8, 4, dtype=torch.float64)
    own, other = torch.eye(3, dtype=torch.float64)[torch.tensor([[0] * 8, [1] * 8])]
    with torch.no_grad():
        moved = answer(flow, z, own, other)
        require(
            isinstance(moved, Tensor) and moved.shape == z.shape,
            "the result should have the shape of z",
            "flow(z, own) returns two things: the residual and the log-determinant",
        )
        require(not _close(moved, z), "nothing has changed", "encode with one condition, decode with the other")
        require(
            _close(flow(moved, other)[0], flow(z, own)[0]),
            "the residual was not kept: the new z under the other condition has another v",
            "v comes from z and the condition z belongs to; the other condition enters on the way back",
        )
        require(_close(answer(flow, moved, other, own), z), "there and back does not return z", "is anything random?")
    return passed("v is kept, and there and back returns every point")
