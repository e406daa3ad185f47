"""How good a transferred GAN is, beside the best that any MindGAN could be with these frozen halves."""

from pathlib import Path

import torch
from torch import Tensor

from ..data import ImageSet
from ..evaluation.distances import frechet_distance
from ..evaluation.features import FeatureNetwork, real_features
from ..experts import TargetExpert
from .halves import encode_set, expert_device
from .transfer import TransferredGAN

__all__ = ["decoded_distance", "draw_gaussian", "score_transfer"]


def decoded_distance(
    expert: TargetExpert, codes: Tensor, data: ImageSet, network: FeatureNetwork, folder: Path | None = None
) -> float:
    """Fréchet distance of decoded codes to real pictures.

    With codes of *other* real pictures of the target this is the **ceiling**: a perfect g₀ draws codes of the target's
    law, so it is what that would score. Measure it before anything is trained. Pictures against their own
    reconstructions would score better than any generator can, for both show the same few things.

    Args:
        expert: frozen.
        codes: ``(N, D)``, best as many as there are pictures.
        data: held-out target pictures.
        network: gives the features, for example ``judge_features()``.
        folder: of cached features.
    """
    real, device = real_features(data, network, expert.config.size, folder), expert_device(expert)
    parts = [network.features(expert.decode(part.to(device)).cpu()) for part in codes.split(250)]
    return frechet_distance(real, torch.cat(parts))


def draw_gaussian(codes: Tensor, count: int, seed: int = 0) -> Tensor:
    """``(count, D)`` draws of a Gaussian with the mean and covariance of ``codes``: a rival without any training."""
    # A little on the diagonal: fewer pictures than dimensions leave directions without any variance.
    factor = torch.linalg.cholesky(torch.cov(codes.T) + 1e-4 * torch.eye(codes.shape[1]))
    draws = torch.randn(count, codes.shape[1], generator=torch.Generator().manual_seed(seed))
    return codes.mean(0) + draws @ factor.T


def score_transfer(
    gan: TransferredGAN, codes: Tensor, data: ImageSet, network: FeatureNetwork, seed: int = 0
) -> dict[str, float]:
    """Fréchet distances to real target pictures that were not trained on, all of about as many.

    Args:
        gan: what is scored.
        codes: of its training pictures.
        data: held-out target pictures, at least two.
        network: gives the features.
        seed: of all draws.

    Returns:
        ``Mind2Mind``: samples; ``ceiling``; ``Gaussian``: of :func:`draw_gaussian`; ``codes``: of generated codes to
        held-out ones, in latent space.
    """
    count, found = len(data), gan.codes(gan.noise(len(data), seed)).cpu()
    some = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:count]]
    sets = {"Mind2Mind": found, "ceiling": some, "Gaussian": draw_gaussian(codes, count, seed)}
    distances = {name: decoded_distance(gan.expert, part, data, network) for name, part in sets.items()}
    return distances | {"codes": frechet_distance(encode_set(gan.expert, data, progress=False), found)}
