"""Checks of notebooks 07 to 10, transferred generators: each asks for a property, so any correct code passes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.checks.exercise import close, exercise, require, require_close, require_shape
from course_lib.evaluation.distances import gaussian_mmd
from course_lib.hypermod.generator import standardise_kernels
from course_lib.hypermod.training import barlow_twins
from course_lib.mind2mind.bound import wasserstein

Map = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], float]


def _trained(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# --- 07: a generator to reuse -----------------------------------------------------------------------------------------


@exercise("nb07")
def mixed(answer: Callable[[Tensor, Tensor, Tensor, float, int, int], Tensor]) -> str:
    """Exercise 1: truncation and mixing, ``(first, second, mean, psi, cut, blocks) -> (B, blocks, latent)``."""
    first, second, mean = torch.randn(3, 5), torch.randn(3, 5), torch.randn(1, 5)
    for psi, cut, message, hint in (
        (1.0, 2, "with psi = 1 blocks do not have the given styles", "blocks from number cut on take the second style"),
        (0.0, 1, "with psi = 0 every style should be the mean style", "mean + psi · (w − mean), for both styles"),
        (0.7, 3, "with psi = 0.7 the distance to the mean is not 0.7 of what it was", "mean + psi · (w − mean)"),
    ):
        wanted = torch.stack([mean + psi * ((first if block < cut else second) - mean) for block in range(4)], 1)
        require_close(answer(first, second, mean, psi, cut, 4), wanted, message, hint)
    return "both styles are pulled to the mean, and the cut is where it should be"


@exercise("nb07")
def standardised(answer: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]) -> str:
    """Exercise 2: ``(O, I, k, k) -> taps (O, I, k, k), mean (O, I), deviation (O, I)``, equal taps included."""
    weight = 2 * torch.randn(4, 3, 3, 3) + torch.randn(4, 3, 1, 1)
    taps, mean, deviation = answer(weight.clone())
    for found, shape in ((taps, weight.shape), (mean, (4, 3)), (deviation, (4, 3))):
        require_shape(found, shape, "every pair of channels has its own numbers: reduce the two last dimensions only")
    hint = "every (output, input) slice by itself, not the whole filter"
    require(taps.mean((-1, -2)).abs().max() < 1e-5, "the nine taps of a kernel do not have mean 0", hint)
    message = "the nine taps of a kernel do not have the unbiased deviation 1"
    hint = "divide by the root of the sum of squares over 8, which is what std() does by default"
    require((taps.flatten(-2).std(-1) - 1).abs().max() < 1e-4, message, hint)
    back = taps * deviation[..., None, None] + mean[..., None, None]
    require_close(back, weight, "taps · deviation + mean does not give the weight back")
    weight[1, 2] = 0.5
    taps, mean, deviation = answer(weight.clone())
    flat = taps.isfinite().all() and not taps[1, 2].any() and deviation[1, 2] == 0
    require(flat, "nine equal taps should become zeros, with deviation 0", "divide by 1 there")
    return "mean 0, unbiased deviation 1, the weight comes back, and a flat kernel does no harm"


@exercise("nb07")
def modulated(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]) -> str:
    """Exercise 3: a kernel a picture, ``(x, taps, gain, shift, scale) -> (B, O, H, W)``, γ and β ``(B, O, I)``."""
    x, taps = torch.randn(3, 4, 6, 6), torch.randn(5, 4, 3, 3)
    gain, shift = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    found = answer(x, taps, gain, shift, 0.5)
    hint = "put the batch into the channels, (1, B·I, H, W), convolve with groups=B, and view the result"
    require_shape(found, (3, 5, 6, 6), hint)
    kernels = 0.5 * (gain[..., None, None] * taps + shift[..., None, None])
    wanted = torch.stack([F.conv2d(one, kernel, padding=1) for one, kernel in zip(x, kernels, strict=True)])
    hint = "the scale stands before the bracket, β is added to all nine taps, and every picture is one group"
    require_close(found, wanted, "a picture is not convolved with scale · (γ W + β) of its own γ and β", hint, 1e-4)
    return "every picture meets its own kernel, in one convolution"


@exercise("nb07")
def start(answer: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor, Tensor]]) -> str:
    """Exercise 4: γ, β, δ of the source, ``(weight, bias, factor, scale) -> (O, I), (O, I), (O,)``."""
    weight, bias = torch.randn(5, 4, 3, 3), 0.3 * torch.randn(5) + 0.1
    taps, standard = standardise_kernels(weight)[0], (bias - bias.mean()) / bias.std()
    for factor, scale in ((0.25, 0.25), (0.25, 0.5)):
        gain, shift, offset = answer(weight, bias, factor, scale)
        for found, shape in ((gain, (5, 4)), (shift, (5, 4)), (offset, (5,))):
            require_shape(found, shape, "γ and β should have the shape (O, I), δ the shape (O,)")
        kernel = scale * (gain[..., None, None] * taps + shift[..., None, None])
        message = f"with factor {factor} and scale {scale}, scale · (γ W + β) is not the kernel factor · weight"
        hint = "take mean and deviation of factor · weight, and divide both by the scale of the modulated layer"
        require_close(kernel, factor * weight, message, hint)
        hint = "δ is what standardising took away: bias − (bias − mean) / deviation"
        require_close(standard + offset, bias, "the standardised bias plus δ is not the source's bias", hint)
    return "kernel and bias of the source come back, whatever the scale of the modulated layer"


# --- 08: from unconditional to conditional ----------------------------------------------------------------------------


@exercise("nb08")
def own_score(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Exercise 1: the score of the own class, ``(scores (B, C), labels (B,)) -> (B,)``."""
    scores, labels = torch.randn(6, 4), torch.tensor([3, 0, 2, 2, 1, 0])
    found = answer(scores, labels)
    require_shape(found, (6,), "(B, 1) against (B,) broadcasts to (B, B) in a loss without any error")
    hint = "gather along dimension 1, with the labels as (B, 1)"
    require_close(found, scores[range(6), labels], "a picture does not get the score of its own label", hint)
    return "one score a picture, that of its own class"


@exercise("nb08")
def twins(answer: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Exercise 2: Barlow Twins, ``(first (N, F), second (N, F), weight) -> loss``."""
    first = 3 * torch.randn(16, 5) + 1
    second = first + torch.randn(16, 5)
    ways = torch.linalg.qr(torch.randn(64, 5) - torch.randn(64, 5).mean(0)).Q
    decorrelated = 8 * (ways - ways.mean(0))
    for weight in (0.0, 0.5):
        found, wanted = float(answer(first, second, weight)), float(barlow_twins(first, second, weight))
        message = f"with weight {weight} the loss of two given views is {found:.4g} and should be {wanted:.4g}"
        hint = "standardise each view over the batch; C = Z₁ᵀ Z₂ / N is F × F; (1 − C_ii)² and weight · C_ij² for i ≠ j"
        require(abs(found - wanted) < 1e-3 * max(1.0, abs(wanted)), message, hint)
    cost, hint = float(answer(decorrelated, decorrelated, 0.005)), "only the parts off the diagonal are pushed to zero"
    require(abs(cost) < 0.01, "equal views with uncorrelated features should cost nearly nothing", hint)
    return "equal views pull the diagonal to one, and different features are decorrelated"


@exercise("nb08")
def low_rank(answer: Callable[[Tensor, Tensor, int, int], nn.Module]) -> str:
    """Exercise 3: a head of low rank, ``(gain (O, I), shift (O, I), width, rank) -> module``; see the notebook."""
    gain, shift, u = torch.rand(12, 10) + 0.5, torch.randn(12, 10), torch.randn(3, 5)
    head = answer(gain, shift, 5, 2)
    found = torch.stack(tuple(head(u)))
    require_shape(found, (2, 3, 12, 10), "head(u) should give γ and β, each (N, O, I)")
    message = "an untrained head does not give the source's γ and β for every class vector"
    hint = "start with one of the two thin factors at zero (weights and biases): then their product is zero"
    require_close(found, torch.stack([gain, shift])[:, None].expand(-1, 3, -1, -1), message, hint)
    free = _trained(head)
    message = f"the head has {free} parameters; of rank 2 it needs no more than 2 · 2 · (O + I) · (width + 1) = 528"
    hint = "two linear layers: u → 2 · O · rank numbers and u → 2 · rank · I numbers"
    require(free <= 2 * 2 * (12 + 10) * (5 + 1), message, hint)
    if found.requires_grad:
        (found * torch.randn(3, 12, 10)).sum().backward()
    learns = any(p.grad is not None and p.grad.any() for p in head.parameters())
    hint = "with both factors at zero each gradient is a product with zero: leave one of them random"
    require(learns, "no parameter has a gradient at the start, so the head never learns", hint)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
        gains, shifts = head(u)
    hint = "γ = S · (1 + left @ right / rank) and β = M + S · (left' @ right' / rank)"
    for name, moved in (("γ / S − 1", gains / gain - 1), ("(β − M) / S", (shifts - shift) / gain)):
        first, second, third = torch.linalg.svdvals(moved)[:, :3].T
        rank_two = (third < 1e-3 * first).all() and (second > 1e-3 * first).all()
        require(rank_two, f"{name} of a trained head should be a matrix of rank 2 for every class", hint)
    require(not close(gains[0], gains[1], 1e-3), "two class vectors give the same γ", "both factors depend on u")
    return "it starts at the source, it can learn, and every class moves its kernels by a matrix of low rank"


# --- 09: propagating batch norm ---------------------------------------------------------------------------------------


@exercise("nb09")
def propagation_layer(answer: Callable[[Tensor, Tensor], nn.Module]) -> str:
    """Exercise 1: a module ``(table (N_o, C), mixtures (N_n, N_o))`` that maps class weights ``(B, N_n)`` to offsets.
    It begins at the mixtures, all of it trains, and training does not touch ``table``."""
    table, classes, mixtures = torch.randn(7, 5), torch.eye(3), torch.randn(3, 7)
    kept, one_hot = table.clone(), torch.eye(7)[[4, 0, 4]]
    message = "a one-hot mixture does not give the offsets of that old class at the start"
    hint = "no softmax: weights are used as they are; the residual and a0 begin at zero"
    require_close(answer(table, one_hot)(classes), table[[4, 0, 4]], message, hint)
    layer, weights = answer(table, mixtures), torch.cat([classes, torch.full((1, 3), 0.5)])
    message = "mixtures that do not sum to 1 do not give the weighted sum of old offsets"
    require_close(layer(weights), weights @ mixtures @ table, message, "P (A e + a0) + R e is linear in e and in A")
    numbers, wanted = _trained(layer), 7 * 3 + 7 + 5 * 7 + 5 * 3
    parts = "A (N_o, N_n), a0 (N_o), P (C, N_o) and R (C, N_n), all of them nn.Parameter"
    require(numbers == wanted, f"{numbers} numbers train instead of {wanted}", parts)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    layer(classes)[1].sum().backward()
    optimizer.step()
    hint = "a transpose is a view into the same memory: clone it"
    require_close(table, kept, "a training step has rewritten the old classes", hint)
    target, layer = torch.randn(3, 5), answer(torch.zeros(7, 5), torch.zeros(3, 7))
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(classes) - target).square().sum().backward()
        optimizer.step()
    message, hint = "three classes that borrow nothing cannot learn offsets of their own", "add R e, their residual"
    require_close(layer(classes), target, message, hint, 0.05)
    return "old classes come back exactly, mixtures add up, residuals learn, and the old table is untouched"


@exercise("nb09")
def parameters_per_class(answer: Callable[[int, Sequence[int]], tuple[int, int]]) -> str:
    """Exercise 2: numbers that each further class adds, ``(old, widths) -> (with propagation, free γ and β)``."""
    mixing, free = answer(3, [4])
    require(free == 8, "one layer of 4 channels has not 8 free numbers a class", "one γ and one β a channel")
    hint = "two sets of mixing weights over the old classes, and a residual of γ and of β"
    require(mixing == 14, "one layer of 4 channels and 3 old classes has not 14 numbers a class", hint)
    wide = [1536, 1536, 1536, 768, 768, 384, 384, 192, 192, 96]
    for old, widths, expected in ((80, [256] * 6, (4032, 3072)), (1000, wide, (34784, 14784))):
        message = f"{old} old classes and {len(widths)} layers are not counted as published"
        require(tuple(answer(old, widths)) == expected, message, "every layer has weights of its own")
    return "4,032 numbers a class for the published CIFAR network, 34,784 for the ImageNet one"


@exercise("nb09")
def kmmd(answer: Callable[[Tensor, Tensor], float]) -> str:
    """Exercise 3: KMMD with a Gaussian kernel, ``(real, fake) -> distance``, features ``(N, F)`` and ``(M, F)``."""
    real = torch.randn(40, 6, dtype=torch.float64)
    none = abs(float(answer(real, real.flip(0)))) < 1e-6
    require(none, "a set and itself in another order are not at distance 0", "compare all pairs, not row with row")
    fake = 1.5 * torch.randn(50, 6, dtype=torch.float64) + 0.3
    value, expected = float(answer(real, fake)), gaussian_mmd(real, fake)
    require(abs(value - expected**2) > 1e-4 * expected, "this is the squared distance", "take the root at the end")
    hint = "the width is the mean squared distance among the real rows alone, zeros of the diagonal included"
    require(abs(value - expected) < 1e-6, "the distance of two normal samples is not that of the definition", hint)
    same = abs(float(answer(10 * real, 10 * fake)) - expected) < 1e-6
    require(same, "features in other units change the distance", "the width has to follow the real features")
    return "zero for equal sets, the value of the definition otherwise, whatever the unit of the features"


# --- 10: freezing the low-level layers --------------------------------------------------------------------------------


@exercise("nb10")
def ceiling(answer: Callable[[Map, Map, Tensor, Tensor, Distance], float]) -> str:
    """Exercise 1: what a perfect g₀ would score, ``(encode, decode, train, unseen, distance) -> float``."""
    train, unseen, kept = torch.randn(40, 6), torch.randn(40, 6), torch.linalg.qr(torch.randn(6, 6))[0]

    def distance(a: Tensor, b: Tensor) -> float:
        require(a.shape[1] == b.shape[1] == 6, "the distance is between codes", "it is pictures that are compared")
        return wasserstein(a, b)

    for count in (6, 3, 1):
        basis = kept[:, :count]
        found = float(answer(lambda x, b=basis: x @ b, lambda h, b=basis: h @ b.T, train, unseen, distance))
        wanted = wasserstein(unseen, train @ basis @ basis.T)
        message = f"with codes of {count} numbers the ceiling is {wanted:.3f}, not {found:.3f}"
        hint = "decode the codes of training pictures, as a perfect generator draws them, and compare with unseen ones"
        require(abs(found - wanted) < 1e-4, message, hint)
    return "with six numbers of six only the chance of the draw is left, with fewer the decoder's loss as well"


@exercise("nb10")
def recompose(answer: type) -> str:
    """Exercise 2: the recomposed GAN, a class with ``draw(z, truncation)``, ``score(images)``, ``best(z, count)``."""
    into, back = torch.randn(8, 4), torch.randn(4, 8)
    weight, slope, codes = torch.randn(3, 4), torch.randn(4), torch.randn(20, 4) + 2
    z, mean, images = torch.rand(30, 3) * 2 - 1, codes.mean(0), torch.randn(5, 8)
    mine = answer(lambda z: (z @ weight).tanh(), lambda h: h @ slope, lambda x: x @ into, lambda h: h @ back, codes)
    pull = "mean + truncation · (g₀(z) − mean)"
    for truncation, message, hint in (
        (1.0, "draw(z, 1) is not g₁(g₀(z))", "noise → generator → decode"),
        (0.0, "draw(z, 0) is not the picture of the mean code", f"{pull}, and only then decode"),
        (0.5, "with truncation 0.5 codes are not half way to the mean", pull),
    ):
        wanted = (mean + truncation * ((z @ weight).tanh() - mean)) @ back
        require_close(mine.draw(z, truncation), wanted, message, hint)
    hint = "encode the pictures, then ask the critic"
    require_close(mine.score(images), images @ into @ slope, "score(images) is not c₀(c₁(x))", hint, 1e-4)
    drawn = (z @ weight).tanh() @ back
    best = drawn[(drawn @ into @ slope).argsort(descending=True)[:4]]
    hint = "draw all, score the *pictures*, argsort(descending=True)"
    require_close(mine.best(z, 4), best, "best(z, 4) are not the pictures with the highest scores, best first", hint)
    return "noise → code → picture, and picture → code → score"


@exercise("nb10")
def tighter_bound(answer: Callable[..., float]) -> str:
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
        hint = "a decoder may stretch distances between codes: multiply by its largest stretch"
        require(value >= truth - 1e-6, f"this is no bound: it says {value:.3f}, and the distance is {truth:.3f}", hint)
        hint = "W(target, decode(codes)) + L · W(codes, found), L the largest ‖g(a) − g(b)‖ / ‖a − b‖ of all pairs"
        require(abs(value - wanted) < 1e-3 * wanted, f"the bound is {value:.3f} and should be {wanted:.3f}", hint)
    return "it holds, and it needs no source data"
