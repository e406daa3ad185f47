"""How good a transferred GAN is, beside the best that any MindGAN could be with these frozen halves."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import ImageSet
from ..evaluation.distances import frechet_distance
from ..evaluation.feature_cache import real_features
from ..evaluation.features import FeatureNetwork
from .codes import Frozen, encode_set, expert_device
from .transferred import TransferredGAN

__all__ = ["TransferScores", "auto_encoding_ceiling", "gaussian_baseline", "score_transfer"]


@dataclass(frozen=True)
class TransferScores:
    """Fréchet distances; ``features`` says of what. Both sides have as many pictures as the real set.

    Attributes:
        real: samples against real target pictures.
        ceiling: decoded codes of the real pictures against these pictures: what a perfect MindGAN would reach.
        to_ceiling: samples against decoded codes: what MindGAN itself misses.
        codes: of generated codes against real ones, in latent space.
    """

    real: float
    ceiling: float
    to_ceiling: float
    codes: float
    features: str


def _decoded_features(expert: Frozen, codes: torch.Tensor, network: FeatureNetwork) -> torch.Tensor:
    device = expert_device(expert)
    return torch.cat([network.features(expert.decode(part.to(device)).cpu()) for part in codes.split(250)])


def auto_encoding_ceiling(expert: Frozen, data: ImageSet, network: FeatureNetwork, folder: Path | None = None) -> float:
    """Fréchet distance of decode(encode(x)) to x: measure it before anything is trained.

    Args:
        expert: frozen.
        data: target pictures.
        network: gives the features.
        folder: of cached codes and features.
    """
    real = real_features(data, network, expert.config.size, folder)
    return frechet_distance(real, _decoded_features(expert, encode_set(expert, data, folder), network))


def gaussian_baseline(
    expert: Frozen,
    codes: torch.Tensor,
    data: ImageSet,
    network: FeatureNetwork,
    seed: int = 0,
    folder: Path | None = None,
) -> float:
    """Fréchet distance of decoded Gaussian codes, with the mean and covariance of ``codes``: no training at all.

    Args:
        expert: frozen.
        codes: ``(N, D)`` of the training pictures.
        data: held-out target pictures; as many codes are drawn.
        network: gives the features.
        seed: of the draw.
        folder: of cached features.
    """
    # A little on the diagonal: fewer pictures than dimensions leave directions without any variance.
    factor = torch.linalg.cholesky(torch.cov(codes.T) + 1e-4 * torch.eye(codes.shape[1]))
    draws = torch.randn(len(data), codes.shape[1], generator=torch.Generator().manual_seed(seed))
    real = real_features(data, network, expert.config.size, folder)
    return frechet_distance(real, _decoded_features(expert, codes.mean(0) + draws @ factor.T, network))


def score_transfer(
    transferred: TransferredGAN, data: ImageSet, network: FeatureNetwork, seed: int = 0, folder: Path | None = None
) -> TransferScores:
    """Scores on real target pictures that were not trained on.

    Args:
        transferred: what is scored.
        data: held-out target pictures, at least two.
        network: gives the features, for example ``judge_features()``.
        seed: of the noise.
        folder: of cached codes and features.

    Raises:
        CourseError: fewer than two pictures.
    """
    expert = transferred.expert
    real, codes = real_features(data, network, transferred.size, folder), encode_set(expert, data, folder)
    found = transferred.codes(transferred.noise(len(data), seed)).cpu()
    samples, ceiling = (_decoded_features(expert, part, network) for part in (found, codes))
    return TransferScores(
        frechet_distance(real, samples),
        frechet_distance(real, ceiling),
        frechet_distance(ceiling, samples),
        frechet_distance(codes, found),
        network.name,
    )
