"""The latents of a frozen autoencoder as what a GAN draws.

Ours, for GANs in a latent space as Mind2Mind trains them (Frégier and Gouray 2020): a cell of the grid stands for a
patch of the picture, and its numbers move that patch by very different amounts. A discriminator that sees all of them
alike spends its attention on what nobody can see. So each channel is scaled by what one unit of it does to the pixels.
"""

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from .autoencoder import GridAutoencoder

__all__ = ["LatentSpace", "measure_latents"]

NOISE = 0.1
"""Standard deviation of the noise that real and drawn latents get before a discriminator sees them, in this space: what
a decoder does not show must not be told apart."""


@torch.no_grad()
def measure_latents(
    autoencoder: GridAutoencoder, images: Tensor, step: float = 0.5
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Centre and scale of each channel.

    Args:
        autoencoder: frozen.
        images: ``(N, 3, S, S)`` in [−1, 1], a few hundred.
        step: by which a channel is moved to see how much the pixels follow.

    Returns:
        The channels' means, and scales inversely proportional to the root-mean-square change of the pixels; divided by
        them, the latents of ``images`` have variance 1 over all channels.
    """
    device, config = next(autoencoder.parameters()).device, autoencoder.config
    latent = torch.cat([autoencoder.encode(part.to(device)) for part in images.split(100)])
    grid = latent.view(-1, config.channels, config.side, config.side)
    draws, moved = torch.Generator().manual_seed(0), torch.zeros(config.channels, dtype=torch.float64)
    # Each cell by its own sign: what neighbours do to each other's pixels cancels on average.
    signs = torch.randn(len(grid), config.side, config.side, generator=draws).sign().to(device)
    for part, sign in zip(grid.split(100), signs.split(100), strict=True):
        before = autoencoder.render(part.flatten(1))
        for channel in range(config.channels):
            after = part.clone()
            after[:, channel] += step * sign
            moved[channel] += (autoencoder.render(after.flatten(1)) - before).square().sum().item()
    scale = moved.rsqrt().float()
    spread = grid.var((0, 2, 3)).cpu() / scale.square()
    scale = scale * spread.mean().sqrt()
    return tuple(grid.mean((0, 2, 3)).tolist()), tuple(scale.tolist())


class LatentSpace:
    """Pictures ↔ scaled latents.

    Args:
        autoencoder: frozen, its channels measured (:func:`measure_latents`).

    Attributes:
        shape: ``(C, G, G)``.

    Raises:
        CourseError: an autoencoder that was not measured.
    """

    def __init__(self, autoencoder: GridAutoencoder):
        config, device = autoencoder.config, next(autoencoder.parameters()).device
        if len(config.scale) != config.channels:
            raise CourseError(
                "this autoencoder's latents were not measured: take avatar-autoencoder, or measure_latents."
            )
        self.autoencoder, self.shape = autoencoder, (config.channels, config.side, config.side)
        self.centre = torch.tensor(config.centre, device=device).view(1, -1, 1, 1)
        self.scale = torch.tensor(config.scale, device=device).view(1, -1, 1, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] → ``(B, C, G, G)``, mean 0 and variance 1 over all channels together."""
        return (self.autoencoder.encode(images).view(-1, *self.shape) - self.centre) / self.scale

    def encode_set(self, data: ImageSet) -> Tensor:
        """All pictures of a set, on the CPU in half precision."""
        device = self.centre.device
        return torch.cat([self.encode(part.to(device)).cpu().half() for part in data.batches(250)])

    def unscaled(self, latents: Tensor) -> Tensor:
        """``(B, C, G, G)`` → the autoencoder's own latents, ``(B, C · G · G)``."""
        return (latents.float() * self.scale + self.centre).flatten(1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The way back: ``(B, C, G, G)`` → pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return torch.cat([self.autoencoder.decode(part) for part in self.unscaled(latents).split(100)])
