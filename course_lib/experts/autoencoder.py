"""A convolutional autoencoder with a flat, KL-regularised latent: the target (and low-resolution source) expert.

Follows the role of the autoencoders of Net2Net (Rombach et al. 2020, Table 3) at a size that two cores can train.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["Autoencoder", "AutoencoderConfig", "Posterior"]


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
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
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


class _Residual(nn.Module):
    """``x + convolution(ReLU(norm(x)))``."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.norm(x)))


class Autoencoder(nn.Module):
    """Images ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, D)``."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        widths = [3, *config.encoder_widths]
        self.encoder = nn.Sequential()
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            self.encoder.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
            self.encoder.append(_Residual(outputs))
        self.encoder.append(nn.BatchNorm2d(widths[-1]))
        self.to_posterior = nn.Linear(widths[-1] * 16, 2 * config.latent_dim)
        widths = [*config.decoder_widths[::-1]]
        self.start_width = config.encoder_widths[-1]
        self.from_latent = nn.Linear(config.latent_dim, self.start_width * 16)
        self.decoder = nn.Sequential(_Residual(self.start_width))
        for inputs, outputs in zip([self.start_width, *widths], widths, strict=False):
            self.decoder.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False))
            self.decoder.append(_Residual(outputs))
        self.decoder.append(nn.BatchNorm2d(widths[-1]))
        self.decoder.append(nn.ReLU())
        self.to_image = nn.Conv2d(widths[-1], 3, 3, 1, 1)

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
        features = F.relu(self.encoder(images.contiguous(memory_format=torch.channels_last)))
        mean, log_variance = self.to_posterior(features.flatten(1)).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-30.0, 10.0))

    def render(self, latent: Tensor) -> Tensor:
        """Like :meth:`decode`, with gradients."""
        x = self.from_latent(latent).view(-1, self.start_width, 4, 4).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.to_image(self.decoder(x)))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Posterior]:
        """Reconstruction and posterior; ``noise (B, D)`` samples the latent, None takes its mean."""
        posterior = self.posterior(images)
        latent = posterior.mean
        if noise is not None:
            latent = latent + noise * (0.5 * posterior.log_variance).exp()
        return self.render(latent), posterior

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Posterior mean, detached."""
        return self.posterior(images).mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Images in [−1, 1]."""
        return self.render(latent)
