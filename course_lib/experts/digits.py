"""The autoencoder of 28-pixel digits that Mind2Mind takes as a source: no GAN at all.

Source: README of Mind2Mind (Frégier and Gouray 2021). Kernels and strides are not published; these give the published
sizes. It is trained with mean squared error and Adam, 1e-3, (0.9, 0.9).
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError

__all__ = ["DigitAutoencoder", "DigitConfig"]


@dataclass(frozen=True)
class DigitConfig:
    """Sizes; ``size`` is fixed by the strides.

    Attributes:
        latent: length of a code.
        encoder, decoder: channels of the convolutions, in their order.
        size: side in pixels.
    """

    latent: int = 256
    encoder: tuple[int, ...] = (32, 64, 128)
    decoder: tuple[int, ...] = (64, 64, 64, 32)
    size: int = 28

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


class DigitAutoencoder(nn.Module):
    """c₁: three convolutions with instance norm, a linear layer, tanh. g₁: a linear layer, four transposed ones, tanh.

    Pictures are grey: three channels are averaged on the way in and repeated on the way out.

    Attributes:
        latent_dim: length of a code; codes lie in (−1, 1).
        condition_shape: ``(latent_dim,)``.
    """

    def __init__(self, config: DigitConfig | None = None):
        super().__init__()
        self.config = config = config or DigitConfig()
        self.latent_dim, self.condition_shape = config.latent, (config.latent,)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([1, *config.encoder]):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
        layers += [nn.Flatten(), nn.Linear(16 * config.encoder[-1], config.latent), nn.Tanh()]
        self.encoder = nn.Sequential(*layers)
        first, *rest = config.decoder
        layers = [nn.Linear(config.latent, 16 * first), nn.ReLU(), nn.Unflatten(1, (first, 4, 4))]
        # 4 → 7 → 14 → 28 pixels.
        for (inputs, outputs), kernel in zip(pairwise([first, *rest]), (3, 4, 4), strict=True):
            up = nn.ConvTranspose2d(inputs, outputs, kernel, 2, 1)
            layers += [up, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.ConvTranspose2d(rest[-1], 1, 3, 1, 1), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        """Grey reconstructions ``(B, 1, 28, 28)`` of ``(B, 3, 28, 28)``, with gradients.

        Raises:
            CourseError: pictures of another size.
        """
        if images.shape[-2:] != (self.config.size,) * 2:
            raise CourseError(
                f"this autoencoder takes pictures of {self.config.size} pixels: use course_lib.data.resize."
            )
        return self.decoder(self.encoder(images.mean(1, keepdim=True)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes ``(B, latent)`` of pictures ``(B, 3, 28, 28)`` in [−1, 1]."""
        return self.encoder(images.mean(1, keepdim=True))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Grey pictures ``(B, 3, 28, 28)`` in [−1, 1]."""
        return self.decoder(latent).expand(-1, 3, -1, -1)
