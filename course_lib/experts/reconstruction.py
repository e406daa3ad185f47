"""The autoencoder's losses: L1 + perceptual with a learned variance, a patch critic, and their adaptive balance.

Source: Net2Net, ``LPIPSWithDiscriminator`` (the same loss later trained VQGAN, Esser et al. 2021). Differences, on
purpose: features come from the course's own classifier instead of VGG16 (no download), and channels weigh equally.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..gans.losses import hinge_critic
from .classifier import Classifier

__all__ = ["PatchDiscriminator", "adaptive_weight", "hinge_loss", "perceptual_distance", "reconstruction_nll"]


class PatchDiscriminator(nn.Module):
    """A small convolutional critic that scores overlapping patches (Isola et al. 2017).

    Images ``(B, 3, S, S)`` → ``(B, 1, s, s)``, real high. Two halvings, one fewer than published, as suits 64 pixels.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 1, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Patch scores."""
        return self.main(images)


def perceptual_distance(classifier: Classifier, images: Tensor, reconstructions: Tensor) -> Tensor:
    """``(B,)``: squared distance of unit-length feature vectors, averaged over places, summed over the four stages.

    Gradients flow to ``reconstructions`` only. Source: LPIPS (Zhang et al. 2018) without its learned channel weights.
    """
    with torch.no_grad():
        targets = [F.normalize(m, dim=1, eps=1e-6) for m in classifier.maps(images)]
    distance = 0.0
    for target, found in zip(targets, classifier.maps(reconstructions), strict=True):
        distance = distance + (F.normalize(found, dim=1, eps=1e-6) - target).square().sum(1).mean((1, 2))
    return distance


def reconstruction_nll(absolute: Tensor, perceptual: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over images of Σ rec / exp(log_variance) + log_variance, over pixels and channels.

    Args:
        absolute: |x − x̂| ``(B, 3, S, S)``.
        perceptual: ``(B,)``, added to *every* element before the sum (so it counts 3·S·S times), already weighted.
        log_variance: learned scalar.
    """
    rec = absolute + perceptual[:, None, None, None]
    return (rec / log_variance.exp() + log_variance).sum() / len(absolute)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss: 0.5 · [mean relu(1 − D(x)) + mean relu(1 + D(x̂))]."""
    return 0.5 * hinge_critic(real, fake)


def adaptive_weight(nll_gradient: Tensor, critic_gradient: Tensor, factor: float) -> Tensor:
    """Weight that makes the critic's gradient at the last layer ``factor`` times as long as the reconstruction's.

    clamp(‖∂nll/∂w‖ / (‖∂g/∂w‖ + 1e-4), 0, 1e4) · factor, detached.
    """
    ratio = nll_gradient.norm() / (critic_gradient.norm() + 1e-4)
    return ratio.clamp(0.0, 1e4).detach() * factor
