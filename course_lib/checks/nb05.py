"""Checks of notebook 05, "Unpaired translation": labels changed, counterparts found, attributes flipped."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.cinn import ConditionalFlow, FlowConfig

__all__ = ["change_label", "flip", "partners", "top_k"]


def _toy_flow() -> ConditionalFlow:
    config = FlowConfig(6, (3,), embedding_dim=4, hidden_dim=16, hidden_depth=0, blocks=2, condition_shift=True)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        labels = torch.eye(3, dtype=torch.float64)[torch.arange(60) % 3]
        latent = torch.randn(60, 6, dtype=torch.float64) + labels @ torch.randn(3, 6, dtype=torch.float64)
        flow.fit_shift(latent, labels)
        flow(latent, labels)
    return flow.eval()


def _one_hot(flow: ConditionalFlow, label: int, count: int) -> Tensor:
    return torch.eye(flow.config.condition_shape[0], dtype=torch.float64)[label].expand(count, -1)


def _right_change(flow: ConditionalFlow, latent: Tensor, own: Tensor, other: Tensor) -> Tensor:
    v, _ = flow(latent, own)
    return flow.inverse(v, other)


@exercise(
    solution=_right_change,
    stub=lambda flow, latent, own, other: latent,
    wrong=(
        lambda flow, latent, own, other: _right_change(flow, latent, other, own),
        lambda flow, latent, own, other: flow.inverse(latent, other),
        lambda flow, latent, own, other: flow.inverse(torch.zeros_like(latent), other),
        lambda flow, latent, own, other: flow(latent, own)[0],
    ),
)
def change_label(answer: Callable[[ConditionalFlow, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: the latent of the same content under another label, ``(flow, latent, own, other)``."""
    flow = _toy_flow()
    latent = torch.randn(5, 6, dtype=torch.float64)
    own, other = _one_hot(flow, 0, 5), _one_hot(flow, 2, 5)
    with torch.no_grad():
        moved = answer(flow, latent, own, other)
        require(
            isinstance(moved, Tensor) and moved.shape == latent.shape,
            "the result should be latents, one for each latent given",
            "flow(...) returns two things; the second is not needed here",
        )
        require(not torch.allclose(moved, latent), "the latents have not changed", "write with the other label")
        kept = flow(moved, other)[0] - flow(latent, own)[0]
        require(
            kept.abs().max() < 1e-8,
            "the residual under the new label is not the one under the old label",
            "first the direction that was trained, with `own`; then the inverse, with `other`",
        )
        require(
            torch.allclose(answer(flow, moved, other, own), latent),
            "translating there and back does not return the latent",
            "nothing may be lost: no noise, no rounding",
        )
    return passed("same residual, other label, and back again without loss")


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
    """Exercise 2: retrieval of the true counterpart, ``(queries, gallery, k) -> share``; row i belongs to row i."""
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


def _right_partners(first: Tensor, second: Tensor) -> Tensor:
    distance = torch.cdist(first - first.mean(0), second - second.mean(0))
    there, back = distance.argmin(1), distance.argmin(0)
    chosen = (back[there] == torch.arange(len(first))).nonzero()[:, 0]
    return torch.stack([chosen, there[chosen]], 1)


@exercise(
    solution=_right_partners,
    stub=lambda first, second: torch.zeros(0, 2, dtype=torch.int64),
    wrong=(
        lambda first, second: torch.stack(
            [torch.arange(len(first)), torch.cdist(first - first.mean(0), second - second.mean(0)).argmin(1)], 1
        ),
        lambda first, second: _right_partners(first, second)[:, [1, 0]],
        lambda first, second: _right_partners(torch.cat([first, first[:1] * 0]), second)[:1],
        lambda first, second: torch.stack([torch.arange(len(first))] * 2, 1),
    ),
)
def partners(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 3: mutual nearest neighbours of two domains, ``(first, second) -> (P, 2)``, means laid on each other."""
    content = 3 * torch.randn(30, 5)
    order = torch.randperm(24)
    first, second = content, content[order] + 0.5 * torch.randn(24, 5) + 10.0
    found = answer(first, second)
    require(
        isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] == 2 and len(found),
        "the result should hold positions, one row (position in first, position in second) for each pair",
        "torch.stack([i, j], 1)",
    )
    require(
        {tuple(row) for row in found.tolist()} == {tuple(row) for row in _right_partners(first, second).tolist()},
        "these are not the pairs of which each is the other's nearest",
        "subtract each domain's mean; then argmin along rows and along columns must agree",
    )
    return passed(f"{len(found)} mutual neighbours, found without a single label of content")


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
    """Exercise 4: one attribute of joined one-hots set to a value, ``(condition, block, value)``."""
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
