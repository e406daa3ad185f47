"""Super-resolution: few pixels as the condition, the latent of a sharp picture as the answer (paper §4)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, resize
from ..errors import CourseError
from ..evaluation import Judge, diversity, frechet_distance
from ..experts import Autoencoder
from .translator import Translator

__all__ = ["LowResolution", "Scores", "enlarge", "explained", "score_pictures", "score_translator"]


class LowResolution:
    """Source expert: a picture of any size, shrunk to ``size`` pixels.

    Args:
        size: side of the shrunk picture.
        autoencoder: encodes the shrunk picture, as in the paper. Without one the shrunk picture itself is the
            condition, ``(3, size, size)``: eight pixels are short enough as they are.
        kernel: how to shrink. ``area`` averages; ``nearest`` keeps one pixel of each square, which is what the released
            code does and its own autoencoder has never seen.

    Raises:
        CourseError: another kernel.
    """

    def __init__(self, size: int, autoencoder: Autoencoder | None = None, kernel: str = "area"):
        if kernel not in ("area", "nearest"):
            raise CourseError(f"there is no kernel {kernel!r}: choose area or nearest.")
        self.size, self.autoencoder, self.kernel = size, autoencoder, kernel
        self.condition_shape = (3, size, size) if autoencoder is None else autoencoder.condition_shape

    def shrink(self, x: Tensor) -> Tensor:
        """The low-resolution pictures ``(B, 3, size, size)``."""
        if self.kernel == "nearest" and x.shape[-1] != self.size:
            return F.interpolate(x, (self.size, self.size), mode="nearest")
        return resize(x, self.size)

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, *condition_shape)``, detached."""
        small = self.shrink(x)
        return small.detach() if self.autoencoder is None else self.autoencoder.encode(small)


@dataclass(frozen=True)
class Scores:
    """How good pictures are as enlargements of known low-resolution pictures.

    Attributes:
        frechet: distance to the real pictures, judge features; lower is better.
        consistency: share of the condition's variance that survives enlarging and shrinking again; 1 is exact.
        diversity: mean judge-feature distance of two samples for one input; 0 means no choice at all.
        psnr: peak signal-to-noise ratio to the real picture in dB, peak 2, from the mean squared error over all
            pictures.
    """

    frechet: float
    consistency: float
    diversity: float
    psnr: float


def enlarge(pictures: Tensor, size: int, mode: str = "bicubic") -> Tensor:
    """Enlarges ``(B, 3, s, s)`` without any learning: ``bicubic`` or ``nearest``, clamped to [−1, 1]."""
    if mode == "nearest":
        return F.interpolate(pictures, (size, size), mode="nearest")
    return F.interpolate(pictures, (size, size), mode=mode, align_corners=False).clamp(-1, 1)


def explained(wanted: Tensor, found: Tensor) -> float:
    """1 − Σ‖wanted − found‖² / Σ‖wanted − mean‖²: explained share of variance of ``(N, K)`` rows.

    Raises:
        CourseError: different shapes, or fewer than two rows.
    """
    if wanted.shape != found.shape or len(wanted) < 2:
        raise CourseError(
            f"explained variance compares two sets of one shape with two rows or more, not {tuple(wanted.shape)} and "
            f"{tuple(found.shape)}."
        )
    return (1.0 - (wanted - found).square().sum() / (wanted - wanted.mean(0)).square().sum()).item()


def score_pictures(
    pictures: Tensor, real: Tensor, source: LowResolution, judge: Judge, real_features: Tensor | None = None
) -> Scores:
    """Scores ``pictures (N, samples, 3, S, S)`` against the ``real (N, 3, S, S)`` ones they stand for.

    The Fréchet distance uses the first sample of each input, so that both sets have N pictures. Who scores several sets
    against one passes ``real_features (N, F)``, the judge's features of ``real``, and saves their computation.
    """
    first = pictures[:, 0]
    shrunk = torch.cat([source.encode(part) for part in first.split(250)])
    wanted = torch.cat([source.encode(part) for part in real.split(250)])
    features = judge.features(pictures.flatten(0, 1)).view(*pictures.shape[:2], -1)
    spread = diversity(features) if pictures.shape[1] > 1 else 0.0
    distance = frechet_distance(judge.features(real) if real_features is None else real_features, features[:, 0])
    psnr = (10 * (4.0 / (real - first).square().mean().clamp_min(1e-10)).log10()).item()
    return Scores(distance, explained(wanted.flatten(1), shrunk.flatten(1)), spread, psnr)


def score_translator(
    translator: Translator, data: ImageSet, judge: Judge, samples: int = 2, temperature: float = 1.0, seed: int = 0
) -> tuple[Scores, Tensor]:
    """Scores of a super-resolution translator on held-out ``data``, and the pictures ``(N, samples, 3, S, S)``.

    Every input gets residuals of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(translator.flow.parameters()).device
    real = torch.cat(list(data.batches(250))).to(device)
    pictures = []
    for part in real.split(250):
        condition = translator.source.encode(part).repeat_interleave(samples, 0)
        latent = translator.flow.sample(condition, temperature, generator)
        pictures.append(translator.target.decode(latent).view(len(part), samples, *part.shape[1:]))
    pictures = torch.cat(pictures)
    return score_pictures(pictures, real, translator.source, judge), pictures
