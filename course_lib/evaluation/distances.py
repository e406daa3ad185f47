"""Numbers for sets of feature vectors: distances between real and generated ones, quality and variety, neighbours.

A number without the name of its features means nothing: whoever prints one says which features it used. All pairs of
two sets are visited block by block: memory grows with the sets, not their product.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

BLOCK = 1024
"""Rows of each set compared at a time: 8 MB in double precision."""


def checked_sets(real: Tensor, fake: Tensor, least: int, what: str) -> tuple[Tensor, Tensor]:
    """Both sets in double precision."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < least:
        raise CourseError(f"{what} needs two sets (N, F), N ≥ {least}, not {[*real.shape]} and {[*fake.shape]}.")
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise CourseError("some features are not finite: look at the pictures that they come from.")
    return real.double(), fake.double()


# --- Fréchet distance and diversity ---------------------------------------------------------------------------------


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians fitted to features ``(N, F)`` and ``(M, F)``.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). With Σ = RᵀR the trace of the root is the sum of the singular values of R₁
    R₂ᵀ. Biased upwards for few rows: compare only numbers with the same N and M. Source: Heusel et al. 2017.
    """
    real, fake = checked_sets(real, fake, 2, "the Fréchet distance")
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    first, second = _covariance_root(real), _covariance_root(fake)
    root = torch.linalg.svdvals(first @ second.T).sum()
    return max(0.0, (shift + first.square().sum() + second.square().sum() - 2 * root).item())


def _covariance_root(x: Tensor) -> Tensor:
    """R with RᵀR the covariance of the rows of ``x (N, F)``; it has the fewer of N and F rows."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    if len(x) <= x.shape[1]:
        return centred
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    return values.clamp_min(0).sqrt()[:, None] * vectors.T


def diversity(features: Tensor) -> float:
    """Mean distance between samples that share a condition, ``(conditions, samples ≥ 2, F)``; 0: all are alike."""
    if features.ndim != 3 or features.shape[1] < 2:
        raise CourseError(f"diversity needs features (conditions, samples ≥ 2, F), not {tuple(features.shape)}.")
    count = features.shape[1]
    # Not by matrix products, whose rounding gives equal samples a distance.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances.sum((1, 2)) / (count * (count - 1))).mean().item()


# --- kernel distances -----------------------------------------------------------------------------------------------


def _kernel_sum(first: Tensor, second: Tensor, kernel: Callable[[Tensor, Tensor], Tensor], block: int) -> Tensor:
    """Σᵢⱼ k(firstᵢ, secondⱼ), a scalar; ``kernel`` takes rows ``(n, F)`` and ``(m, F)`` to ``(n, m)``."""
    return sum(kernel(left, right).sum() for left in first.split(block) for right in second.split(block))


def kernel_distance(real: Tensor, fake: Tensor, block: int = BLOCK) -> float:
    """Kernel distance, "KID" when the features are Inception's: unbiased squared MMD with ``(x·y / F + 1)³``. Its mean
    is 0 for samples of one distribution, of any size; it may come out below. Source: Bińkowski et al. 2018."""
    real, fake = checked_sets(real, fake, 2, "the kernel distance")
    size = real.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / size + 1) ** 3

    def within(x: Tensor) -> Tensor:
        # A vector with itself is left out: it says nothing about the distribution, and biases the mean.
        own = (x.square().sum(1) / size + 1) ** 3
        return (_kernel_sum(x, x, kernel, block) - own.sum()) / (len(x) * (len(x) - 1))

    between = _kernel_sum(real, fake, kernel, block) / (len(real) * len(fake))
    return (within(real) + within(fake) - 2 * between).item()


def gaussian_mmd(real: Tensor, fake: Tensor, sigma: float = 1.0, block: int = BLOCK) -> float:
    """KMMD of cGANTransfer: the root of the biased squared MMD with ``k(a, b) = exp(−‖a − b‖² / (2 σ² s))``.

    s is the mean squared distance between all pairs of ``real (N, F)``, equal pairs included. Two samples of one
    distribution get about √(1/N + 1/M). Source: Xu et al. 2018 and cGANTransfer (Shahbazi et al. 2021).
    """
    real, fake = checked_sets(real, fake, 2, "the KMMD")
    center = real.mean(0)
    real, fake = real - center, fake - center
    # The mean squared distance over all pairs is twice the variance: no pair has to be looked at.
    scale = 2 * sigma**2 * 2 * real.square().sum(1).mean()
    if scale == 0:
        raise CourseError("the KMMD is not defined when all real pictures have the same features: give other ones.")

    def mean(x: Tensor, y: Tensor) -> Tensor:
        total = _kernel_sum(x, y, lambda a, b: squared_distances(a, b).div_(-scale).exp_(), block)
        return total / (len(x) * len(y))

    return (mean(real, real) + mean(fake, fake) - 2 * mean(real, fake)).clamp_min(0).sqrt().item()


# --- neighbours -----------------------------------------------------------------------------------------------------


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """``(N, F)``, ``(M, F)`` → squared Euclidean distances ``(N, M)``; what is below the rounding error of the matrix
    product is 0, so that a ball of radius 0 contains its copies."""
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    squares = torch.addmm(lengths, first, second.T, alpha=-2)
    return squares.masked_fill_(squares < 32 * torch.finfo(squares.dtype).eps * lengths, 0.0)


class ManifoldScores(NamedTuple):
    """What :func:`manifold_scores` returns."""

    precision: float  # share of generated vectors inside the real balls: quality
    recall: float  # share of real vectors inside the generated balls: variety
    density: float  # real balls a generated vector lies in, over k; about 1 for equal distributions, not bounded by it
    coverage: float  # share of real balls that contain a generated vector


def _radii(x: Tensor, k: int, block: int) -> Tensor:
    """``(N,)``: squared distance to the k-th neighbour, itself not counted."""
    found = []
    for rows in torch.arange(len(x)).split(block):
        squares = squared_distances(x[rows], x)
        squares[rows - rows[0], rows] = -1.0  # itself is nearest, even beside copies
        found.append(squares.kthvalue(k + 1, dim=1).values)
    return torch.cat(found)


def manifold_scores(real: Tensor, fake: Tensor, k: int = 5, block: int = BLOCK) -> ManifoldScores:
    """Improved precision and recall, density and coverage of two sets with more than ``k`` rows, the real one first.

    A set is taken for the union of balls around its vectors, each as wide as the way to its own k-th neighbour, border
    included. Recall depends on N and M: compare only numbers with the same. Sources: Kynkäänniemi et al. 2019 (the
    first two), Naeem et al. 2020. The published code of Hyper-Modulation passes the sets in the wrong order.
    """
    real, fake = checked_sets(real, fake, k + 1, f"precision and recall with k = {k}")
    real, fake = real - real.mean(0), fake - real.mean(0)
    reach_real, reach_fake = _radii(real, k, block), _radii(fake, k, block)
    inside = torch.zeros(len(fake), dtype=torch.int64)  # how many real balls hold each generated vector
    recalled, covered = [], []
    for some, reach in zip(real.split(block), reach_real.split(block), strict=True):
        squares = squared_distances(some, fake)
        holds = squares <= reach[:, None]
        inside += holds.sum(0).to(inside.device)
        covered.append(holds.any(1))
        recalled.append((squares <= reach_fake).any(1))
    recall, coverage = (torch.cat(parts).double().mean().item() for parts in (recalled, covered))
    return ManifoldScores((inside > 0).double().mean().item(), recall, inside.double().mean().item() / k, coverage)


def nearest(queries: Tensor, gallery: Tensor, k: int = 1) -> Tensor:
    """Positions ``int64 (Q, k)`` of the ``k`` entries of the gallery ``(G, …)`` nearest in direction to queries ``(Q,
    …)``; its mean is subtracted from both: rectified features all point the same way."""
    if queries.shape[1:] != gallery.shape[1:] or queries.ndim < 2:
        raise CourseError(f"queries {[*queries.shape]} and gallery {[*gallery.shape]} must agree except in N.")
    if not 1 <= k <= len(gallery):
        raise CourseError(f"k must lie between 1 and the gallery's {len(gallery)} entries, not {k}.")
    queries, gallery = queries.flatten(1).float(), gallery.flatten(1).float()
    mean = gallery.mean(0)
    queries, gallery = F.normalize(queries - mean, dim=1), F.normalize(gallery - mean, dim=1)
    # On the unit sphere the order of distances is the order of angles. |q|² changes no order.
    squares = gallery.square().sum(1)
    found = [(squares - 2 * part @ gallery.T).topk(k, dim=1, largest=False).indices for part in queries.split(512)]
    return torch.cat(found)


def copy_share(generated: Tensor, train: Tensor, unseen: Tensor, quantile: float = 0.5, block: int = BLOCK) -> float:
    """Share of features ``generated (M, F)`` nearer to ``train (N, F)`` than this quantile of ``unseen (H, F)``: the
    data's own distribution gets ``quantile``, copies 1, and what is nothing like the data 0: read it beside
    precision."""
    found = []
    for queries in (generated, unseen):
        queries, known = checked_sets(queries, train, 1, "the search for copies")
        found.append(torch.cat([squared_distances(some, known).amin(1).sqrt() for some in queries.split(block)]))
    return (found[0] < found[1].quantile(quantile)).double().mean().item()


# --- scores of one set ----------------------------------------------------------------------------------------------


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """``exp(mean KL(p(y|x) ‖ p(y)))``: mean and standard deviation over splits; between 1 and the number of classes.

    ``probabilities (N, classes)`` may be any classifier's: say which. It never looks at real pictures, so a generator
    that draws one picture a class scores best. A split has ``N // splits`` pictures in the given order: shuffle sorted
    ones. Source: Salimans et al. 2016.
    """
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise CourseError(f"the Inception score needs (N ≥ {splits}, classes), not {tuple(probabilities.shape)}.")
    p = probabilities.double()
    if not (p >= 0).all() or not torch.allclose(p.sum(1), torch.ones(len(p), dtype=p.dtype), atol=1e-4):
        raise CourseError("the Inception score needs probabilities: apply a softmax to the logits.")
    parts = p[: len(p) // splits * splits].unflatten(0, (splits, -1))
    # xlogy: a class of probability 0 contributes nothing.
    divergence = (torch.xlogy(parts, parts) - torch.xlogy(parts, parts.mean(1, keepdim=True))).sum(2)
    scores = divergence.mean(1).exp()
    return scores.mean().item(), scores.std(unbiased=False).item()


@torch.no_grad()
def path_length(
    draw: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    features: Callable[[Tensor], Tensor],
    epsilon: float = 1e-3,
    trim: tuple[float, float] | None = (0.01, 0.99),
) -> float:
    """Perceptual path length: mean of ``‖features(draw(x)) − features(draw(x + ε (end − x)))‖² / ε²`` at ``x = start``.

    ``draw`` takes points ``(B, D)`` and the numbers of their pairs ``(B,)``: the two pictures of a pair must differ in
    nothing but ε. The mean is over lengths between the quantiles ``trim``, as published; None counts all. Source:
    Karras et al. 2019, section 4.1, "end" sampling, there with LPIPS: numbers compare only for the same features.
    """
    if start.shape != end.shape or start.ndim != 2 or not len(start) or epsilon <= 0:
        given = f"{[*start.shape]}, {[*end.shape]}, {epsilon}"
        raise CourseError(f"a path length needs ends (N, D) and ε > 0, not {given}.")
    lengths = []
    for pairs in torch.arange(len(start)).split(64):
        first, second = (features(draw(start[pairs].lerp(end[pairs], t), pairs)) for t in (0.0, epsilon))
        lengths.append((first - second).square().sum(1).double() / epsilon**2)
    found = torch.cat(lengths)
    if trim is not None:
        low, high = (found.quantile(q, interpolation=i) for q, i in zip(trim, ("lower", "higher"), strict=True))
        found = found[(found >= low) & (found <= high)]
    return found.mean().item()
