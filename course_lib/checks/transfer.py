"""Checks of notebooks 07 to 12, transferred generators, choosing a method, one's own data: each asks for a property, so
any correct code passes."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.checks.exercise import close, descend, exercise, require, require_close, require_shape
from course_lib.evaluation.scores import gaussian_mmd
from course_lib.hypermod import barlow_twins, standardise_kernels
from course_lib.mind2mind import wasserstein

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
    hint = "divide by the root of the sum of squares over 8, which is what std() does by default"
    require((taps.flatten(-2).std(-1) - 1).abs().max() < 1e-4, "nine taps do not have unbiased deviation 1", hint)
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
    require_shape(found, (3, 5, 6, 6), "put the batch into the channels, (1, B·I, H, W), convolve with groups=B, view")
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
        for found in (gain, shift):
            require_shape(found, (5, 4), "γ and β should have the shape (O, I), δ the shape (O,)")
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
    hint = "two linear layers, u → 2 · O · rank and u → 2 · rank · I, have 4 · (O + I) · (width + 1) = 528 parameters"
    require(_trained(head) <= 528, f"a head of rank 2 does not need {_trained(head)} parameters", hint)
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
    hint = "A (N_o, N_n), a0 (N_o), P (C, N_o) and R (C, N_n), all of them nn.Parameter, are 21 + 7 + 35 + 15"
    require(_trained(layer) == 78, f"{_trained(layer)} numbers train instead of 78", hint)
    descend(torch.optim.SGD(layer.parameters(), 0.1), lambda: layer(classes)[1].sum(), 1)
    require_close(table, kept, "a training step has rewritten the old classes", "a transpose is a view: clone it")
    target, free = torch.randn(3, 5), answer(torch.zeros(7, 5), torch.zeros(3, 7))
    descend(torch.optim.Adam(free.parameters(), 0.1), lambda: (free(classes) - target).square().sum(), 300)
    message, hint = "three classes that borrow nothing cannot learn offsets of their own", "add R e, their residual"
    require_close(free(classes), target, message, hint, 0.05)
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
    return "zero for equal sets, the value of the definition otherwise"


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
    require_close(mine.score(images), images @ into @ slope, "score(images) is not c₀(c₁(x))", "first encode", 1e-4)
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


# --- 11: which method when --------------------------------------------------------------------------------------------


@exercise("nb11")
def time_to(answer: Callable[[float, list[float], list[float], float], float]) -> str:
    """Exercise 1: seconds until a level is reached, ``(preparation, seconds, distances, level) -> float``."""
    seconds, distances = [4.0, 10.0, 25.0, 60.0], [2.0, 0.9, 0.5, 0.7]
    hint = "take the first stop whose distance is at most the level, add the preparation; float('inf') if there is none"
    for preparation in (0.0, 3.5):
        for level, after in ((2.5, 4.0), (0.9, 10.0), (0.6, 25.0), (0.1, float("inf"))):
            found, wanted = float(answer(preparation, seconds, distances, level)), preparation + after
            message = f"with {preparation} s of preparation the level {level} is reached after {wanted} s, not {found}"
            require(found == wanted or abs(found - wanted) < 1e-9, message, hint)
    return "the preparation counts, and what is never reached takes for ever"


@exercise("nb11")
def adapter(answer: type[nn.Module]) -> str:
    """Exercise 2: the smallest adapter, a module with ``add() -> kind`` and ``forward(z, kind=None)``."""
    mapping, synthesis = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    source = [*mapping.parameters(), *synthesis.parameters()]
    z, before = torch.randn(5, 4), nn.utils.parameters_to_vector(source).detach()
    wanted, network = synthesis(mapping(z)).detach(), answer(mapping, synthesis, 6)
    first = network.add()
    require(torch.equal(network(z, first), wanted), "a new kind does not begin as the source", "its offset is 0 then")
    _train(network, z, first)
    same = torch.equal(before, nn.utils.parameters_to_vector(source))
    require(same, "the source moved", "requires_grad_(False) on mapping and synthesis")
    require(torch.equal(network(z), wanted), "without a kind it is not the source to the bit", "add no offset there")
    require(_trained(network) == 6, "not 6 numbers train, those of one offset", "an offset of length width")
    kept, second = deepcopy(network), network.add()
    require(torch.equal(network(z, second), wanted), "the second kind does not begin as the source", "zero again")
    _train(network, z, second)
    hint = "an offset of its own for each kind, which the others do not use; count the kinds"
    require(torch.equal(network(z, first), kept(z, first)), "the first kind moved while the second was trained", hint)
    return "source and earlier kinds stay to the bit, and one more kind costs one vector"


def _train(network: nn.Module, z: Tensor, kind: int) -> None:
    require(_trained(network), "nothing trains", "an offset is an nn.Parameter")
    optimizer, hint = torch.optim.SGD(network.parameters(), 0.5), "add the new kind's offset to w in forward"
    descend(optimizer, lambda: (network(z, kind) - 0.3 * (kind + 1)).square().mean(), 3, hint)


@exercise("nb11")
def front(answer: Callable[[Tensor], Tensor]) -> str:
    """Exercise 3: the methods that no other beats, ``costs (N, K) -> bool (N,)``."""
    table = torch.tensor([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [4.0, 1.0], [4.0, 2.0], [2.0, 5.0]])
    hint = "it is beaten when another one is nowhere worse and somewhere better; equal ones do not beat each other"
    for costs in (table, torch.rand(12, 3), torch.rand(20, 2).mul(4).round()):
        others, own = costs[None], costs[:, None]
        beaten = ((others <= own).all(2) & (others < own).any(2)).any(1)
        require_close(answer(costs), ~beaten, "a method is judged wrongly", hint)
    return "what is left is a matter of what you can spend"


# --- 12: your own data ------------------------------------------------------------------------------------------------


@exercise("nb12")
def positions(answer: Callable[[int, int, int, int, int, int], list[int]]) -> str:
    """Exercise 1: positions of one micro-batch, ``(step, micro, rank, batch_size, processes, accumulate) -> list``."""
    hint = "the slices of a step lie side by side: the next rank begins where the one before ends"
    for batch_size, processes, accumulate in ((4, 1, 1), (4, 2, 1), (3, 1, 2), (2, 3, 2)):
        effective = batch_size * processes * accumulate
        for step in (0, 1, 5):
            places = [(micro, rank) for micro in range(accumulate) for rank in range(processes)]
            parts = [list(answer(step, *place, batch_size, processes, accumulate)) for place in places]
            right = {len(part) for part in parts} == {batch_size}
            require(right, "a micro-batch does not have batch_size positions", "give a list of whole numbers")
            message = f"step {step} does not take each position that one process with a batch of {effective} takes"
            taken = sorted(position for part in parts for position in part)
            require(taken == list(range(step * effective, (step + 1) * effective)), message, hint)
    return "every step takes the same positions, however they are shared out"


Training = Callable[[nn.Module, Callable[[nn.Module, torch.Generator], Tensor], int, int, Path], Any]


class _Killed(Exception):
    """Stands for signal 9."""


class _Job:
    """Nine steps of a small regression whose loss draws noise, counts its calls and can be killed at one of them."""

    def __init__(self, answer: Training):
        draws = torch.Generator().manual_seed(3)
        self.answer, self.x, self.first = answer, torch.randn(16, 3, generator=draws), nn.Linear(3, 1)
        self.calls, self.kill_at, self.seen = 0, -1, []

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        if self.calls == self.kill_at:
            raise _Killed
        self.calls += 1
        noise = torch.randn(16, 1, generator=generator)
        self.seen.append(noise[0].item())
        return F.mse_loss(network(self.x), self.x.sum(1, keepdim=True) + noise)

    def run(self, path: Path, kill_at: int = -1) -> Tensor:
        """The weights, or none where it was killed."""
        self.calls, self.kill_at, network = 0, kill_at, deepcopy(self.first)
        try:
            self.answer(network, self.loss, 9, 7, path)
        except _Killed:
            return torch.empty(0)
        return nn.utils.parameters_to_vector(network.parameters()).detach()


@exercise("nb12")
def resume(answer: Training) -> str:
    """Exercise 2: a training that can be killed, ``(network, loss_of, steps, seed, path)``, in place."""
    with tempfile.TemporaryDirectory() as scratch:
        home, job = Path(scratch), _Job(answer)
        whole = job.run(home / "whole.pt")
        require(job.calls == 9, f"9 steps asked the loss {job.calls} times", "one loss a step")
        require(len(set(job.seen)) == 9, "two steps draw the same noise", "make the generator's seed of seed and step")
        require((home / "whole.pt").exists(), "nothing was written to path", "torch.save a dictionary after every step")
        for kill_at in (1, 4):
            path = home / f"killed-{kill_at}.pt"
            job.run(path, kill_at)
            again = job.run(path)
            message = f"called again after {kill_at} steps, it takes {job.calls} instead of {9 - kill_at}"
            require(job.calls == 9 - kill_at, message, "store how many steps are done, and begin the loop there")
            hint = "store the state of the optimiser as well, and draw the noise of step s from (seed, s) alone"
            require(torch.equal(again, whole), "the weights of the resumed run have other bits", hint)
        message = "a crash while the file was written leaves a file that cannot be read"
        hint = "write under another name, then os.replace: it takes the old file's place in one step"
        require(_survives_half_a_file(job, home / "written.pt", whole), message, hint)
    return "killed at two places and once while it wrote, it ends in the same bits"


def _survives_half_a_file(job: _Job, path: Path, whole: Tensor) -> bool:
    """Whether it ends in the same bits when the fourth call of ``torch.save`` writes half a file and then dies."""
    save, calls = torch.save, []

    def half(state: Any, file: Any, *arguments: Any, **options: Any) -> None:
        save(state, file, *arguments, **options)
        calls.append(file)
        if len(calls) == 4:
            os.truncate(file, Path(file).stat().st_size // 2)
            raise _Killed

    with patch("torch.save", half):
        job.run(path)
    try:
        return torch.equal(job.run(path), whole)
    except Exception:
        return False


@exercise("nb12")
def strict(answer: Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, str]], Any]) -> str:
    """Exercise 3: the authors' tensors into one's own network, ``(network, tensors, rules)``, or a ``ValueError``."""
    rules = {"sub_layers.0.": "first.", "sub_layers.1.": "second."}

    def network() -> nn.Module:
        return nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 2)})

    wanted, mine = network().state_dict(), network()
    right = {old + kind: wanted[new + kind] for old, new in rules.items() for kind in ("weight", "bias")}
    answer(mine, dict(right), rules)
    hint = "replace the beginning of each name as rules says, then load_state_dict"
    loaded = all(torch.equal(mine.state_dict()[name], tensor) for name, tensor in wanted.items())
    require(loaded, "a file that fits is not loaded", hint)
    bias = "sub_layers.1.bias"
    for what, tensors, name in (
        ("a missing tensor", {name: tensor for name, tensor in right.items() if name != bias}, "bias"),
        ("a tensor that is left over", right | {"loss.weight": torch.zeros(2)}, "loss.weight"),
        ("a tensor of another shape", right | {bias: torch.zeros(5)}, "bias"),
    ):
        mine, message = network(), ""
        before = deepcopy(mine.state_dict())
        try:
            answer(mine, tensors, rules)
        except (ValueError, RuntimeError) as error:
            message = str(error)
        require(message, f"{what} is not noticed", "compare the names and shapes with those of network.state_dict()")
        require(name in message, f"the message on {what} does not name it", "put the tensor's name into the message")
        same = all(torch.equal(before[key], tensor) for key, tensor in mine.state_dict().items())
        require(same, f"after {what} the network has changed", "check everything first, load at the end")
    return "what fits is loaded; what is missing, left over or of another shape is named, and nothing changes"
