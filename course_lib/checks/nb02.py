"""Checks of notebook 02, "Building cINN blocks": each asks for a property, so any correct code passes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape, toy_flow

__all__ = ["coupling", "keep_residual", "log_prob"]

Nets = tuple[Callable[[Tensor], Tensor], ...]

_TOLERANCE = 1e-5  # an answer may well compute its log-determinant in float32
_PER_SAMPLE = "sum over the coordinates, dimension 1, and keep the batch"


def _log_det_by_autograd(function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """``log|det|`` of ``function(x, *others): (B, D)`` by ``x: (B, D)``, sample by sample: ``(B,)``."""

    def at(row: Tensor, *own: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda r: function(r[None], *(o[None] for o in own))[0], row)

    jacobians = torch.stack([at(*sample) for sample in zip(x, *others, strict=True)])
    return torch.linalg.slogdet(jacobians).logabsdet


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < _TOLERANCE)


@exercise
def log_prob(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: the log-density of ``z`` from the flow's two outputs, ``(v, log_det) -> (B,)``."""
    for dim in (2, 5):
        matrix = torch.randn(dim, dim, dtype=torch.float64) + 2 * torch.eye(dim, dtype=torch.float64)
        z = torch.randn(32, dim, dtype=torch.float64)
        log_det = torch.linalg.slogdet(matrix).logabsdet.expand(len(z))
        value = answer(z @ matrix.T, log_det)
        require_shape(value, (len(z),), _PER_SAMPLE)
        known = torch.distributions.MultivariateNormal(z.new_zeros(dim), precision_matrix=matrix.T @ matrix)
        gap = value.double() - known.log_prob(z)
        constant = gap - 0.5 * dim * math.log(2 * math.pi)
        require(constant.abs().max() > 1e-6, f"the constant is missing: in {dim} dimensions the integral is above 1")
        message = f"in {dim} dimensions the value is not that of the Gaussian which a linear flow gives"
        require(gap.abs().max() < 1e-6, message, "log q(v) + log|det|, both summed over coordinates")
    return passed("the density of a linear flow is the Gaussian that theory asks for, in 2 and in 5 dimensions")


def _right_forward(h: Tensor, e: Tensor, nets: Nets) -> tuple[Tensor, Tensor]:
    s0, t0, s1, t1 = nets
    a, b = h.chunk(2, 1)
    scale0 = 0.5 + torch.sigmoid(s0(torch.cat([a, e], 1)))
    b = b * scale0 + t0(torch.cat([a, e], 1))
    scale1 = 0.5 + torch.sigmoid(s1(torch.cat([b, e], 1)))
    a = a * scale1 + t1(torch.cat([b, e], 1))
    return torch.cat([b, a], 1), (scale0 * scale1).log().sum(1)


def _swapped(h: Tensor) -> Tensor:
    return torch.cat(h.chunk(2, 1)[::-1], 1)


@exercise
def coupling(
    forward: Callable[[Tensor, Tensor, Nets], tuple[Tensor, Tensor]],
    inverse: Callable[[Tensor, Tensor, Nets], Tensor],
) -> CheckResult:
    """Exercise 2: a conditional double coupling with the scale ``0.5 + sigmoid``, and its inverse."""
    h, e = torch.randn(16, 6, dtype=torch.float64), torch.randn(16, 2, dtype=torch.float64)
    nets = tuple(lambda x, w=w: torch.sin(x @ w) for w in torch.randn(4, 5, 3, dtype=torch.float64))
    y, log_det = forward(h, e, nets)
    wanted = _right_forward(h, e, nets)[0]
    require(y.shape == h.shape, "the first result should have the shape of h", "put the halves side by side again")
    require(
        not _close(_swapped(y), wanted),
        "the halves are in the wrong order",
        "the output is b' and then a', side by side",
    )
    require(
        _close(y[:, :3], wanted[:, :3]),
        "b' is not b * (0.5 + sigmoid(s0)) + t0 of the first half and the embedding",
        "the networks read torch.cat([a, e], 1)",
    )
    require(
        _close(y, wanted),
        "a' is not a * (0.5 + sigmoid(s1)) + t1 of b' and the embedding",
        "the second step reads the new b'",
    )
    require(
        _close(inverse(y, e, nets), h),
        "the inverse does not bring h back",
        "undo the second step first; take the shift away, then divide by the scale",
    )
    require_shape(log_det, (len(h),), _PER_SAMPLE)
    require(
        _close(log_det, _log_det_by_autograd(lambda *parts: forward(*parts, nets)[0], h, e)),
        "the log-determinant differs from the one autograd finds",
        "the factors on the diagonal are the scales: add the logarithms of both steps",
    )
    return passed("invertible, and the log-determinant agrees with autograd")


@exercise
def keep_residual(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: keep the residual, change the condition: ``(flow, z, own, other) -> z_new``."""
    flow = toy_flow()
    z = torch.randn(8, 4, dtype=torch.float64)
    own, other = torch.eye(3, dtype=torch.float64)[torch.tensor([[0] * 8, [1] * 8])]
    with torch.no_grad():
        moved = answer(flow, z, own, other)
        require_shape(moved, z.shape, "flow(z, own) returns two things: the residual and the log-determinant")
        require(not _close(moved, z), "nothing has changed", "encode with one condition, decode with the other")
        require(
            _close(flow(moved, other)[0], flow(z, own)[0]),
            "the residual was not kept: the new z under the other condition has another v",
            "v comes from z and the condition z belongs to; the other condition enters on the way back",
        )
        require(_close(answer(flow, moved, other, own), z), "there and back does not return z", "is anything random?")
    return passed("v is kept, and there and back returns every point")
