"""What pictures are scored by, the judge's features or Inception's, and what features know: probes, conflicting cues.

The judge is never used to train anything that is scored. A probe is deliberately weak: what it does not find may still
be there in a form that a line cannot reach (Alain and Bengio 2016).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ..data.changes import cue_conflict, edges, shuffle_patches
from ..data.image_set import ImageSet, resize
from ..data.people import ATTRIBUTES
from ..errors import CourseError
from ..experts.classifier import Classifier
from ..experts.protocol import fingerprint, load_expert
from ..paths import CHECKPOINTS, cache_dir
from ..training.files import atomic_write

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"
"""Inception v3 as torchvision publishes it."""


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
        device = next(self.network.parameters()).device
        parts = [self.network.features(resize(part.to(device), self.size)).cpu() for part in images.split(250)]
        return torch.cat(parts)

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
        still = {name: (after[name] == labels[name]) & one for name, one in right.items()}
        return {name: (still[name].sum() / one.sum()).item() for name, one in right.items()}


@dataclass(frozen=True)
class FeatureNetwork:
    """What a distance between pictures looks through; what it returns is on the CPU."""

    name: str  # stands beside every number
    key: str  # hash of the weights, so that stored features are never those of another network
    features: Callable[[Tensor], Tensor]  # pictures (B, 3, S, S) in [−1, 1] → (B, F)
    probabilities: Callable[[Tensor], Tensor]  # pictures → (B, classes), for the Inception score


def judge_features(judge: Judge | None = None) -> FeatureNetwork:
    """The judge's features and the kinds it sees; the shipped judge by default."""
    judge = judge or Judge.load()
    key = fingerprint(judge.network)
    return FeatureNetwork("judge", key, judge.features, lambda x: judge.probabilities(judge.features(x), "kind"))


def inception_features(path: Path | None = None, device: torch.device | str = "cpu") -> FeatureNetwork:
    """Inception v3 of torchvision, prepared as BigGAN and cGANTransfer do: 2,048 pooled features, 1,000 classes.

    This is not the TensorFlow network of published FID tables: numbers do not compare. Nothing is downloaded: ``path``
    is by default :data:`INCEPTION_FILE` in the cache folder or torchvision's own.
    """
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
    if name == "judge":
        return judge_features(Judge.load().to(device))
    if name == "inception":
        return inception_features(device=device)
    raise CourseError(f"there are no features {name!r}: choose judge or inception.")


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
    return {
        **{name: (answers(change, images) == labels).float().mean().item() for name, change in changes.items()},
        "shape": (by_shape / (by_shape + by_texture).clamp_min(1)).item(),
        "decided": ((by_shape + by_texture) / differs.sum().clamp_min(1)).item(),
    }
