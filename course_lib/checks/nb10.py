"""Checks of notebook 10, "Freezing the low-level layers": the ceiling, the recomposed GAN, the tighter bound."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.exercise import CheckResult, exercise, passed, require
from course_lib.mind2mind.bound import wasserstein

__all__ = ["ceiling", "recompose", "tighter_bound"]

Map = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], float]


@exercise
def ceiling(answer: Callable[[Map, Map, Tensor, Tensor, Distance], float]) -> CheckResult:
    """Exercise 1: what a perfect g₀ would score, ``(encode, decode, train, unseen, distance) -> float``."""
    train, unseen = torch.randn(40, 6), torch.randn(40, 6)

    def distance(a: Tensor, b: Tensor) -> float:
        require(a.shape[1] == b.shape[1] == 6, "the distance is between codes", "it is pictures that are compared")
        return wasserstein(a, b)

    kept = torch.linalg.qr(torch.randn(6, 6))[0]
    for count in (6, 3, 1):
        basis = kept[:, :count]
        found = float(answer(lambda x, b=basis: x @ b, lambda h, b=basis: h @ b.T, train, unseen, distance))
        wanted = wasserstein(unseen, train @ basis @ basis.T)
        require(
            abs(found - wanted) < 1e-4,
            f"with codes of {count} numbers the ceiling is {wanted:.3f}, not {found:.3f}",
            "a perfect generator draws codes of the training law: decode the codes of training pictures, and compare "
            "them with the unseen ones",
        )
    return passed("with six numbers of six only the chance of the draw is left, with fewer the decoder's loss as well")


@exercise
def recompose(answer: type) -> CheckResult:
    """Exercise 2: the recomposed GAN, a class with ``draw(z, truncation)``, ``score(images)``, ``best(z, count)``."""
    into, back = torch.randn(8, 4), torch.randn(4, 8)
    weight, slope, codes = torch.randn(3, 4), torch.randn(4), torch.randn(20, 4) + 2
    z, mean, images = torch.rand(30, 3) * 2 - 1, codes.mean(0), torch.randn(5, 8)
    mine = answer(lambda z: (z @ weight).tanh(), lambda h: h @ slope, lambda x: x @ into, lambda h: h @ back, codes)

    def drawn(truncation: float) -> Tensor:
        return (mean + truncation * ((z @ weight).tanh() - mean)) @ back

    missing = [name for name in ("draw", "score", "best") if not hasattr(mine, name)]
    require(not missing, f"the class lacks {', '.join(missing)}", "write the three methods that the text names")
    require(
        torch.allclose(mine.draw(z, 1.0), drawn(1.0), atol=1e-5),
        "draw(z, 1) is not g₁(g₀(z))",
        "noise → generator → decode",
    )
    require(
        torch.allclose(mine.draw(z, 0.0), drawn(0.0), atol=1e-5),
        "draw(z, 0) is not the picture of the mean code",
        "mean + truncation · (g₀(z) − mean), and only then decode",
    )
    require(
        torch.allclose(mine.draw(z, 0.5), drawn(0.5), atol=1e-5),
        "with truncation 0.5 codes are not half way to the mean",
        "mean + truncation · (g₀(z) − mean)",
    )
    require(
        torch.allclose(mine.score(images), images @ into @ slope, atol=1e-4),
        "score(images) is not c₀(c₁(x))",
        "encode the pictures, then ask the critic",
    )
    best = drawn(1.0)[(drawn(1.0) @ into @ slope).argsort(descending=True)[:4]]
    require(
        torch.allclose(mine.best(z, 4), best, atol=1e-5),
        "best(z, 4) are not the four pictures with the highest scores, best first",
        "draw all, score the *pictures*, argsort(descending=True)",
    )
    return passed("noise → code → picture, and picture → code → score")


@exercise
def tighter_bound(answer: Callable[..., float]) -> CheckResult:
    """Exercise 3: the bound without a detour, ``(target, codes, found, decode, distance) -> float``."""
    basis = torch.linalg.qr(torch.randn(6, 3))[0]
    for scale in (0.5, 1.0, 4.0):
        target, found = torch.randn(30, 6) @ torch.diag(torch.linspace(0.2, 2, 6)), torch.randn(30, 3) + 1
        codes = target @ basis / scale

        def decode(h: Tensor, scale: float = scale) -> Tensor:
            return scale * (h + 0.3 * h.tanh()) @ basis.T

        value = float(answer(target, codes, found, decode, wasserstein))
        truth = wasserstein(target, decode(found))
        stretch = torch.cdist(decode(codes), decode(found)) / torch.cdist(codes, found)
        wanted = wasserstein(target, decode(codes)) + float(stretch.max()) * wasserstein(codes, found)
        require(
            value >= truth - 1e-6,
            f"this is no bound: it says {value:.3f}, and the distance is {truth:.3f}",
            "a decoder may stretch distances between codes: multiply by its largest stretch",
        )
        require(
            abs(value - wanted) < 1e-3 * wanted,
            f"the bound is {value:.3f} and should be {wanted:.3f}",
            "W(target, decode(codes)) + L · W(codes, found), L the largest ‖g(a) − g(b)‖ / ‖a − b‖ of all pairs",
        )
    return passed("it holds, and it needs no source data")
