"""G of ALAE: styles and noise to pictures. StyleGAN's synthesis network with small differences."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .alae_config import ALAEConfig
from .alae_layers import LayerNoise, ScaledConv2d, ScaledLinear, standardise
from .equalized import Blur

__all__ = ["Decoder"]


class StyleNorm(nn.Module):
    """Adaptive instance norm; the style gives gain minus one, then offset."""

    def __init__(self, channels: int, config: ALAEConfig):
        super().__init__()
        self.style = ScaledLinear(config.latent, 2 * channels, gain=1.0, explicit=config.explicit)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, style ``(B, latent)`` → maps."""
        gain, offset = self.style(w)[:, :, None, None].chunk(2, 1)
        x, _ = standardise(x, 1e-8)
        return torch.addcmul(offset.to(x.dtype), x, (gain + 1).to(x.dtype))


class DecoderBlock(nn.Module):
    """Constant, or doubling → conv → blur; noise → LeakyReLU → style → conv → noise → LeakyReLU → style."""

    def __init__(self, level: int, config: ALAEConfig):
        super().__init__()
        channels = config.channels[level]
        self.size = 4 * 2**level
        self.first = level == 0
        if not self.first:
            self.conv1 = ScaledConv2d(
                config.channels[level - 1],
                channels,
                resample="transposed" if self.size >= config.fused_from else "up",
                explicit=config.explicit,
            )
            self.blur = Blur()
        self.noise1, self.style1 = LayerNoise(channels, level), StyleNorm(channels, config)
        self.conv2 = ScaledConv2d(channels, channels, explicit=config.explicit)
        self.noise2, self.style2 = LayerNoise(channels, level), StyleNorm(channels, config)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Maps after the block.

        Args:
            x: maps of the block before; for the first block the constant.
            w: two styles, ``(B, 2, latent)``.
            noise: ``(B, 2, H, W)``, one map for each of the two places, or None.
        """
        if not self.first:
            x = self.blur(self.conv1(x))
        x = self.style1(self.noise1(x, None if noise is None else noise[:, :1]), w[:, 0])
        x = self.noise2(self.conv2(x), None if noise is None else noise[:, 1:])
        return self.style2(x, w[:, 1])


class Decoder(nn.Module):
    """Styles and noise to pictures."""

    def __init__(self, config: ALAEConfig):
        super().__init__()
        self.config = config
        self.constant = nn.Parameter(torch.ones(1, config.channels[0], 4, 4))
        self.blocks = nn.ModuleList([DecoderBlock(level, config) for level in range(len(config.channels))])
        self.to_rgb = nn.ModuleList(
            [
                ScaledConv2d(channels, config.colours, 1, gain=0.03, bias=True, explicit=config.explicit)
                for channels in config.channels
            ]
        )

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise, two maps ``(count, 2, H, W)`` a block; drawn on the CPU: a seed means the same everywhere."""
        device = self.constant.device
        return [torch.randn(count, 2, b.size, b.size, generator=generator).to(device) for b in self.blocks]

    def forward(
        self, w: Tensor, noise: Sequence[Tensor] | None = None, size: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, colours, size, size)``, about [−1, 1], unbounded.

        Args:
            w: ``(B, latent)``, one style for all, or ``(B, 2 · blocks, latent)``.
            noise: of :meth:`noise`; None takes the published stand-in, see :class:`LayerNoise`.
            size: stop at this size (progressive growing); the full one by default.
            alpha: share of the last block; the rest is the enlarged picture of the block before.

        Raises:
            CourseError: there is no block of that size.
        """
        if w.ndim == 2:
            w = w[:, None].expand(-1, self.config.slots, -1)
        size = self.config.size if size is None else size
        sizes = [block.size for block in self.blocks]
        if size not in sizes:
            raise CourseError(f"this decoder draws {', '.join(map(str, sizes))} pixels, not {size}.")
        last = sizes.index(size)
        x, before = self.constant.expand(len(w), -1, -1, -1), None
        for index, block in enumerate(self.blocks[: last + 1]):
            before = x
            x = block(x, w[:, 2 * index : 2 * index + 2], None if noise is None else noise[index])
        picture = self.to_rgb[last](x)
        if alpha < 1.0 and last:
            small = F.interpolate(self.to_rgb[last - 1](before), scale_factor=2)
            picture = torch.lerp(small, picture, alpha)
        return picture
