"""Checks of notebook 04, "Text to image": the reading of sentences, the flow's target, same residuals."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape, toy_flow

__all__ = ["dequantised_target", "reading", "same_residual"]


@exercise
def dequantised_target(answer: Callable[[Tensor, Tensor, Callable, Callable], tuple[Tensor, Tensor]]) -> CheckResult:
    """Exercise 2: a training item for BigGAN, ``(z, embedding, render, dequantise) -> (target, picture)``."""
    z = torch.randn(12, 5, dtype=torch.float64)
    embedding = torch.randn(12, 3, dtype=torch.float64)

    def render(noise: Tensor, given: Tensor) -> Tensor:
        return torch.cat([noise.sum(1, keepdim=True), given], 1)

    target, picture = answer(z, embedding, render, lambda e: e + 0.1 * torch.randn_like(e))  # random neighbours
    require_shape(target, (12, 8), "torch.cat along dimension 1")
    require(torch.equal(target[:, :5], z), "the noise is not in front, unchanged", "z comes first, and only e is moved")
    moved = target[:, 5:] - embedding
    require(bool((moved != 0).all()), "the embedding in the target is the clean one", "pass it through dequantise")
    require(moved.abs().max() < 1, "the second part of the target is no neighbour of the embedding")
    require(
        torch.equal(picture, render(z, embedding)),
        "the picture was not rendered from the clean embedding",
        "the caption has to describe the class itself; dequantise serves the flow alone",
    )
    return passed("noise first, a random neighbour of the embedding second, and the picture from the clean one")


@exercise
def same_residual(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: every sentence under every residual, ``(flow, condition, v) -> (sentences, samples, D)``."""
    flow = toy_flow()
    condition, v = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        latent = answer(flow, condition, v)
        require_shape(latent, (4, 5, 4), "20 latents in one pass, and view() at the end")
        for i in range(4):
            found = flow.encode(latent[i], condition[i].expand(5, 3))
            require(
                torch.allclose(found, v, atol=1e-8),
                "under its own sentence a latent does not have the residual of its column",
                "repeat_interleave the sentences and repeat the residuals, not the other way round",
            )
    return passed("row by sentence, column by residual")


def _right_reading(embeddings: Tensor, wanted: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    mean, offset = embeddings.mean(0), wanted.mean(0)
    x, y = embeddings - mean, wanted - offset
    gram = x.T @ x / len(x)
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, x.T @ y / len(x))
    return lambda new: (new - mean) @ weight + offset


@exercise
def reading(answer: Callable[[Tensor, Tensor, float], Callable[[Tensor], Tensor]]) -> CheckResult:
    """Exercise 1: ridge regression, ``(embeddings, wanted, ridge) -> (embeddings -> readings)``."""
    embeddings = torch.randn(200, 7, dtype=torch.float64) * torch.linspace(0.2, 2, 7, dtype=torch.float64) + 3
    wanted = (embeddings[:, :3] + 0.5 * torch.randn(200, 3, dtype=torch.float64) > 3).double()
    new = torch.randn(9, 7, dtype=torch.float64) + 3
    for ridge in (0.01, 0.5):
        read = answer(embeddings, wanted, ridge)
        found, right = read(new), _right_reading(embeddings, wanted, ridge)(new)
        require_shape(found, right.shape)
        middle = read(embeddings.mean(0, keepdim=True))
        require(
            torch.allclose(middle.double(), wanted.mean(0, keepdim=True), atol=1e-6),
            "at the mean embedding the reading is not the mean of the targets",
            "centre both, and add the mean of the targets at the end",
        )
        require(
            torch.allclose(found.double(), right, atol=1e-6),
            f"with ridge = {ridge} the readings are other ones",
            "divide x.T @ x by the number of rows; the penalty is ridge times the mean of its diagonal",
        )
    return passed("the map is the ridge regression")
