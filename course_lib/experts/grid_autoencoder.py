"""An autoencoder whose latent is a small grid: every cell speaks for its own patch of the picture.

The flat autoencoder squeezes a whole picture through one vector, and what it never saw it draws badly. A grid shares
its weights between places, so a new emoji is made of known patches (held out: 27 dB against 20). The price is four
times the numbers, and a latent that knows where things are but less of what they are. The role is that of the target
expert of Net2Net (Rombach et al. 2020); latents in a grid are those of the later VQGAN (Esser et al. 2021).
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .autoencoder import Autoencoder, Posterior, Residual, doublings, halvings

__all__ = ["GridAutoencoder", "GridAutoencoderConfig", "GridExpert"]


@dataclass(frozen=True)
class GridAutoencoderConfig:
    """Sizes of a grid autoencoder.

    Attributes:
        size: side of the images in pixels, a multiple of 2^(number of widths).
        channels: numbers in one cell of the grid.
        encoder_widths: channels after each halving, finest first.
        decoder_widths: channels after each doubling, finest first.
        centre, scale: of each channel, measured after training, see :class:`course_lib.experts.LatentSpace`.
    """

    size: int = 64
    channels: int = 8
    encoder_widths: tuple[int, ...] = (32, 64, 128)
    decoder_widths: tuple[int, ...] = (24, 64, 128)
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("encoder_widths", "decoder_widths", "centre", "scale"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.size % self.patch or len(self.encoder_widths) != len(self.decoder_widths):
            raise CourseError(
                f"{len(self.encoder_widths)} encoder and {len(self.decoder_widths)} decoder widths do not fit "
                f"{self.size} px: give as many of both, and a size that can be halved that often."
            )

    @property
    def patch(self) -> int:
        """Side in pixels of what one cell covers."""
        return 2 ** len(self.encoder_widths)

    @property
    def side(self) -> int:
        """Cells along one side of the grid."""
        return self.size // self.patch

    @property
    def latent_dim(self) -> int:
        """Numbers in one latent: channels · side²."""
        return self.channels * self.side**2

    def to_dict(self) -> dict:
        """JSON-able constructor arguments."""
        return asdict(self)


class GridAutoencoder(Autoencoder):
    """Images ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, C · G · G)``, the flattened grid ``(C, G, G)``."""

    config: GridAutoencoderConfig

    def _build(self, config: GridAutoencoderConfig) -> None:
        last, start = config.encoder_widths[-1], config.decoder_widths[-1]
        self.encoder = nn.Sequential(*halvings(config.encoder_widths), Residual(last), nn.BatchNorm2d(last))
        self.linear_in = nn.Conv2d(3, config.channels, config.patch, config.patch)
        self.linear_out = nn.ConvTranspose2d(config.channels, 3, config.patch, config.patch)
        self.to_posterior = nn.Conv2d(last, 2 * config.channels, 3, 1, 1)
        self.from_latent = nn.Conv2d(config.channels, start, 3, 1, 1)
        self.decoder = nn.Sequential(
            Residual(start), Residual(start), *doublings(start, config.decoder_widths, deep=64)
        )
        self.to_image = nn.Conv2d(config.decoder_widths[0], 3, 3, 1, 1)

    def _posterior(self, images: Tensor) -> Posterior:
        features = F.relu(self.encoder(images.contiguous(memory_format=torch.channels_last)))
        mean, log_variance = self.to_posterior(features).chunk(2, dim=1)
        # In float32 whatever the convolutions compute in: a divergence of a thousand numbers adds up their rounding.
        mean = mean.float() + self.linear_in(images).float()
        return Posterior(mean.flatten(1), log_variance.float().flatten(1).clamp(-30.0, 10.0))

    def render(self, latent: Tensor) -> Tensor:
        """Like :meth:`decode`, with gradients and not clamped."""
        grid = latent.view(-1, self.config.channels, self.config.side, self.config.side)
        x = self.from_latent(grid).contiguous(memory_format=torch.channels_last)
        return self.linear_out(grid) + self.to_image(self.decoder(x))

    @torch.no_grad()
    def start_from_pca(self, images: Tensor) -> None:
        """Sets the linear paths to the principal components of patches and silences the convolutions.

        Args:
            images: ``(N, 3, S, S)``; every seventh patch is used.

        Raises:
            CourseError: more channels than numbers in a patch, or too few patches for them.
        """
        patch, channels = self.config.patch, self.config.channels
        if channels > 3 * patch**2:
            raise CourseError(f"there are {3 * patch**2} components at most, not {channels}.")
        patches = F.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1)[::7].double()
        if len(patches) < 2 * patches.shape[1]:
            raise CourseError(f"{len(images)} images are too few for components of patches: take more.")
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        deviation = values.flip(0)[:channels].clamp_min(1e-6).sqrt()
        components = vectors.flip(1)[:, :channels]
        shape = (channels, 3, patch, patch)
        self.linear_in.weight.copy_((components / deviation).T.reshape(shape))
        self.linear_in.bias.copy_(-(mean @ components) / deviation)
        self.linear_out.weight.copy_((components * deviation).T.reshape(shape))
        self.linear_out.bias.copy_(mean.view(3, -1).mean(1))
        for layer in (self.to_posterior, self.to_image):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.to_posterior.bias[channels:] = -4.0


class GridExpert:
    """Source expert: a grid autoencoder whose latent keeps its shape, so that a cell hears what lies in its place.

    Args:
        autoencoder: frozen.
    """

    def __init__(self, autoencoder: GridAutoencoder):
        config = autoencoder.config
        self.autoencoder, self.condition_shape = autoencoder, (config.channels, config.side, config.side)

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, C, G, G)`` of images in [−1, 1], detached."""
        return self.autoencoder.encode(x).view(-1, *self.condition_shape)
