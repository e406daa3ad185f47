"""Scores of a class-conditional generator on held-out pictures: class by class, then the mean over classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..evaluation import Judge, frechet_distance
from ..evaluation.class_wise import INTRA_CLASS_MEAN, class_wise
from ..evaluation.kernel import kernel_distance

__all__ = ["ACCURACY", "FRECHET", "KERNEL", "HeldOut", "draw_classes"]

KERNEL, FRECHET, ACCURACY = "kernel distance", "Fréchet distance", "class accuracy"


@torch.no_grad()
def draw_classes(network: nn.Module, labels: Tensor, seed: int = 0, batch_size: int = 64) -> Tensor:
    """Pictures ``(N, 3, S, S)`` in [−1, 1] on the CPU; picture i has the same noise for every generator.

    Args:
        network: called with z, labels and noise maps; has ``config`` and ``synthesis``, as the generators of this
            folder.
        labels: ``(N,)``.
        seed: of z and noise.
        batch_size: pictures at a time.
    """
    device, draws, pictures = next(network.parameters()).device, torch.Generator().manual_seed(seed), []
    for part in labels.split(batch_size):
        z = torch.randn(len(part), network.config.latent, generator=draws).to(device)
        noise = network.synthesis.noise(len(part), draws)
        pictures.append(network(z, part.to(device), noise).clamp(-1, 1).float().cpu())
    return torch.cat(pictures)


@dataclass(frozen=True)
class HeldOut:
    """Features of real pictures, and how many samples are compared with them.

    Attributes:
        features: ``(N, F)``, the judge's.
        labels: ``(N,)``.
        classes: names.
        judge: gives the features.
        samples: generated pictures a class.
    """

    features: Tensor
    labels: Tensor
    classes: Sequence[str]
    judge: Judge
    samples: int = 64

    @classmethod
    def of(cls, data: ImageSet, judge: Judge, size: int, label: str = "class", samples: int = 64) -> "HeldOut":
        """Features of ``data`` at ``size`` pixels, the generator's."""
        features = torch.cat([judge.features(part) for part in data.batches(250, size)])
        return cls(features, data.labels[label], data.classes[label], judge, samples)

    def score(self, network: nn.Module, seed: int = 0) -> dict[str, dict[str, float]]:
        """Class, or ``INTRA_CLASS_MEAN``, → :data:`KERNEL`, :data:`FRECHET` and :data:`ACCURACY`, in judge features.

        The Fréchet distance of so few pictures is mostly bias: it ranks generators that are scored alike, and its
        size means nothing. The kernel distance has no bias. The accuracy is the share of samples that are nearer to
        the mean of their own class of real pictures than to that of any other; a generator that ignores the class has
        one over the number of classes.
        """
        labels = torch.arange(len(self.classes)).repeat_interleave(self.samples)
        found = self.judge.features(draw_classes(network, labels, seed))

        def both(real: Tensor, fake: Tensor) -> dict[str, float]:
            return {KERNEL: kernel_distance(real, fake), FRECHET: frechet_distance(real, fake)}

        scores = class_wise(self.features, found, self.labels, labels, self.classes, both)
        means = torch.stack([self.features[self.labels == k].mean(0) for k in range(len(self.classes))])
        right = (torch.cdist(found, means).argmin(1) == labels).double().view(len(self.classes), self.samples).mean(1)
        for name, value in zip((*self.classes, INTRA_CLASS_MEAN), (*right, right.mean()), strict=True):
            scores[name][ACCURACY] = value.item()
        return scores

    def mean(self, network: nn.Module, seed: int = 0) -> dict[str, float]:
        """The means over classes of :meth:`score`."""
        return self.score(network, seed)[INTRA_CLASS_MEAN]
