"""Super-resolution: the 16-pixel autoencoder speaks, the 64-pixel autoencoder answers (paper §4, AE → AE)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet, resize
from ..evaluation import Judge, diversity, frechet_distance
from ..experts import Autoencoder
from .translator import Translator

__all__ = ["LowResolution", "Scores", "explained", "score_pictures", "score_translator"]


class LowResolution:
    """Source expert: a picture of any size, area-averaged to the size of a small autoencoder and encoded by it."""

    def __init__(self, autoencoder: Autoencoder):
        self.autoencoder = autoencoder
        self.size, self.condition_shape = autoencoder.config.size, autoencoder.condition_shape

    def see(self, x: Tensor) -> Tensor:
        """What the expert sees: ``(B, 3, 16, 16)``."""
        return resize(x, self.size)

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, K)``, detached."""
        return self.autoencoder.encode(self.see(x))


@dataclass(frozen=True)
class Scores:
    """How good pictures are as enlargements of known low-resolution pictures.

    Attributes:
        frechet: distance to the real pictures, judge features; lower is better.
        consistency: share of the variance of the 16-pixel latent that survives enlarging and shrinking again; 1 is exact.
        diversity: mean judge-feature distance of two samples for one input; 0 means no choice at all.
    """

    frechet: float
    consistency: float
    diversity: float


def explained(wanted: Tensor, found: Tensor) -> float:
    """1 − Σ‖wanted − found‖² / Σ‖wanted − mean‖²: explained share of variance of ``(N, K)`` rows."""
    return (1.0 - (wanted - found).square().sum() / (wanted - wanted.mean(0)).square().sum()).item()


def score_pictures(pictures: Tensor, real: Tensor, source: LowResolution, judge: Judge) -> Scores:
    """Scores ``pictures (N, samples, 3, S, S)`` against the ``real (N, 3, S, S)`` ones they stand for.

    The Fréchet distance uses the first sample of each input, so that both sets have N pictures.
    """
    first = pictures[:, 0]
    shrunk = torch.cat([source.encode(part) for part in first.split(250)])
    wanted = torch.cat([source.encode(part) for part in real.split(250)])
    spread = 0.0
    if pictures.shape[1] > 1:
        features = judge.features(pictures.flatten(0, 1))
        spread = diversity(features.view(*pictures.shape[:2], -1))
    distance = frechet_distance(judge.features(real), judge.features(first))
    return Scores(distance, explained(wanted, shrunk), spread)


def score_translator(
    translator: Translator, data: ImageSet, judge: Judge, samples: int = 2, temperature: float = 1.0, seed: int = 0
) -> tuple[Scores, Tensor]:
    """Scores of a super-resolution translator on held-out ``data``, and the pictures ``(N, samples, 3, S, S)``.

    Every input gets residuals of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    real = torch.cat(list(data.batches(250)))
    pictures = []
    for part in real.split(250):
        condition = translator.source.encode(part).repeat_interleave(samples, 0)
        latent = translator.flow.sample(condition, temperature, generator)
        pictures.append(translator.target.decode(latent).view(len(part), samples, *part.shape[1:]))
    pictures = torch.cat(pictures)
    return score_pictures(pictures, real, translator.source, judge), pictures
