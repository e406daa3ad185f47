"""A convolutional autoencoder with a flat, KL-regularised latent: the target (and low-resolution source) expert.

Follows the role of the autoencoders of Net2Net (Rombach et al. 2020, Table 3) at a size that two cores can train. A
linear path at 16 pixels runs beside the convolutions on both sides; see :meth:`Autoencoder.start_from_pca`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["Autoencoder", "AutoencoderConfig", "Posterior", "Residual", "doublings", "halvings"]

_LINEAR_SIZE = 16
"""Side in pixels of the pictures that the linear paths see and draw."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an autoencoder.

    Attributes:
        size: side of the images in pixels, 4 · 2^(number of widths).
        latent_dim: numbers in one latent.
        encoder_widths: channels after each halving, finest first.
        decoder_widths: channels after each doubling, finest first.
    """

    size: int = 64
    latent_dim: int = 128
    encoder_widths: tuple[int, ...] = (32, 64, 128, 192)
    decoder_widths: tuple[int, ...] = (16, 64, 96, 160)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_widths", tuple(self.encoder_widths))
        object.__setattr__(self, "decoder_widths", tuple(self.decoder_widths))
        if self.size != 4 * 2 ** len(self.encoder_widths) or len(self.encoder_widths) != len(self.decoder_widths):
            raise CourseError(
                f"{len(self.encoder_widths)} encoder and {len(self.decoder_widths)} decoder widths do not fit "
                f"{self.size} px: one width for each halving down to 4 px."
            )

    def to_dict(self) -> dict:
        """JSON-able constructor arguments."""
        return asdict(self)


@dataclass
class Posterior:
    """Diagonal Gaussian over latents: ``mean`` and ``log_variance``, both ``(B, D)``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One latent per image; the generator's device must be the mean's, or the noise is drawn on the CPU."""
        device = generator.device if generator is not None else self.mean.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device).to(self.mean)
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def kl(self) -> Tensor:
        """KL divergence to N(0, I) in nats, ``(B,)``."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance).sum(1)


class Residual(nn.Module):
    """``x + convolution(ReLU(norm(x)))``."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.norm(x)))


def halvings(widths: Sequence[int]) -> Iterator[nn.Module]:
    """Layers from three channels to the last of ``widths``; each width halves the side."""
    for inputs, outputs in pairwise([3, *widths]):
        yield nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        yield Residual(outputs)


def doublings(start: int, widths: Sequence[int], deep: int) -> Iterator[nn.Module]:
    """Layers from ``start`` channels to the first of ``widths``, named finest first; each width doubles the side.

    Widths of ``deep`` channels and more get a second block: depth is cheap where the map is small.
    """
    for inputs, outputs in pairwise([start, *widths[::-1]]):
        yield nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        yield Residual(outputs)
        if outputs >= deep:
            yield Residual(outputs)
    yield nn.BatchNorm2d(widths[0])
    yield nn.ReLU()


class Autoencoder(nn.Module):
    """Images ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, D)``."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self._build(config)

    def _build(self, config: AutoencoderConfig) -> None:
        last = config.encoder_widths[-1]
        self.encoder = nn.Sequential(*halvings(config.encoder_widths), nn.BatchNorm2d(last))
        pixels = 3 * _LINEAR_SIZE**2
        self.linear_in, self.linear_out = nn.Linear(pixels, config.latent_dim), nn.Linear(config.latent_dim, pixels)
        self.to_posterior = nn.Linear(last * 16, 2 * config.latent_dim)
        self.start_width = last
        self.from_latent = nn.Linear(config.latent_dim, self.start_width * 16)
        self.decoder = nn.Sequential(
            Residual(self.start_width), *doublings(self.start_width, config.decoder_widths, deep=96)
        )
        self.to_image = nn.Conv2d(config.decoder_widths[0], 3, 3, 1, 1)

    @property
    def latent_dim(self) -> int:
        """Numbers in one latent; the target expert's protocol."""
        return self.config.latent_dim

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """Shape of a latent as a condition; the source expert's protocol."""
        return (self.config.latent_dim,)

    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each image.

        Raises:
            CourseError: images of another size.
        """
        if images.shape[1:] != (3, self.config.size, self.config.size):
            raise CourseError(
                f"this autoencoder takes images (B, 3, {self.config.size}, {self.config.size}), not "
                f"{tuple(images.shape)}: use course_lib.data.resize."
            )
        return self._posterior(images)

    def _posterior(self, images: Tensor) -> Posterior:
        features = F.relu(self.encoder(images.contiguous(memory_format=torch.channels_last)))
        mean, log_variance = self.to_posterior(features.flatten(1)).chunk(2, dim=1)
        small = F.adaptive_avg_pool2d(images, _LINEAR_SIZE).flatten(1)
        return Posterior(mean + self.linear_in(small), log_variance.clamp(-30.0, 10.0))

    def render(self, latent: Tensor) -> Tensor:
        """Like :meth:`decode`, with gradients and not clamped."""
        x = self.from_latent(latent).view(-1, self.start_width, 4, 4).contiguous(memory_format=torch.channels_last)
        small = self.linear_out(latent).view(-1, 3, _LINEAR_SIZE, _LINEAR_SIZE)
        base = F.interpolate(small, (self.config.size,) * 2, mode="bilinear", align_corners=False)
        return base + self.to_image(self.decoder(x))

    @torch.no_grad()
    def start_from_pca(self, images: Tensor) -> None:
        """Sets the linear paths to the principal components of ``images (N, 3, S, S)`` and silences the convolutions.

        The latent is then the whitened projection, so training starts from the best linear autoencoder of its size
        instead of noise, and the convolutions learn what a linear map cannot do.

        Raises:
            CourseError: fewer than two images for each number of the latent, or more of those than small pixels.
        """
        if self.latent_dim > self.linear_out.out_features:
            raise CourseError(f"there are {self.linear_out.out_features} components at most, not {self.latent_dim}.")
        if len(images) < 2 * self.latent_dim:
            raise CourseError(f"{len(images)} images are too few for {self.latent_dim} components: take twice as many.")
        small = F.adaptive_avg_pool2d(images, _LINEAR_SIZE).flatten(1)
        mean = small.mean(0)
        _, singular, components = torch.linalg.svd(small - mean, full_matrices=False)
        components = components[: self.latent_dim].T
        # Pictures that vary in fewer directions than this leave components that are only rounding.
        deviation = (singular[: self.latent_dim] / len(small) ** 0.5).clamp_min(1e-3)
        self.linear_in.weight.copy_((components / deviation).T)
        self.linear_in.bias.copy_(-(mean @ components) / deviation)
        self.linear_out.weight.copy_(components * deviation)
        self.linear_out.bias.copy_(mean)
        for layer in (self.to_posterior, self.to_image):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.to_posterior.bias[self.latent_dim :] = -4.0

    def forward(
        self, images: Tensor, noise: Tensor | None = None, further: Tensor | None = None
    ) -> tuple[Tensor, Posterior]:
        """Reconstruction and posterior; ``noise (B, D)`` samples the latent, ``further (B, D)`` is added to it."""
        posterior = self.posterior(images)
        latent = posterior.mean
        if noise is not None:
            latent = latent + noise * (0.5 * posterior.log_variance).exp()
        return self.render(latent if further is None else latent + further), posterior

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Posterior mean, detached."""
        return self.posterior(images).mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Images in [−1, 1]."""
        return self.render(latent).clamp(-1.0, 1.0)
