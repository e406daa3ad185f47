"""Losses of GANs and the regularisers that go with them."""

from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "hinge_critic",
    "hinge_generator",
    "latent_reciprocity",
    "logistic_critic",
    "logistic_generator",
]


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 − D(x)) + mean relu(1 + D(G(z))): what the critic minimises (Lim and Ye 2017)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−mean D(G(z))."""
    return -fake.mean()


def logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(−D(x)) + mean softplus(D(G(z))): the original critic's loss (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """mean softplus(−D(G(z))), the non-saturating loss."""
    return F.softplus(-fake).mean()


def latent_reciprocity(found: Tensor, w: Tensor) -> Tensor:
    """mean (E(G(w)) − w)² over batch and dimensions: ALAE's autoencoder loss, which looks at styles, not at pixels.

    The target is detached; w also made the picture that E read, so its mapping learns too, through the picture.

    Args:
        found: ``(B, latent)``, styles read off pictures.
        w: ``(B, latent)``, the styles that made them.
    """
    return F.mse_loss(found.float(), w.detach().float())
