"""ALAE, the adversarial latent autoencoder: a style-based GAN whose critic reads styles back.

Four networks: F maps noise to styles w, G draws pictures from them, E reads a style off a picture, D scores a style.
G ∘ F is the generator and D ∘ E its critic; there is no other discriminator. Because E ∘ G is trained to be the
identity on styles, E and G are an autoencoder as well. Source: Pidhorskyi et al. 2020 and its code.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .alae_config import ALAEConfig
from .alae_decoder import Decoder
from .alae_encoder import Encoder
from .alae_layers import ScaledLinear
from .stylegan import PixelNorm

__all__ = ["ALAE", "ALAEGenerator", "LatentScore", "StyleMapping"]

_RATE = 0.1
"""Learning rate of F and D in shares of the others'."""


class StyleMapping(nn.Module):
    """F: pixel norm, then linear layers with LeakyReLU; ``(B, latent)`` → ``(B, latent)``."""

    def __init__(self, latent: int, layers: int, explicit: bool = False):
        super().__init__()
        self.norm = PixelNorm()
        self.layers = nn.ModuleList(
            [ScaledLinear(latent, latent, rate=_RATE, explicit=explicit) for _ in range(layers)]
        )

    def forward(self, z: Tensor) -> Tensor:
        """Noise to styles."""
        w = self.norm(z)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2)
        return w


class LatentScore(nn.Module):
    """D: three linear layers without activation, so one affine function of w, written as a product of three.

    Args:
        latent: length of w.
        outputs: of the last layer; the published style-based D has ``2 · latent``.
        chosen: which of them is the score; the others are never used.
        explicit: see :mod:`course_lib.gans.alae_layers`.
    """

    def __init__(self, latent: int, outputs: int, chosen: int, explicit: bool = False):
        super().__init__()
        self.chosen = chosen
        self.layers = nn.ModuleList(
            [ScaledLinear(latent, width, rate=_RATE, explicit=explicit) for width in (latent, latent, outputs)]
        )

    def forward(self, w: Tensor) -> Tensor:
        """Scores ``(B,)``, real high."""
        for layer in self.layers:
            w = layer(w)
        return w[:, self.chosen]


class ALAEGenerator(nn.Module):
    """F and G.

    Attributes:
        mean: ``(slots, latent)``: mean style, towards which truncation pulls; zero until :meth:`set_mean`.
    """

    def __init__(self, mapping: StyleMapping, decoder: nn.Module, latent: int, slots: int = 1):
        super().__init__()
        self.mapping, self.decoder, self.latent = mapping, decoder, latent
        self.register_buffer("mean", torch.zeros(slots, latent))

    @torch.no_grad()
    def set_mean(self, count: int = 4096, seed: int = 0) -> None:
        """Measures the mean style over ``count`` draws."""
        z = torch.randn(count, self.latent, generator=torch.Generator().manual_seed(seed))
        self.mean.copy_(self.mapping(z.to(self.mean.device)).mean(0))

    def styles(self, z: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Styles of noise.

        Args:
            z: ``(B, latent)``, or one a slot, ``(B, slots, latent)``, as :func:`mix_styles` gives.
            truncation: 1 keeps styles as they are, 0 gives the mean style to all; 0.7 as published.
            cutoff: how many slots are truncated, 8 as published; all by default.

        Returns:
            ``(B, latent)``, or ``(B, slots, latent)`` where the slots differ.
        """
        w = self.mapping(z.flatten(0, -2)).view(z.shape)
        if truncation == 1.0:
            return w
        slots = len(self.mean)
        w = w[:, None].expand(-1, slots, -1) if w.ndim == 2 else w
        share = torch.ones(slots, 1, device=w.device)
        share[:cutoff] = truncation
        return torch.lerp(self.mean.expand_as(w), w, share.expand_as(w))

    def forward(
        self,
        z: Tensor,
        noise: Sequence[Tensor] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styled: bool = False,
        **growing: Any,
    ) -> tuple[Tensor, Tensor]:
        """Pictures of noise vectors, and their styles.

        Args:
            z, truncation, cutoff: see :meth:`styles`.
            noise: of the decoder's ``noise``; fresh by default.
            styled: ``z`` holds styles already, for example of the encoder.
            growing: ``size`` and ``alpha`` of :meth:`course_lib.gans.alae_decoder.Decoder.forward`.
        """
        noise = self.decoder.noise(len(z)) if noise is None else noise
        w = z if styled else self.styles(z, truncation, cutoff)
        return self.decoder(w, noise, **growing), w


class ALAE(nn.Module):
    """The four networks; ``encode`` and ``decode`` make it a target expert.

    Attributes:
        latent_dim: length of a style.
        condition_shape: ``(latent_dim,)``.
    """

    def __init__(self, config: ALAEConfig):
        super().__init__()
        self.config, self.latent_dim = config, config.latent
        self.condition_shape = (config.latent,)
        mapping = StyleMapping(config.latent, config.mapping, config.explicit)
        self.generator = ALAEGenerator(mapping, Decoder(config), config.latent, config.slots)
        self.encoder = Encoder(config)
        self.score = LatentScore(config.latent, 2 * config.latent, config.latent, config.explicit)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Styles ``(B, latent)`` of pictures ``(B, colours, S, S)`` in [−1, 1]; what MindGAN learns to make.

        Raises:
            CourseError: pictures of another size.
        """
        if images.shape[1:] != (self.config.colours, self.config.size, self.config.size):
            raise CourseError(
                f"this encoder takes pictures (B, {self.config.colours}, {self.config.size}, {self.config.size}), not "
                f"{tuple(images.shape)}: use course_lib.data.resize."
            )
        return self.encoder(images)

    @torch.no_grad()
    def decode(self, latent: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures in [−1, 1], or unbounded latents: ``(B, colours, S, S)``, of styles ``(B, latent)``, or one a slot.

        The same noise for every picture and every call unless it is given, so that decoding is a function.
        """
        if noise is None:
            one = self.generator.decoder.noise(1, torch.Generator().manual_seed(0))
            noise = [part.expand(len(latent), -1, -1, -1) for part in one]
        drawn = self.generator.decoder(latent, noise)
        return drawn.clamp(-1.0, 1.0) if self.config.bounded else drawn
