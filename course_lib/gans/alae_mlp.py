"""ALAE without convolutions, for digits of 28 pixels: the permutation-invariant version of the paper.

Source: the authors' branch ``mnist_ref`` (W-space revision); their main branch no longer runs this version.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .alae import ALAEGenerator, LatentScore, StyleMapping
from .alae_layers import ScaledLinear

__all__ = ["MLPALAE", "MLPALAEConfig"]


@dataclass(frozen=True)
class MLPALAEConfig:
    """Sizes: length of z and w, width of the hidden layers, layers of F, side of the pictures in pixels."""

    latent: int = 50
    hidden: int = 1024
    mapping: int = 6
    size: int = 28

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


class _Layers(nn.Module):
    """Three scaled linear layers with LeakyReLU of these slopes, 1 for none."""

    def __init__(self, widths: tuple[int, int, int, int], slopes: tuple[float, float, float]):
        super().__init__()
        self.slopes = slopes
        self.layers = nn.ModuleList([ScaledLinear(a, b) for a, b in zip(widths, widths[1:], strict=False)])

    def forward(self, x: Tensor) -> Tensor:
        for layer, slope in zip(self.layers, self.slopes, strict=True):
            x = F.leaky_relu(layer(x), slope)
        return x


class MLPDecoder(nn.Module):
    """G: styles to grey pictures; no noise, no activation at the end."""

    def __init__(self, config: MLPALAEConfig):
        super().__init__()
        self.size = config.size
        self.layers = _Layers((config.latent, config.hidden, config.hidden, config.size**2), (0.01, 0.01, 1.0))

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """None: the counterpart of the style-based decoder's."""
        return []

    def forward(self, w: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """``(B, latent)`` → ``(B, 1, S, S)``, about [−1, 1]; the layers work in [0, 1], as published."""
        return 2 * self.layers(w).view(-1, 1, self.size, self.size) - 1


class MLPEncoder(nn.Module):
    """E: grey pictures to styles."""

    def __init__(self, config: MLPALAEConfig):
        super().__init__()
        self.size = config.size
        self.layers = _Layers((config.size**2, config.hidden, config.hidden, config.latent), (0.2, 0.2, 0.01))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1 or 3, S, S)`` in [−1, 1] → ``(B, latent)``; three channels are averaged.

        Raises:
            CourseError: pictures of another size.
        """
        if images.shape[-2:] != (self.size, self.size):
            raise CourseError(f"this encoder takes pictures of {self.size} pixels: use course_lib.data.resize.")
        return self.layers((images.mean(1) + 1).flatten(1) / 2)


class MLPALAE(nn.Module):
    """The four networks; ``encode`` and ``decode`` make it a target expert, with the names of :class:`ALAE`.

    Attributes:
        latent_dim: length of a style.
        condition_shape: ``(latent_dim,)``.
    """

    def __init__(self, config: MLPALAEConfig | None = None):
        super().__init__()
        self.config = config = config or MLPALAEConfig()
        self.latent_dim, self.condition_shape = config.latent, (config.latent,)
        self.generator = ALAEGenerator(StyleMapping(config.latent, config.mapping), MLPDecoder(config), config.latent)
        self.encoder, self.score = MLPEncoder(config), LatentScore(config.latent, config.latent, 0)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Styles ``(B, latent)`` of pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.encoder(images)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Grey pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.generator.decoder(latent).clamp(-1.0, 1.0).expand(-1, 3, -1, -1)
