"""Checks of notebook 10, "Training in latent space": the penalty, the critic's loss, the ceiling, the tighter bound."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.mind2mind import bound as theorem
from course_lib.mind2mind import gradient_penalty as right_penalty

__all__ = ["ceiling", "critic_loss", "penalty", "tighter_bound"]

Map = Callable[[Tensor], Tensor]


def _gradient(critic: Map, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    between = torch.lerp(fake, real, share).detach().requires_grad_()
    return torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]


@exercise(
    solution=right_penalty,
    stub=lambda critic, real, fake, share: torch.zeros(()),
    wrong=(
        lambda critic, real, fake, share: _gradient(critic, real, fake, share).square().sum(1).mean(),
        lambda critic, real, fake, share: (_gradient(critic, real, fake, share).norm() - 1).square(),
        lambda critic, real, fake, share: (_gradient(critic, real, real, share).norm(dim=1) - 1).square().mean(),
        lambda critic, real, fake, share: right_penalty(critic, real, fake, share).detach(),
    ),
)
def penalty(answer: Callable[[Map, Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: the gradient penalty, ``(critic, real (B, D), fake (B, D), share (B, 1)) -> scalar``."""
    real, fake, share = torch.randn(6, 4), torch.randn(6, 4), torch.rand(6, 1)
    slope = torch.tensor([3.0, 0.0, 4.0, 0.0])
    for factor, wanted in ((1.0, 16.0), (0.2, 0.0), (0.0, 1.0)):
        found = float(answer(lambda h, factor=factor: factor * h @ slope, real, fake, share))
        require(
            abs(found - wanted) < 1e-3,
            f"a linear critic of slope {5 * factor:g} is charged {found:.3g} and should be charged {wanted:g}",
            "take the norm of each picture's own gradient, subtract 1, square, then average",
        )
    critic = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    found, wanted = (of(lambda h: critic(h)[:, 0], real, fake, share) for of in (answer, right_penalty))
    require(
        abs(torch.as_tensor(found).item() - wanted.item()) < 1e-5,
        "for a curved critic the penalty is another one",
        "the gradient is taken at share · real + (1 − share) · fake, one share a pair",
    )
    require(
        found.requires_grad,
        "no gradient reaches the critic",
        "torch.autograd.grad(…, create_graph=True): the penalty itself is differentiated",
    )
    return passed("slope 1 costs nothing, every other slope does, and the critic can learn from it")


def _right_loss(on_real: Tensor, on_fake: Tensor, penalty: Tensor) -> Tensor:
    return on_fake.mean() - on_real.mean() + 10 * penalty + 0.01 * on_real.square().mean()


@exercise(
    solution=_right_loss,
    stub=lambda on_real, on_fake, penalty: on_real.mean(),
    wrong=(
        lambda on_real, on_fake, penalty: _right_loss(on_fake, on_real, penalty),
        lambda on_real, on_fake, penalty: on_fake.mean() - on_real.mean() + 10 * penalty,
        lambda on_real, on_fake, penalty: (
            on_fake.mean() - on_real.mean() + 10 * penalty + 0.01 * torch.cat([on_real, on_fake]).square().mean()
        ),
        lambda on_real, on_fake, penalty: on_fake.mean() - on_real.mean() + penalty + 0.01 * on_real.square().mean(),
    ),
)
def critic_loss(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 2: what the critic minimises, ``(on_real (B,), on_fake (B,), penalty) -> scalar``."""
    zero, ones = torch.zeros(()), torch.ones(8)
    low, high = (float(answer(ones * a, ones * b, zero)) for a, b in ((1.0, -1.0), (-1.0, 1.0)))
    require(low < high, "a critic that scores real codes high should have the lower loss", "minus the distance")
    lifted = float(answer(ones * 11, ones * 9, zero)) - low
    require(
        lifted > 0.5,
        "scores can drift: all of them 10 higher cost nothing more",
        "add 0.01 times the mean square of the scores of real codes",
    )
    cases = [(torch.randn(8), torch.randn(8), torch.rand(())) for _ in range(3)]
    require(
        all(abs(float(answer(*case)) - float(_right_loss(*case))) < 1e-4 for case in cases),
        "for random scores the loss differs from the published one",
        "weights: 1 for both means, 10 for the penalty, 0.01 for the drift, which looks at real scores only",
    )
    return passed("minus the distance, plus penalty and drift")


Distance = Callable[[Tensor, Tensor], float]


@exercise(
    solution=lambda encode, decode, images, distance: distance(images, decode(encode(images))),
    stub=lambda encode, decode, images, distance: 0.0,
    wrong=(
        lambda encode, decode, images, distance: distance(images, images),
        lambda encode, decode, images, distance: distance(encode(images), encode(decode(encode(images)))),
        lambda encode, decode, images, distance: distance(
            decode(encode(images)), decode(encode(decode(encode(images))))
        ),
    ),
)
def ceiling(answer: Callable[[Map, Map, Tensor, Distance], float]) -> CheckResult:
    """Exercise 3: the best that any MindGAN can reach, ``(encode, decode, images, distance) -> float``."""
    images = torch.randn(40, 6)

    def distance(a: Tensor, b: Tensor) -> float:
        require(a.shape[1] == b.shape[1] == 6, "the distance is between codes", "it is pictures that are compared")
        return theorem.wasserstein(a, b)

    kept = torch.linalg.qr(torch.randn(6, 6))[0]
    for count in (6, 3, 1):
        basis = kept[:, :count]
        found = float(answer(lambda x, b=basis: x @ b, lambda h, b=basis: h @ b.T, images, distance))
        wanted = theorem.wasserstein(images, images @ basis @ basis.T)
        require(
            abs(found - wanted) < 1e-4,
            f"with codes of {count} numbers the ceiling is {wanted:.3f}, not {found:.3f}",
            "compare real pictures with their own reconstructions",
        )
    return passed("nothing is lost with six numbers of six, and more the fewer there are")


def _right_bound(target: Tensor, codes: Tensor, found: Tensor, decode: Map, distance: Distance) -> float:
    stretch = torch.cdist(decode(codes), decode(found)) / torch.cdist(codes, found)
    return distance(target, decode(codes)) + float(stretch.max()) * distance(codes, found)


@exercise(
    solution=_right_bound,
    stub=lambda target, codes, found, decode, distance: distance(target, decode(codes)),
    wrong=(
        lambda target, codes, found, decode, distance: distance(target, decode(codes)) + distance(codes, found),
        lambda target, codes, found, decode, distance: distance(target, decode(found)),
        lambda target, codes, found, decode, distance: (
            distance(target, decode(codes))
            + float((torch.cdist(decode(codes), decode(found)) / torch.cdist(codes, found)).mean())
            * distance(codes, found)
        ),
    ),
)
def tighter_bound(answer: Callable[..., float]) -> CheckResult:
    """Exercise 4: the bound without a detour, ``(target, codes, found, decode, distance) -> float``."""
    basis = torch.linalg.qr(torch.randn(6, 3))[0]
    for scale in (0.5, 1.0, 4.0):
        target, found = torch.randn(30, 6) @ torch.diag(torch.linspace(0.2, 2, 6)), torch.randn(30, 3) + 1
        codes = target @ basis / scale

        def decode(h: Tensor, scale: float = scale) -> Tensor:
            return scale * (h + 0.3 * h.tanh()) @ basis.T

        value = float(answer(target, codes, found, decode, theorem.wasserstein))
        truth = theorem.wasserstein(target, decode(found))
        wanted = _right_bound(target, codes, found, decode, theorem.wasserstein)
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
