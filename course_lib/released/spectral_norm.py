"""The spectral norm of the released BigGAN: one power iteration from a stored vector that is never updated."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SpectralNorm", "normalised_weight"]

_EPSILON = 1e-4


def normalised_weight(weight: Tensor, u: Tensor) -> Tensor:
    """``weight / σ`` with σ from one power iteration.

    ``torch.nn.utils`` iterates on and on while it trains, stores what it found and normalises by max(‖·‖, ε); here
    every call starts at the same ``u``, and lengths are ‖·‖ + ε. The weights fit this σ, so no better one will do.

    Args:
        weight: ``(R, ...)``, not normalised.
        u: ``(R,)``, the stored left vector.

    References:
        Miyato et al. 2018, section 2; GANalyze and CompVis/net2net for ε and for what is not written back.
    """
    matrix = weight.flatten(1)
    v = _unit(matrix.T @ u)
    u = _unit(matrix @ v)
    return weight / (u @ (matrix @ v))


def _unit(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + _EPSILON)


class SpectralNorm(nn.Module):
    """A linear or convolution layer whose weight is divided by its spectral norm at every call.

    Its tensors are ``module.{bias, weight_u, weight_v, weight_bar}``. ``weight_v`` is read by nobody, and as long as
    ``weight_u``, whatever the layer's width; it is there because it is in the files.

    Args:
        layer: loses its parameter ``weight``.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.module = layer
        weight = layer.weight
        del layer.weight
        for name in ("weight_u", "weight_v"):
            start = torch.randn(len(weight), device=weight.device)
            layer.register_parameter(name, nn.Parameter(_unit(start), requires_grad=False))
        layer.register_parameter("weight_bar", weight)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.module
        weight = normalised_weight(layer.weight_bar, layer.weight_u)
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)
