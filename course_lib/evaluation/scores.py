"""Scores of pictures: the judge's features or Inception's, distances between real and generated sets, quality and
variety, neighbours, scores of classes; and what features know: probes, conflicting cues. A number without the name of
its features means nothing: whoever prints one says which features it used. The judge is never used to train anything
that is scored. A probe is deliberately weak: what it does not find may still be there in a form that a line cannot
reach (Alain and Bengio 2016). Kernel distances have no bias and may fall below 0; Fréchet distances of a few pictures
are mostly bias, the same for all that is scored on the same pictures. Pairs of two sets are visited block by block."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ..data.avatars import load_kinds
from ..data.image_set import ImageSet, cue_conflict, edges, resize, shuffle_patches
from ..data.people import ATTRIBUTES
from ..errors import CourseError
from ..experts.networks import Classifier
from ..experts.protocol import fingerprint, load_expert
from ..profiles import CHECKPOINTS, cache_dir
from ..training.runs import atomic_write

BLOCK = 1024  # rows of each set compared at a time: 8 MB in double precision
Seeing = Callable[[Tensor], Tensor]  # pictures ``(B, 3, S, S)`` in [−1, 1] → features ``(B, F)``
Draw = Callable[[Tensor, Tensor], Tensor]  # points ``(B, D)`` and the numbers of their pairs ``(B,)`` → pictures


def checked_sets(real: Tensor, fake: Tensor, least: int, what: str) -> tuple[Tensor, Tensor]:
    """Both sets in double precision."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < least:
        raise CourseError(f"{what} needs two sets (N, F), N ≥ {least}, not {[*real.shape]} and {[*fake.shape]}.")
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise CourseError("some features are not finite: look at the pictures that they come from.")
    return real.double(), fake.double()


# --- Fréchet distance and diversity ---------------------------------------------------------------------------------


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians fitted to features ``(N, F)`` and ``(M, F)``. ‖μ₁ −
    μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). With Σ = RᵀR the trace of the root is the sum of the singular values of R₁ R₂ᵀ.
    Biased upwards for few rows: compare only numbers with the same N and M. Source: Heusel et al. 2017."""
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
    """KMMD of cGANTransfer: the root of the biased squared MMD with ``k(a, b) = exp(−‖a − b‖² / (2 σ² s))``. s is the
    mean squared distance between all pairs of ``real (N, F)``, equal pairs included. Two samples of one distribution
    get about √(1/N + 1/M). Source: Xu et al. 2018 and cGANTransfer (Shahbazi et al. 2021)."""
    real, fake = checked_sets(real, fake, 2, "the KMMD")
    center = real.mean(0)
    real, fake = real - center, fake - center
    # The mean squared distance over all pairs is twice the variance: no pair has to be looked at.
    scale = 2 * sigma**2 * 2 * real.square().sum(1).mean()
    if scale == 0:
        raise CourseError("the KMMD is not defined when all real pictures have the same features: give other ones.")

    def mean(x: Tensor, y: Tensor) -> Tensor:
        return _kernel_sum(x, y, lambda a, b: squared_distances(a, b).div_(-scale).exp_(), block) / (len(x) * len(y))

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
    """Improved precision and recall, density and coverage of two sets with more than ``k`` rows, the real one first. A
    set is taken for the union of balls around its vectors, each as wide as the way to its own k-th neighbour, border
    included. Recall depends on N and M: compare only numbers with the same. Sources: Kynkäänniemi et al. 2019 (the
    first two), Naeem et al. 2020. The published code of Hyper-Modulation passes the sets in the wrong order."""
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
    data's own distribution gets ``quantile``, copies 1, what is unlike the data 0: read it beside precision."""
    found = []
    for queries in (generated, unseen):
        queries, known = checked_sets(queries, train, 1, "the search for copies")
        found.append(torch.cat([squared_distances(some, known).amin(1).sqrt() for some in queries.split(block)]))
    return (found[0] < found[1].quantile(quantile)).double().mean().item()


# --- scores of one set ----------------------------------------------------------------------------------------------


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """``exp(mean KL(p(y|x) ‖ p(y)))``: mean and standard deviation over splits; between 1 and the number of classes.
    ``probabilities (N, classes)`` may be any classifier's: say which. It never looks at real pictures, so a generator
    that draws one picture a class scores best. Shuffle sorted ones: splits keep order. Source: Salimans et al. 2016."""
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
    draw: Draw, start: Tensor, end: Tensor, see: Seeing, epsilon: float = 1e-3, trim: tuple[float, float] = (0.01, 0.99)
) -> float:
    """Perceptual path length: mean of ``‖see(draw(x)) − see(draw(x + ε (end − x)))‖² / ε²`` at ``x = start``. The two
    pictures of a pair must differ in nothing but ε. The mean is over lengths between the quantiles ``trim``, as
    published. Source: Karras et al. 2019, section 4.1, "end" sampling, there with LPIPS: numbers compare only for the
    same features."""
    if start.shape != end.shape or start.ndim != 2 or not len(start) or epsilon <= 0:
        given = f"{[*start.shape]}, {[*end.shape]}, {epsilon}"
        raise CourseError(f"a path length needs ends (N, D) and ε > 0, not {given}.")
    lengths = []
    for pairs in torch.arange(len(start)).split(64):
        first, second = (see(draw(start[pairs].lerp(end[pairs], t), pairs)) for t in (0.0, epsilon))
        lengths.append((first - second).square().sum(1).double() / epsilon**2)
    found = torch.cat(lengths)
    low, high = (found.quantile(q, interpolation=i) for q, i in zip(trim, ("lower", "higher"), strict=True))
    return found[(found >= low) & (found <= high)].mean().item()


INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"  # as torchvision publishes it


class Judge:
    """Features and labels of pictures ``(N, 3, S, S)`` in [−1, 1]; what it returns is on the CPU."""

    size = 64

    def __init__(self, network: Classifier):
        self.network = network

    @classmethod
    def load(cls, name: str = "avatar-judge", folder: Path = CHECKPOINTS) -> "Judge":
        return cls(load_expert(name, folder=folder))

    def to(self, device: torch.device | str) -> "Judge":
        self.network.to(device)
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """``(N, F)``: average-pooled last layer."""
        net, device = self.network, next(self.network.parameters()).device
        return torch.cat([net.features(resize(part.to(device), self.size)).cpu() for part in images.split(250)])

    @torch.no_grad()
    def probabilities(self, features: Tensor, label: str) -> Tensor:
        """``(N, classes)`` of features ``(N, F)``, for one of its labels (kind, skin, hair, cut, glasses, mouth)."""
        heads = self.network.heads
        if label not in heads:
            raise CourseError(f"the judge has no label {label!r}: choose one of {', '.join(heads)}.")
        return heads[label](features.to(heads[label].weight)).softmax(1).cpu()

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features ``(N, F)``, and for each of its labels the class it sees, ``(N,)``."""
        features = self.features(images)
        return features, {name: self.probabilities(features, name).argmax(1) for name in self.network.heads}

    def predict(self, images: Tensor, label: str) -> Tensor:
        return self.probabilities(self.features(images), label).argmax(1)

    def still_read(self, images: Tensor, again: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """For each attribute of people the share of right answers on ``images`` that stay right on ``again``."""
        before, after = self.read(images)[1], self.read(again)[1]
        right = {name: before[name] == labels[name] for name in ATTRIBUTES}
        return {name: (after[name] == labels[name])[one].float().mean().item() for name, one in right.items()}


@dataclass(frozen=True)
class FeatureNetwork:
    """What a distance between pictures looks through; what it returns is on the CPU."""

    name: str  # stands beside every number
    key: str  # hash of the weights, so that stored features are never those of another network
    features: Seeing
    probabilities: Seeing  # pictures → (B, classes), for the Inception score


def judge_features(judge: Judge | None = None) -> FeatureNetwork:
    """The judge's features and the kinds it sees; the shipped judge by default."""
    judge = judge or Judge.load()
    key = fingerprint(judge.network)
    return FeatureNetwork("judge", key, judge.features, lambda x: judge.probabilities(judge.features(x), "kind"))


def inception_features(path: Path | None = None, device: torch.device | str = "cpu") -> FeatureNetwork:
    """Inception v3 of torchvision, prepared as BigGAN and cGANTransfer do: 2,048 pooled features, 1,000 classes. This
    is not the TensorFlow network of published FID tables: numbers do not compare. Nothing is downloaded: ``path`` is by
    default :data:`INCEPTION_FILE` in the cache folder or torchvision's own."""
    from torchvision.models import inception_v3

    usual = [cache_dir() / INCEPTION_FILE, Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE]
    places = [path] if path else usual
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        missing = f"Inception's weights are not on this machine ({INCEPTION_FILE}, 104 MB, from pytorch.org)"
        raise CourseError(f"{missing}: put them into {places[0].parent}, or use the judge's features.")
    try:
        network = inception_v3(weights=None, init_weights=False, transform_input=False)
        network.load_state_dict(torch.load(found, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises a dozen unrelated types on damaged or foreign files
        reason = str(error).splitlines()[0][:120]
        raise CourseError(f"{found} does not hold torchvision's Inception v3 ({reason}): fetch it again.") from error
    network, pooled = network.requires_grad_(False).eval().to(device), []
    network.avgpool.register_forward_hook(lambda module, inputs, output: pooled.append(output.flatten(1).cpu()))
    colours = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in colours)

    @torch.no_grad()
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        pooled.clear()
        probabilities = []
        for part in images.split(32):
            part = ((part.to(device).clamp(-1, 1) + 1) / 2 - mean) / std
            logits = network(F.interpolate(part, (299, 299), mode="bilinear", align_corners=True))
            probabilities.append(logits.softmax(1).cpu())
        return torch.cat(pooled), torch.cat(probabilities)

    return FeatureNetwork("Inception", fingerprint(network), lambda x: run(x)[0], lambda x: run(x)[1])


def feature_network(name: str = "judge", device: torch.device | str = "cpu") -> FeatureNetwork:
    """``judge`` or ``inception``."""
    if name not in ("judge", "inception"):
        raise CourseError(f"there are no features {name!r}: choose judge or inception.")
    return judge_features(Judge.load().to(device)) if name == "judge" else inception_features(device=device)


def real_features(
    data: ImageSet, network: FeatureNetwork, size: int | None = None, folder: Path | None = None
) -> Tensor:
    """``float32 (N, F)`` of pictures at ``size``, from a cached file named by the hashes of pictures and network."""
    text = f"{data.content_hash(labels=False)} {size or data.size} {network.key}"
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = (folder or cache_dir()) / f"features-{network.name.lower()}-{key}.safetensors"
    try:
        features = load_file(path)["features"]
        if len(features) == len(data):
            return features
    except (OSError, SafetensorError, KeyError):
        pass
    found = torch.cat([network.features(batch) for batch in data.batches(250, size)]).float().contiguous()
    atomic_write(path, lambda part: save_file({"features": found}, part))
    return found


# --- probes ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def layer_vectors(
    classifier: Classifier, data: ImageSet, numbers: int = 4096, batch_size: int = 128
) -> dict[str, Tensor]:
    """Layer name → ``float32 (N, F)`` on the CPU, maps averaged to F ≤ ``numbers``: none gains from mere size."""
    device = next(classifier.parameters()).device
    parts: dict[str, list[Tensor]] = {name: [] for name in classifier.layers}
    for images in data.batches(batch_size):
        maps = classifier.maps(images.to(device))
        features = F.relu(classifier.norm(maps[-1])).mean((2, 3))
        sides = [min(m.shape[-1], max(1, int((numbers / m.shape[1]) ** 0.5))) for m in maps]
        pooled = [F.adaptive_avg_pool2d(m, side).flatten(1) for m, side in zip(maps, sides, strict=True)]
        logits = torch.cat([classifier.heads[name](features) for name in classifier.config.heads], 1)
        for name, vector in zip(classifier.layers, [*pooled, features, logits], strict=True):
            parts[name].append(vector.float().cpu())
    return {name: torch.cat(vectors) for name, vectors in parts.items()}


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur in ``labels: (N,)`` of the share that was recognised; guessing one gives 1/K."""
    right = predicted == labels
    return torch.stack([right[labels == value].float().mean() for value in labels.unique()]).mean().item()


class LinearProbe:
    """Ridge regression with a closed form, on standardised inputs ``x (N, F)``; ``ridge`` is relative to N. Targets are
    numbers ``(N, D)``, or class labels ``int64 (N,)``, whose one-hot rows weigh as much as their class is rare."""

    def __init__(self, x: Tensor, y: Tensor, ridge: float = 0.3):
        if len(x) != len(y) or len(x) < 2:
            raise CourseError(f"a probe needs as many inputs as targets, two or more, not {len(x)} and {len(y)}.")
        self.classes = not y.is_floating_point()
        x, weight = x.double(), torch.ones(len(x), 1, dtype=torch.float64)
        if self.classes:
            counts = torch.bincount(y)
            weight = 1.0 / counts[y].double()[:, None].to(x.device)
            y = F.one_hot(y, len(counts))
        weight = weight * (len(x) / weight.sum())
        y = y.double()
        self.mean, self.offset = (weight * x).mean(0), (weight * y).mean(0)
        self.scale = (weight * (x - self.mean).square()).mean(0).sqrt() + 1e-6
        root = weight.sqrt()
        x, y = root * (x - self.mean) / self.scale, root * (y - self.offset)
        # The smaller of the two equivalent systems: features × features, or rows × rows.
        wide = x.shape[1] > len(x)
        gram = x @ x.T if wide else x.T @ x
        gram.diagonal().add_(ridge * len(x))
        self.weight = x.T @ torch.linalg.solve(gram, y) if wide else torch.linalg.solve(gram, x.T @ y)

    def __call__(self, x: Tensor) -> Tensor:
        """Predicted numbers, ``float32 (N, D)``; for class labels one score per class."""
        return ((x.double() - self.mean) / self.scale @ self.weight + self.offset).float()

    def predict(self, x: Tensor) -> Tensor:
        """The class with the highest score, ``int64 (N,)``."""
        if not self.classes:
            raise CourseError("this probe predicts numbers: call it instead of asking for classes.")
        return self(x).argmax(1)


@torch.no_grad()
def measure_bias(classifier: Classifier, data: ImageSet, label: str = "kind", seed: int = 0) -> dict[str, float]:
    """Does a classifier go by shape or by texture? ``plain``, ``edges``, ``shuffled``: accuracy on the pictures, on
    edges alone, on shuffled 8-pixel patches. ``decided``: share of cue conflicts, pairs of pictures of two classes of
    ``label``, on which the class of shape or colours was named; ``shape``: the share of these that names the shape.
    Source: Geirhos et al. 2019."""
    device, labels = next(classifier.parameters()).device, data.labels[label]
    generator = torch.Generator().manual_seed(seed)
    images = torch.cat(list(data.batches(250)))

    def answers(change: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        batches = zip(*[part.split(250) for part in inputs], strict=True)
        return torch.cat([classifier(change(*batch).to(device))[label].argmax(1).cpu() for batch in batches])

    other = torch.randperm(len(data), generator=generator)
    differs = labels != labels[other]
    named = answers(lambda x, y: cue_conflict(x, y, generator), images, images[other])
    by_shape, by_texture = ((named == cue)[differs].float().sum() for cue in (labels, labels[other]))
    changes = {"plain": lambda x: x, "edges": edges, "shuffled": lambda x: shuffle_patches(x, generator)}
    found = {name: (answers(change, images) == labels).float().mean().item() for name, change in changes.items()}
    found["shape"] = (by_shape / (by_shape + by_texture).clamp_min(1)).item()
    return found | {"decided": ((by_shape + by_texture) / differs.sum().clamp_min(1)).item()}


KERNEL, FRECHET, ACCURACY = "kernel distance", "Fréchet distance", "class accuracy"

INTRA_CLASS_MEAN = "intra-class mean"  # key of the mean over classes in what :func:`class_wise` returns

Score = Callable[[Tensor, Tensor], dict[str, float]]
"""Real and generated features ``(N, F)`` and ``(M, F)`` → numbers by name."""


def feature_scores(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Fréchet and kernel distance, KMMD, precision, recall, density, coverage of features of more than ``k`` rows."""
    return _distances(real, fake) | manifold_scores(real, fake, k)._asdict()


def _distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    named = {FRECHET: frechet_distance, KERNEL: kernel_distance, "KMMD": gaussian_mmd}
    return {name: distance(real, fake) for name, distance in named.items()}


def class_wise(
    real: Tensor, fake: Tensor, shown: Tensor, asked: Tensor, classes: Sequence[str], score: Score, least: int = 2
) -> dict[str, dict[str, float]]:
    """``score`` for each class by itself, and the mean over classes: a generator that ignores the class cannot hide.
    Labels ``shown (N,)`` and ``asked (M,)`` of features ``(N, F)`` and ``(M, F)`` are positions in ``classes``; classes
    with fewer than ``least`` real or generated pictures are left out. Returns class name → score name → value, and last
    :data:`INTRA_CLASS_MEAN` with the unweighted means."""
    if len(real) != len(shown) or len(fake) != len(asked):
        raise CourseError("class-wise scores need one label for every feature vector.")
    found: dict[str, dict[str, float]] = {}
    for label, name in enumerate(classes):
        own = real[shown == label], fake[asked == label]
        if min(map(len, own)) >= least:
            found[name] = score(*own)
    if not found:
        raise CourseError(f"no class has {least} real and {least} generated pictures: take a larger part of the data.")
    names = next(iter(found.values()))
    mean = {name: torch.tensor([row[name] for row in found.values()]).double().mean().item() for name in names}
    return found | {INTRA_CLASS_MEAN: mean}


class ClassScores:
    """How generated pictures are scored against held-out ones, which have ``labels["class"]``; ``classes``, ``labels
    (N,)`` and ``features (N, F)`` are theirs."""

    def __init__(self, data: ImageSet, judge: Judge):
        self.judge, self.classes, self.labels = judge, data.classes["class"], data.labels["class"]
        kinds = load_kinds().classes["kind"]
        known = all(name in kinds for name in self.classes)
        self.kinds = torch.tensor([kinds.index(name) for name in self.classes]) if known else None
        self.features, self.real_seen = judge.read(torch.cat(list(data.batches(250, judge.size))))

    def asked(self, each: int) -> Tensor:
        """Classes to draw: every one ``each`` times, in order."""
        return torch.arange(len(self.classes)).repeat_interleave(each)

    def right(self, features: Tensor, seen: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Which pictures show the class they were asked for, ``bool (N,)``, of what the judge :meth:`Judge.read`:
        bundled kinds are told by it, among all 36; other classes by the nearest mean of real features."""
        if self.kinds is not None:
            return seen["kind"] == self.kinds[labels]
        means = torch.stack([self.features[self.labels == k].mean(0) for k in range(len(self.classes))])
        return torch.cdist(features, means).argmin(1) == labels

    @property
    def chance(self) -> float:
        """Class accuracy of a guess: one over the number of classes that the judge can answer."""
        return 1 / (self.judge.network.config.heads["kind"] if self.kinds is not None else len(self.classes))

    @property
    def real_accuracy(self) -> float:
        return self.right(self.features, self.real_seen, self.labels).float().mean().item()

    def by_class(self, pictures: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
        """Class, and ``INTRA_CLASS_MEAN``, → kernel and Fréchet distance, KMMD and class accuracy, of pictures ``(N, 3,
        S, S)`` in [−1, 1] and the classes ``(N,)`` that they were asked for."""
        return self._score(*self.judge.read(pictures), labels)

    def _score(self, features: Tensor, seen: dict[str, Tensor], labels: Tensor) -> dict[str, dict[str, float]]:
        found = class_wise(self.features, features, self.labels, labels, self.classes, _distances)
        right = self.right(features, seen, labels).double()
        shares = [right[labels == k].mean().item() for k in range(len(self.classes)) if (labels == k).any()]
        for scores, share in zip(found.values(), (*shares, sum(shares) / len(shares)), strict=True):
            scores[ACCURACY] = share
        return found

    def mean(self, pictures: Tensor, labels: Tensor) -> dict[str, float]:
        """The means over classes of :meth:`by_class`, and of all classes together ``Fréchet distance, all classes`` and
        the ``inception score`` with the judge's kinds, where it knows them."""
        features, seen = self.judge.read(pictures)
        found = self._score(features, seen, labels)[INTRA_CLASS_MEAN]
        found[f"{FRECHET}, all classes"] = frechet_distance(self.features, features)
        if self.kinds is not None:
            found["inception score"] = inception_score(self.judge.probabilities(features, "kind"), 1)[0]
        return found
