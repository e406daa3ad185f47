"""Checks of notebook 03, "Training a translator": properties of the loss, of samples, of scores and of a transfer."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.translation import Translator

__all__ = ["consistency", "loss", "sample", "transfer"]


def _right_loss(v: Tensor, log_det: Tensor) -> tuple[Tensor, float]:
    return (0.5 * v.square().sum(1) - log_det).mean(), v.shape[1] / 2


@exercise(
    solution=_right_loss,
    stub=lambda v, log_det: (v.new_zeros(()), 0.0),
    wrong=(
        lambda v, log_det: ((0.5 * v.square().sum(1) + log_det).mean(), v.shape[1] / 2),
        lambda v, log_det: ((0.5 * v.square().mean(1) - log_det).mean(), v.shape[1] / 2),
        lambda v, log_det: ((0.5 * v.square().sum(1) - log_det).mean(), float(v.shape[1])),
        lambda v, log_det: ((0.5 * v.square().sum(1) - log_det).sum(), v.shape[1] / 2),
    ),
)
def loss(answer: Callable[[Tensor, Tensor], tuple[Tensor, float]]) -> CheckResult:
    """Exercise 1: the training loss and its reference, ``(v, log_det) -> (total, reference)``."""
    for dim in (3, 8):
        scale = torch.rand(dim, dtype=torch.float64) + 0.5
        z = torch.randn(400, dim, dtype=torch.float64) / scale
        log_det = scale.log().sum().expand(len(z))
        total, reference = answer(z * scale, log_det)
        require(
            isinstance(total, Tensor) and total.shape == (),
            "the loss should be one number, a tensor of shape ()",
            "sum over coordinates, then take the mean over the batch",
        )
        density = torch.distributions.Normal(torch.zeros_like(scale), 1 / scale)
        exact = -density.log_prob(z).sum(1).mean() - 0.5 * dim * math.log(2 * math.pi)
        require(
            abs(float(total) - float(exact)) < 1e-8,
            f"for a known Gaussian in {dim} dimensions the loss is not minus its log-likelihood without the constant",
            "half the squared length of v, minus the log-determinant: which one is summed, which one averaged?",
        )
        require(
            abs(float(reference) - dim / 2) < 1e-8,
            f"the reference is not what Gaussian noise gives in {dim} dimensions",
            "the mean of a squared standard normal number is 1",
        )
    return passed("the loss is the likelihood of a known Gaussian, in 3 and in 8 dimensions")


def _right_consistency(wanted: Tensor, found: Tensor) -> float:
    return float(1 - (wanted - found).square().sum() / (wanted - wanted.mean(0)).square().sum())


@exercise(
    solution=_right_consistency,
    stub=lambda wanted, found: 0.0,
    wrong=(
        lambda wanted, found: float(1 - (wanted - found).square().mean()),
        lambda wanted, found: float(1 - (wanted - found).square().sum() / wanted.square().sum()),
        lambda wanted, found: float(torch.corrcoef(torch.stack([wanted.flatten(), found.flatten()]))[0, 1] ** 2),
    ),
)
def consistency(answer: Callable[[Tensor, Tensor], float]) -> CheckResult:
    """Exercise 2: explained share of variance of ``(N, K)`` rows, ``(wanted, found) -> share``."""
    wanted = 3.0 * torch.randn(500, 4, dtype=torch.float64) + 5.0
    mean = wanted.mean(0)
    spread = (wanted - mean).square().sum()
    require(abs(float(answer(wanted, wanted)) - 1) < 1e-8, "a perfect copy does not score 1", "1 minus an error")
    require(
        abs(float(answer(wanted, mean.expand_as(wanted)))) < 1e-8,
        "answering the mean of all rows each time does not score 0",
        "divide by the squared distance of the rows from their own mean",
    )
    require(
        abs(float(answer(wanted, wanted + 1)) - (1 - wanted.numel() / float(spread))) < 1e-8,
        "a constant shift is not punished as it should be",
        "compare the values themselves; a correlation forgives shifts and scales",
    )
    return passed("1 for a copy, 0 for the mean, and shifts are punished")


def _toy_flow(dim: int = 4, condition: int = 3) -> cinn.ConditionalFlow:
    """A small conditional flow in float64 that is far from the identity."""
    generator = torch.Generator().manual_seed(0)
    config = cinn.FlowConfig(dim=dim, condition_shape=(condition,), hidden_dim=16, hidden_depth=1, blocks=3)
    flow = cinn.ConditionalFlow(config, generator).double().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return flow


def _right_sample(flow: cinn.ConditionalFlow, condition: Tensor, count: int, temperature: float) -> Tensor:
    many = condition.repeat_interleave(count, 0)
    v = temperature * torch.randn(len(many), flow.config.dim, dtype=many.dtype)
    return flow.inverse(v, many).view(len(condition), count, -1)


def _wrong_order(flow: cinn.ConditionalFlow, condition: Tensor, count: int, temperature: float) -> Tensor:
    many = condition.repeat(count, 1)
    v = temperature * torch.randn(len(many), flow.config.dim, dtype=many.dtype)
    return flow.inverse(v, many).view(len(condition), count, -1)


def _wrong_place(flow: cinn.ConditionalFlow, condition: Tensor, count: int, temperature: float) -> Tensor:
    return temperature * _right_sample(flow, condition, count, 1.0)


@exercise(
    solution=_right_sample,
    stub=lambda flow, condition, count, temperature: torch.zeros(len(condition), count, flow.config.dim),
    wrong=(
        _wrong_order,
        _wrong_place,
        lambda flow, condition, count, temperature: _right_sample(flow, condition, count, temperature**0.5),
        lambda flow, condition, count, temperature: _right_sample(flow, condition, 1, temperature).repeat(1, count, 1),
    ),
)
def sample(answer: Callable[[cinn.ConditionalFlow, Tensor, int, float], Tensor]) -> CheckResult:
    """Exercise 3: several samples of each condition, ``(flow, condition, count, temperature) -> (B, count, D)``."""
    flow, count = _toy_flow(), 300
    condition = torch.eye(3, dtype=torch.float64) * 2
    for temperature in (0.0, 0.5, 1.0):
        with torch.no_grad():
            latent = answer(flow, condition, count, temperature)
            require(
                isinstance(latent, Tensor) and latent.shape == (3, count, 4),
                "the result should have the shape (conditions, count, D)",
                "repeat each condition, draw as many residuals, and view the result at the end",
            )
            v = flow(latent.double().flatten(0, 1), condition.repeat_interleave(count, 0))[0]
        require(
            abs(float(v.std()) - temperature) < 0.05,
            f"at temperature {temperature} the residuals under their own condition have another standard deviation",
            "the temperature multiplies v, not the latent; row i of the result belongs to condition i",
        )
        distinct = len(v.round(decimals=6).unique(dim=0))
        require(temperature == 0 or distinct > 0.9 * len(v), "samples repeat", "every sample needs a v of its own")
    return passed("residuals have the standard deviation asked for, and every sample has its own")


class _Pixels:
    """A toy expert that is its own inverse: pictures are vectors ``(B, D)``."""

    condition_shape: tuple[int, ...] = (3,)
    latent_dim = 4

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :3] if x.shape[1] == 3 else 2 * x

    def decode(self, latent: Tensor) -> Tensor:
        return latent / 2


def _toy_translator() -> Translator:
    return Translator(_Pixels(), _toy_flow(), _Pixels())


def _right_transfer(translator: Translator, picture: Tensor, own: Tensor, other: Tensor) -> Tensor:
    source, flow, target = translator.source, translator.flow, translator.target
    v, _ = flow(target.encode(picture), source.encode(own))
    return target.decode(flow.inverse(v, source.encode(other)))


@exercise(
    solution=_right_transfer,
    stub=lambda translator, picture, own, other: picture,
    wrong=(
        lambda translator, picture, own, other: _right_transfer(translator, picture, other, own),
        lambda translator, picture, own, other: _right_transfer(translator, picture, other, other),
        lambda translator, picture, own, other: translator.render(torch.randn(1, 4, dtype=torch.float64), other)[:, 0],
        lambda translator, picture, own, other: translator.flow.inverse(
            translator.flow(translator.target.encode(picture), own)[0], other
        ),
    ),
)
def transfer(answer: Callable[[Translator, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 4: the residual of one picture under another's condition, ``(translator, picture, own, other)``."""
    translator = _toy_translator()
    picture = torch.randn(6, 4, dtype=torch.float64)
    own, other = torch.eye(3, dtype=torch.float64)[torch.tensor([[0] * 6, [1] * 6])]
    with torch.no_grad():
        moved = answer(translator, picture, own, other)
        require(
            isinstance(moved, Tensor) and moved.shape == picture.shape,
            "the result should be pictures, one for each picture given",
            "the last step decodes a latent with translator.target",
        )
        require(
            not torch.allclose(moved, picture), "nothing has changed", "read v with one condition, write with another"
        )
        kept = translator.residual(moved, other) - translator.residual(picture, own)
        require(
            kept.abs().max() < 1e-8,
            "the residual was not kept: under its new condition the picture has another v",
            "encode with the target expert, flow with `own`, flow back with `other`, decode with the target expert",
        )
    return passed("the new pictures have the old residuals under the new conditions")
