"""Checks of notebook 03: a score, the training of a flow, a residual carried over."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib import cinn
from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape, toy_flow
from course_lib.translation.translator import Translator

__all__ = ["carry_residual", "consistency", "training"]


@exercise
def consistency(answer: Callable[[Tensor, Tensor], float]) -> CheckResult:
    """Exercise 1: explained share of variance of ``(N, K)`` rows, ``(wanted, found) -> share``."""
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


@exercise
def training(answer: Callable[[nn.Module, Tensor, Tensor, int], float]) -> CheckResult:
    """Exercise 2: maximum likelihood, ``(flow, latent, condition, steps) -> mean loss of the last ten steps``."""
    # Latents are the condition, turned, plus Gaussian noise of a known size: their conditional entropy is known.
    scale, dim = 0.3, 4
    condition = torch.randn(3000, 3)
    latent = condition @ torch.randn(3, dim) + scale * torch.randn(3000, dim)
    entropy = dim * (0.5 + math.log(scale))
    config = cinn.FlowConfig(dim=dim, condition_shape=(3,), hidden_dim=32, hidden_depth=1, blocks=3)
    flow = cinn.ConditionalFlow(config, torch.Generator().manual_seed(0))
    before = [parameter.detach().clone() for parameter in flow.parameters()]
    found = float(answer(flow, latent, condition, 400))
    require(
        any(not torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True)),
        "the flow has not changed",
        "loss.backward(), then optimizer.step()",
    )
    with torch.no_grad():
        v, log_det = flow.eval()(latent, condition)
        reached = float((0.5 * v.square().sum(1) - log_det).mean())
    require(
        reached < entropy + 0.5,
        f"the flow ends {reached - entropy:.1f} nats above the entropy of the data",
        "is the log-determinant subtracted, and does every latent get its own condition?",
    )
    require(
        abs(found - reached) < 1.0,
        "the returned number is not the mean loss of the last steps",
        "collect loss.item() and average the last ten",
    )
    return passed("the flow comes within half a nat of the entropy of the data")


class _Pixels:
    """A toy expert that is its own inverse: pictures are vectors ``(B, D)``."""

    condition_shape: tuple[int, ...] = (3,)
    latent_dim = 4

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :3] if x.shape[1] == 3 else 2 * x

    def decode(self, latent: Tensor) -> Tensor:
        return latent / 2


@exercise
def carry_residual(answer: Callable[[Translator, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: the residual of one picture under another's condition, ``(translator, picture, own, other)``."""
    translator = Translator(_Pixels(), toy_flow(), _Pixels())
    picture = torch.randn(6, 4, dtype=torch.float64)
    own, other = torch.eye(3, dtype=torch.float64)[torch.tensor([[0] * 6, [1] * 6])]
    with torch.no_grad():
        moved = answer(translator, picture, own, other)
        require_shape(moved, picture.shape, "the last step decodes a latent with translator.target")
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
