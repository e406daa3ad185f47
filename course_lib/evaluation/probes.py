"""What a network knows and what it goes by: linear probes of its layers, and pictures whose cues disagree.

A probe is deliberately weak: what it does not find may still be there in a form that a line cannot reach. Source of the
idea: Alain and Bengio 2016.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.changes import cue_conflict, edges, shuffle_patches
from ..data.image_set import ImageSet
from ..errors import CourseError
from ..experts.classifier import Classifier

__all__ = ["LinearProbe", "balanced_accuracy", "layer_vectors", "measure_bias"]


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
    """Ridge regression with a closed form, on standardised inputs ``x (N, F)``; ``ridge`` is relative to N.

    Targets ``y`` are numbers ``(N, D)``, or ``int64 (N,)`` class labels, which become one-hot targets whose rows weigh
    as much as their class is rare: a probe that always says "no skin tone" gains nothing.
    """

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
    """Does a classifier go by shape or by texture? Source: Geirhos et al. 2019.

    Cue conflicts pair every picture with a random other one, of another class of the label called ``label``.

    Returns:
        ``plain``, ``edges``, ``shuffled``: accuracy on the pictures, on edges alone, on shuffled 8-pixel patches.
            ``decided``: share of cue conflicts on which the class of the shape or that of the colours was
            named; ``shape``: the share of these that names the shape, 0.5 is no preference.
    """
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
