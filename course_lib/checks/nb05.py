"""Checks of notebook 05, "Unpaired translation": attributes flipped, a linear translator, counterparts found."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape

__all__ = ["flip", "top_k", "translator"]


@exercise
def translator(answer: Callable[[Tensor, Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]) -> CheckResult:
    """Exercise 2: a linear translator, ``(latents, conditions) -> (latent, own, other) -> latent``."""
    domain, colour = torch.randint(3, (400,)), torch.randint(2, (400,))
    condition = torch.cat([torch.eye(3)[domain], torch.eye(2)[colour]], 1)
    means, style, own = 3 * torch.randn(5, 6), torch.randn(400, 6), torch.randn(8, 6)
    latent = condition @ means + style - (style - style.mean(0)).mean(0)
    translate = answer(latent, condition)
    first = torch.cat([torch.eye(3)[[0] * 8], torch.eye(2)[[1] * 8]], 1)
    second = torch.cat([torch.eye(3)[[2] * 8], torch.eye(2)[[1] * 8]], 1)
    z = first @ means + own
    moved = translate(z, first, second)
    require_shape(moved, z.shape, "subtract the prediction under `own`, add that under `other`")
    require(not torch.allclose(moved, z), "the latents have not changed", "add the prediction under `other`")
    gap = (moved - second @ means - own).abs().max().item()
    require(
        gap < 0.6,
        "the translated latents are not where the other label's pictures are",
        "least squares on centred conditions and latents; a large penalty makes the prediction too small",
    )
    require(
        torch.allclose(translate(moved, second, first), z, atol=1e-3),
        "translating there and back does not return the latent",
        "keep the residual: it is all that the prediction does not explain",
    )
    return passed("the label is exchanged, the residual is kept")


def _right_top_k(queries: Tensor, gallery: Tensor, k: int) -> float:
    nearest = torch.cdist(queries, gallery).topk(k, dim=1, largest=False).indices
    return (nearest == torch.arange(len(queries))[:, None]).any(1).float().mean().item()


@exercise
def top_k(answer: Callable[[Tensor, Tensor, int], float]) -> CheckResult:
    """Exercise 3: retrieval of the true counterpart, ``(queries, gallery, k) -> share``; row i belongs to row i."""
    gallery = torch.randn(40, 8)
    for noise in (0.0, 0.6, 1.5):
        # Two rows lie close together, so that exchanging queries and gallery is noticed.
        queries = gallery + noise * torch.randn(40, 8) * torch.linspace(0.2, 2.0, 40)[:, None]
        for k in (1, 5):
            share = answer(queries, gallery, k)
            require(
                abs(float(share) - _right_top_k(queries, gallery, k)) < 1e-6,
                f"with k = {k} and noise {noise} the share of found counterparts is another one",
                "for each query the k gallery rows with the smallest distance; is row i among them?",
            )
    share = answer(gallery[:7] + 0.01, gallery, 3)
    require(abs(float(share) - 1.0) < 1e-6, "the gallery may be larger than the set of queries", "count the queries")
    return passed("counterparts are counted right for every k")


@exercise
def flip(answer: Callable[[Tensor, slice, int], Tensor]) -> CheckResult:
    """Exercise 1: one attribute of joined one-hots set to a value, ``(condition, block, value)``."""
    blocks = (slice(0, 3), slice(3, 7), slice(7, 9))
    labels = [torch.randint(block.stop - block.start, (8,)) for block in blocks]
    condition = torch.cat([torch.eye(b.stop - b.start)[label] for b, label in zip(blocks, labels, strict=True)], dim=1)
    before = condition.clone()
    for block, value in ((blocks[1], 2), (blocks[2], 1), (blocks[0], 2)):
        changed = answer(condition, block, value)
        require(torch.equal(condition, before), "the condition that was given has changed", "work on a clone")
        require_shape(changed, before.shape, "only numbers inside the block change")
        inside = changed[:, block]
        require(
            torch.equal(inside.sum(1), torch.ones(8)) and bool((inside[:, value] == 1).all()),
            "the block is not the one-hot vector of the new value",
            "clear the whole block before setting a single 1; `block.start` is where it begins",
        )
        rest = torch.ones(before.shape[1], dtype=torch.bool)
        rest[block] = False
        require(torch.equal(changed[:, rest], before[:, rest]), "another attribute has changed too", "use `block`")
    return passed("one attribute is set, the others are as they were")
