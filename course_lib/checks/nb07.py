"""Checks of notebook 07, "A generator to reuse": mixed styles, standardised and modulated kernels, an exact start."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape

__all__ = ["mixed", "modulated", "standardised", "start"]


@exercise
def mixed(answer: Callable[[Tensor, Tensor, Tensor, float, int, int], Tensor]) -> CheckResult:
    """Exercise 1: truncation and mixing, ``(first, second, mean, psi, cut, blocks) -> (B, blocks, latent)``."""
    first, second, mean = torch.randn(3, 5), torch.randn(3, 5), torch.randn(1, 5)
    whole = answer(first, second, mean, 1.0, 2, 4)
    require_shape(whole, (3, 4, 5), "stack one style for each block along dimension 1")
    require(
        all(torch.allclose(whole[:, k], first if k < 2 else second, atol=1e-6) for k in range(4)),
        "with psi = 1 and cut = 2, blocks 0 and 1 should have the first style and blocks 2 and 3 the second",
        "blocks from number cut on take the second style",
    )
    none = answer(first, second, mean, 0.0, 1, 4)
    require(
        torch.allclose(none, mean[:, None].expand(3, 4, 5), atol=1e-6),
        "with psi = 0 every style should be the mean style",
        "truncation goes from the mean towards w, psi of the way, for both styles",
    )
    part = answer(first, second, mean, 0.7, 3, 4)
    require(
        torch.allclose(part[:, 0] - mean, 0.7 * (first - mean), atol=1e-5)
        and torch.allclose(part[:, 3] - mean, 0.7 * (second - mean), atol=1e-5),
        "with psi = 0.7 the distance to the mean is not 0.7 of what it was",
        "mean + psi · (w − mean)",
    )
    return passed("both styles are pulled to the mean, and the cut is where it should be")


def _right_standardised(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, deviation = weight.mean((-1, -2)), weight.flatten(-2).std(-1)
    safe = torch.where(deviation > 0, deviation, 1.0)
    return (weight - mean[..., None, None]) / safe[..., None, None], mean, deviation


@exercise
def standardised(answer: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]) -> CheckResult:
    """Exercise 2: ``(O, I, k, k) -> taps (O, I, k, k), mean (O, I), deviation (O, I)``, equal taps included."""
    weight = 2 * torch.randn(4, 3, 3, 3) + torch.randn(4, 3, 1, 1)
    taps, mean, deviation = answer(weight.clone())
    for found, shape in ((taps, weight.shape), (mean, (4, 3)), (deviation, (4, 3))):
        require_shape(found, shape, "every pair of channels has its own numbers: reduce the two last dimensions only")
    require(
        taps.mean((-1, -2)).abs().max() < 1e-5,
        "the nine taps of a kernel do not have mean 0",
        "every (output, input) slice by itself, not the whole filter",
    )
    require(
        (taps.flatten(-2).std(-1) - 1).abs().max() < 1e-4,
        "the nine taps of a kernel do not have the unbiased deviation 1",
        "divide by the root of the sum of squares over 8, which is what std() does by default",
    )
    back = taps * deviation[..., None, None] + mean[..., None, None]
    require(torch.allclose(back, weight, atol=1e-5), "taps · deviation + mean does not give the weight back")
    weight[1, 2] = 0.5
    taps, mean, deviation = answer(weight.clone())
    require(
        taps.isfinite().all(),
        "a kernel of nine equal taps gives values that are not finite",
        "its deviation is 0: divide by 1 there",
    )
    require(not taps[1, 2].any() and deviation[1, 2] == 0, "nine equal taps should become zeros, with deviation 0")
    return passed("mean 0, unbiased deviation 1, the weight comes back, and a flat kernel does no harm")


@exercise
def modulated(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> CheckResult:
    """Exercise 3: a kernel a picture, ``(x, taps, gain, shift, scale) -> (B, O, H, W)``, γ and β ``(B, O, I)``."""
    x, taps = torch.randn(3, 4, 6, 6), torch.randn(5, 4, 3, 3)
    gain, shift = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    found = answer(x, taps, gain, shift, 0.5)
    require_shape(
        found,
        (3, 5, 6, 6),
        "put the batch into the channels, (1, B·I, H, W), convolve with groups=B, and view the result",
    )
    for n in range(3):
        kernel = 0.5 * (gain[n, :, :, None, None] * taps + shift[n, :, :, None, None])
        require(
            torch.allclose(found[n], F.conv2d(x[n : n + 1], kernel, padding=1)[0], atol=1e-4),
            f"picture {n} is not convolved with scale · (γ W + β) of its own γ and β",
            "the scale stands before the bracket, β is added to all nine taps, and every picture is one group",
        )
    return passed("every picture meets its own kernel, in one convolution")


@exercise
def start(answer: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor, Tensor]]) -> CheckResult:
    """Exercise 4: γ, β, δ of the source, ``(weight, bias, factor, scale) -> (O, I), (O, I), (O,)``."""
    weight, bias = torch.randn(5, 4, 3, 3), 0.3 * torch.randn(5) + 0.1
    taps, standard = _right_standardised(weight)[0], (bias - bias.mean()) / bias.std()
    for factor, scale in ((0.25, 0.25), (0.25, 0.5)):
        gain, shift, offset = answer(weight, bias, factor, scale)
        for found, shape in ((gain, (5, 4)), (shift, (5, 4)), (offset, (5,))):
            require_shape(found, shape, "γ and β should have the shape (O, I), δ the shape (O,)")
        kernel = scale * (gain[..., None, None] * taps + shift[..., None, None])
        require(
            torch.allclose(kernel, factor * weight, atol=1e-5),
            f"with factor {factor} and scale {scale}, scale · (γ W + β) is not the kernel factor · weight",
            "take mean and deviation of factor · weight, and divide both by the scale of the modulated layer",
        )
        require(
            torch.allclose(standard + offset, bias, atol=1e-5),
            "the standardised bias plus δ is not the source's bias",
            "δ is what standardising took away: bias − (bias − mean) / deviation",
        )
    return passed("kernel and bias of the source come back, whatever the scale of the modulated layer")
