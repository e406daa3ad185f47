"""Checks of notebook 04, "Text to image": the flow's target, same residuals, the caption stage, R-precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib import cinn
from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.checks.toys import toy_flow

__all__ = ["caption", "dequantised_target", "r_precision", "same_residual"]


def _noisy(embedding: Tensor) -> Tensor:
    """A stand-in for a dequantiser: random neighbours."""
    return embedding + 0.1 * torch.randn(embedding.shape, dtype=embedding.dtype)


def _right_target(z: Tensor, embedding: Tensor, render: Callable, dequantise: Callable) -> tuple[Tensor, Tensor]:
    return torch.cat([z, dequantise(embedding)], 1), render(z, embedding)


def _picture_of_noisy(z: Tensor, embedding: Tensor, render: Callable, dequantise: Callable) -> tuple[Tensor, Tensor]:
    moved = dequantise(embedding)
    return torch.cat([z, moved], 1), render(z, moved)


@exercise(
    solution=_right_target,
    stub=lambda z, embedding, render, dequantise: (z, render(z, embedding)),
    wrong=(
        _picture_of_noisy,
        lambda z, embedding, render, dequantise: (torch.cat([z, embedding], 1), render(z, embedding)),
        lambda z, embedding, render, dequantise: (torch.cat([dequantise(embedding), z], 1), render(z, embedding)),
        lambda z, embedding, render, dequantise: (dequantise(torch.cat([z, embedding], 1)), render(z, embedding)),
    ),
)
def dequantised_target(answer: Callable[[Tensor, Tensor, Callable, Callable], tuple[Tensor, Tensor]]) -> CheckResult:
    """Exercise 1: a training item for BigGAN, ``(z, embedding, render, dequantise) -> (target, picture)``."""
    z = torch.randn(12, 5, dtype=torch.float64)
    embedding = torch.randn(12, 3, dtype=torch.float64)

    def render(noise: Tensor, given: Tensor) -> Tensor:
        return torch.cat([noise.sum(1, keepdim=True), given], 1)

    target, picture = answer(z, embedding, render, _noisy)
    require(
        isinstance(target, Tensor) and target.shape == (12, 8),
        "the target should be noise and embedding side by side, one row for each sample",
        "torch.cat along dimension 1",
    )
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


def _right_same(flow: cinn.ConditionalFlow, condition: Tensor, v: Tensor) -> Tensor:
    many = condition.repeat_interleave(len(v), 0)
    return flow.inverse(v.repeat(len(condition), 1), many).view(len(condition), len(v), -1)


@exercise(
    solution=_right_same,
    stub=lambda flow, condition, v: v.expand(len(condition), *v.shape),
    wrong=(
        lambda flow, condition, v: flow.inverse(
            v.repeat_interleave(len(condition), 0), condition.repeat_interleave(len(v), 0)
        ).view(len(condition), len(v), -1),
        lambda flow, condition, v: _right_same(flow, condition, torch.randn_like(v)),
        lambda flow, condition, v: _right_same(flow, condition[:1].expand_as(condition), v),
    ),
)
def same_residual(answer: Callable[[cinn.ConditionalFlow, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 2: every sentence under every residual, ``(flow, condition, v) -> (sentences, samples, D)``."""
    flow = toy_flow()
    condition, v = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        latent = answer(flow, condition, v)
        require(
            isinstance(latent, Tensor) and latent.shape == (4, 5, 4),
            "the result should have the shape (sentences, samples, D)",
            "20 latents in one pass, and view() at the end",
        )
        for i in range(4):
            found = flow.encode(latent[i], condition[i].expand(5, 3))
            require(
                torch.allclose(found, v, atol=1e-8),
                "under its own sentence a latent does not have the residual of its column",
                "repeat_interleave the sentences and repeat the residuals, not the other way round",
            )
    return passed("row by sentence, column by residual")


def _right_caption(features: Tensor, keys: Tensor, captions: list[list[str]], pick: Tensor) -> list[str]:
    a, b = features - keys.mean(0), keys - keys.mean(0)
    best = (torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T).argmax(1)
    return [captions[i][int(p) % len(captions[i])] for i, p in zip(best.tolist(), pick, strict=True)]


def _wrong_dot(features: Tensor, keys: Tensor, captions: list[list[str]], pick: Tensor) -> list[str]:
    best = (features @ keys.T).argmax(1)
    return [captions[i][int(p) % len(captions[i])] for i, p in zip(best.tolist(), pick, strict=True)]


def _wrong_first(features: Tensor, keys: Tensor, captions: list[list[str]], pick: Tensor) -> list[str]:
    return _right_caption(features, keys, captions, torch.zeros_like(pick))


@exercise(
    solution=_right_caption,
    stub=lambda features, keys, captions, pick: [captions[0][0]] * len(features),
    wrong=(
        _wrong_dot,
        _wrong_first,
        lambda features, keys, captions, pick: _right_caption(-features, keys, captions, pick),
    ),
)
def caption(answer: Callable[[Tensor, Tensor, list[list[str]], Tensor], list[str]]) -> CheckResult:
    """Exercise 3: a caption stage, ``(features, keys, captions, pick) -> captions``."""
    directions = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    # Features of different lengths around a common mean: rectified features look like this.
    keys = directions * torch.linspace(1, 6, 6, dtype=torch.float64)[:, None] + 20
    captions = [[f"thing {i}, caption {k}" for k in range(2 + i % 3)] for i in range(6)]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    features = keys.mean(0) + 0.5 * (keys[order] - keys.mean(0))
    pick = torch.tensor([0, 1, 3, 2, 5, 1])
    found = answer(features, keys, captions, pick)
    require(
        isinstance(found, list) and len(found) == 6 and all(isinstance(text, str) for text in found),
        "the result should be a list with one caption for each picture",
    )
    right = [captions[i][int(p) % len(captions[i])] for i, p in zip(order.tolist(), pick, strict=True)]
    things = [text.partition(",")[0] for text in found]
    require(
        things == [text.partition(",")[0] for text in right],
        "some picture gets the caption of another thing than the one in whose direction its features point",
        "subtract the mean of the keys from both and compare directions (cosine), not raw products",
    )
    require(found == right, "the thing is right, the caption is not number `pick`", "pick, modulo how many there are")
    return passed("every picture gets the chosen caption of its nearest thing")


def _right_precision(queries: Tensor, gallery: Tensor, own: Tensor, distractors: Tensor) -> float:
    normal = torch.nn.functional.normalize
    similarity = normal(queries, dim=1) @ normal(gallery, dim=1).T
    right = similarity.gather(1, own[:, None])
    return float((right > similarity.gather(1, distractors)).all(1).double().mean())


@exercise(
    solution=_right_precision,
    stub=lambda queries, gallery, own, distractors: 0.0,
    wrong=(
        lambda queries, gallery, own, distractors: float(
            (queries @ gallery.T)
            .gather(1, own[:, None])
            .gt((queries @ gallery.T).gather(1, distractors))
            .all(1)
            .double()
            .mean()
        ),
        lambda queries, gallery, own, distractors: float(
            (torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T)
            .argmax(1)
            .eq(own)
            .double()
            .mean()
        ),
        lambda queries, gallery, own, distractors: float(
            torch.nn.functional.cosine_similarity(queries, gallery[own])[:, None]
            .gt(torch.nn.functional.cosine_similarity(queries[:, None], gallery[distractors], dim=2))
            .double()
            .mean()
        ),
    ),
)
def r_precision(answer: Callable[[Tensor, Tensor, Tensor, Tensor], float]) -> CheckResult:
    """Exercise 4: ``(queries, gallery, own, distractors) -> share``; distractors are ``(Q, n)`` gallery positions."""
    gallery = torch.randn(60, 8, dtype=torch.float64) * torch.linspace(0.2, 5, 60, dtype=torch.float64)[:, None]
    own = torch.arange(40)
    queries = gallery[own] + 1.2 * gallery[own].norm(dim=1, keepdim=True) / 8**0.5 * torch.randn(40, 8).double()
    distractors = torch.stack([torch.randperm(59)[:9] for _ in range(40)])
    distractors += (distractors >= own[:, None]).long()
    require(
        abs(float(answer(gallery[own], gallery, own, distractors)) - 1) < 1e-9,
        "pictures that are their own gallery entries do not score 1",
        "compare directions: entries with large embeddings must not win by their length",
    )
    require(
        abs(float(answer(queries, gallery, own, distractors)) - _right_precision(queries, gallery, own, distractors))
        < 1e-9,
        "for noisy pictures the share is not right",
        "a query counts when its own entry is more similar than each of its distractors; nothing else competes",
    )
    return passed("the right picture has to beat all of its distractors, and nothing but its distractors")
