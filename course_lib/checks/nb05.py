"""Checks of notebook 05, "Unpaired translation": attributes flipped, a linear translator, counterparts found."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require

__all__ = ["flip", "top_k", "translator"]


def _right_translator(latent: Tensor, condition: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    x, y = condition.double(), latent.double()
    centred = x - x.mean(0)
    gram = centred.T @ centred + 1e-3 * torch.eye(x.shape[1], dtype=torch.float64)
    a = torch.linalg.solve(gram, centred.T @ (y - y.mean(0)))

    def translate(z: Tensor, own: Tensor, other: Tensor) -> Tensor:
        residual = z - own.to(z) @ a.to(z)
        return residual + other.to(z) @ a.to(z)

    return translate


def _without_centring(latent: Tensor, condition: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    gram = condition.T @ condition + 100.0 * torch.eye(condition.shape[1])
    a = torch.linalg.solve(gram, condition.T @ latent)
    return lambda z, own, other: z - own.to(z) @ a.to(z) + other.to(z) @ a.to(z)


@exercise(
    solution=_right_translator,
    stub=lambda latent, condition: lambda z, own, other: z,
    wrong=(
        _without_centring,
        lambda latent, condition: lambda z, own, other: _right_translator(latent, condition)(z, other, own),
        lambda latent, condition: (
            lambda z, own, other: _right_translator(latent, condition)(torch.zeros_like(z), 0 * own, other)
        ),
        lambda latent, condition: lambda z, own, other: z - latent.mean(0).to(z),
    ),
)
def translator(answer: Callable[[Tensor, Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]) -> CheckResult:
    """Exercise 2: a linear translator, ``(latents, conditions) -> (latent, own, other) -> latent``."""
    domain, colour = torch.randint(3, (400,)), torch.randint(2, (400,))
    condition = torch.cat([torch.eye(3)[domain], torch.eye(2)[colour]], 1)
    means, style, own = 3 * torch.randn(5, 6), torch.randn(400, 6), torch.randn(8, 6)
    latent = condition @ means + style - (style - style.mean(0)).mean(0)
    translate = answer(latent, condition)
    require(callable(translate), "the result should be a function of (latent, own, other)", "return translate")
    first = torch.cat([torch.eye(3)[[0] * 8], torch.eye(2)[[1] * 8]], 1)
    second = torch.cat([torch.eye(3)[[2] * 8], torch.eye(2)[[1] * 8]], 1)
    z = first @ means + own
    moved = translate(z, first, second)
    require(
        isinstance(moved, Tensor) and moved.shape == z.shape,
        "the result should be latents, one for each latent given",
        "subtract the prediction under `own`, add that under `other`",
    )
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


@exercise(
    solution=_right_top_k,
    stub=lambda queries, gallery, k: 0.0,
    wrong=(
        lambda queries, gallery, k: _right_top_k(queries, gallery, 1),
        lambda queries, gallery, k: _right_top_k(gallery, queries, k),
        lambda queries, gallery, k: (
            (torch.cdist(queries, gallery).topk(k, dim=1).indices == torch.arange(len(queries))[:, None])
            .any(1)
            .float()
            .mean()
            .item()
        ),
        lambda queries, gallery, k: k / len(gallery),
    ),
)
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


def _right_flip(condition: Tensor, block: slice, value: int) -> Tensor:
    changed = condition.clone()
    changed[:, block] = 0
    changed[:, block.start + value] = 1
    return changed


def _add_only(condition: Tensor, block: slice, value: int) -> Tensor:
    changed = condition.clone()
    changed[:, block.start + value] = 1
    return changed


def _in_place(condition: Tensor, block: slice, value: int) -> Tensor:
    condition.copy_(_right_flip(condition, block, value))
    return condition


@exercise(
    solution=_right_flip,
    stub=lambda condition, block, value: condition,
    wrong=(
        _add_only,
        _in_place,
        lambda condition, block, value: _right_flip(condition, slice(0, block.stop), value),
        lambda condition, block, value: _right_flip(condition, block, 0),
    ),
)
def flip(answer: Callable[[Tensor, slice, int], Tensor]) -> CheckResult:
    """Exercise 1: one attribute of joined one-hots set to a value, ``(condition, block, value)``."""
    blocks = (slice(0, 3), slice(3, 7), slice(7, 9))
    labels = [torch.randint(block.stop - block.start, (8,)) for block in blocks]
    condition = torch.cat([torch.eye(b.stop - b.start)[label] for b, label in zip(blocks, labels, strict=True)], dim=1)
    before = condition.clone()
    for block, value in ((blocks[1], 2), (blocks[2], 1), (blocks[0], 2)):
        changed = answer(condition, block, value)
        require(torch.equal(condition, before), "the condition that was given has changed", "work on a clone")
        require(
            isinstance(changed, Tensor) and changed.shape == before.shape,
            "the result should have the shape of the condition",
            "only numbers inside the block change",
        )
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
