"""Scores of new classes on pictures that were held out: class by class, and together."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import ImageSet, load_emoji
from ..evaluation import Judge, frechet_distance
from ..evaluation.class_wise import INTRA_CLASS_MEAN, class_wise
from ..evaluation.kernel import kernel_distance
from ..gans.class_norm import standing_statistics

__all__ = ["HeldOut", "TransferScores", "draw", "settle"]


@torch.no_grad()
def settle(generator: nn.Module, passes: int = 8, batch_size: int = 100, seed: int = 0) -> nn.Module:
    """Puts a trained generator in evaluation mode with standing statistics of evenly drawn classes."""
    generator.eval()
    device, noise = next(generator.parameters()).device, torch.Generator().manual_seed(seed)

    def forward() -> None:
        labels = torch.randint(generator.config.classes, (batch_size,), generator=noise)
        z = torch.randn(batch_size, generator.config.noise, generator=noise)
        generator(z.to(device), generator.embed(labels.to(device)))

    standing_statistics(generator, forward, passes)
    return generator


@torch.no_grad()
def draw(generator: nn.Module, labels: Tensor, seed: int = 0, batch_size: int = 100) -> Tensor:
    """One picture for each label ``(N,)``: ``(N, 3, S, S)`` on the CPU."""
    device = next(generator.parameters()).device
    z = torch.randn(len(labels), generator.config.noise, generator=torch.Generator().manual_seed(seed))
    parts = zip(z.split(batch_size), labels.split(batch_size), strict=True)
    return torch.cat([generator(one.to(device), generator.embed(label.to(device))).cpu() for one, label in parts])


def _distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    return {"kernel": kernel_distance(real, fake), "frechet": frechet_distance(real, fake)}


@dataclass(frozen=True)
class TransferScores:
    """Scores with judge features; lower distances are better.

    Attributes:
        kernel: mean over classes of the unbiased kernel distance; it may fall below 0.
        class_frechet: mean over classes of the Fréchet distance. With few pictures a class most of it is bias, the same
            for all generators that are scored on the same pictures.
        frechet: Fréchet distance of all classes together.
        accuracy: how often the judge sees the class asked for; NaN where it does not know the classes.
        by_class: kernel distance of each class.
    """

    kernel: float
    class_frechet: float
    frechet: float
    accuracy: float
    by_class: dict[str, float]


class HeldOut:
    """Held-out pictures of new classes, and how generators are scored against them.

    Args:
        data: with ``labels["class"]``; pictures that nothing was trained on.
        judge: gives features, and labels where the classes are subgroups of the emoji set.
        size: of the generators' pictures.
        repeats: generated pictures for each held-out one.
    """

    def __init__(self, data: ImageSet, judge: Judge, size: int = 32, repeats: int = 2):
        self.judge, self.repeats = judge, repeats
        self.labels, self.classes = data.labels["class"], data.classes["class"]
        self.pictures = torch.cat(list(data.batches(250, size)))
        self.features = judge.features(self.pictures)
        known = load_emoji().classes["subgroup"]
        self.known = torch.tensor([known.index(name) if name in known else -1 for name in self.classes])

    @torch.no_grad()
    def _accuracy(self, features: Tensor, labels: Tensor) -> float:
        if (self.known < 0).any():
            return float("nan")
        head = self.judge.network.heads["subgroup"]
        seen = head(features.to(head.weight)).argmax(1).cpu()
        return (seen == self.known[labels]).float().mean().item()

    def compare(self, pictures: Tensor, labels: Tensor) -> TransferScores:
        """Scores of pictures ``(N, 3, S, S)`` of classes ``(N,)``."""
        features = self.judge.features(pictures)
        found = class_wise(self.features, features, self.labels, labels, self.classes, _distances)
        mean = found.pop(INTRA_CLASS_MEAN)
        by_class = {name: row["kernel"] for name, row in found.items()}
        together = frechet_distance(self.features, features)
        return TransferScores(mean["kernel"], mean["frechet"], together, self._accuracy(features, labels), by_class)

    def score(self, generator: nn.Module, seed: int = 0) -> TransferScores:
        """Scores of a generator in evaluation mode; each class as often as it is held out, ``repeats``-fold."""
        labels = self.labels.repeat(self.repeats)
        return self.compare(draw(generator, labels, seed), labels)
