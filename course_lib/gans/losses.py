"""Losses of GANs and the regularisers that go with them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["hinge_critic", "hinge_generator", "orthogonal_penalty"]


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 − D(x)) + mean relu(1 + D(G(z))): what the critic minimises (Lim and Ye 2017)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−mean D(G(z))."""
    return -fake.mean()


def orthogonal_penalty(network: nn.Module) -> Tensor:
    """Σ ‖W Wᵀ ∘ (1 − I)‖² over weight matrices: BigGAN's relaxed orthogonality, which permits strong truncation.

    Tables of classes are left out, as published.
    """
    total = torch.zeros(())
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            rows = module.weight.flatten(1)
            gram = rows @ rows.T
            total = total.to(gram) + (gram - gram.diagonal().diag()).square().sum()
    return total
