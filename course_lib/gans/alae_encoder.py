"""E of ALAE: pictures to styles. A discriminator's trunk whose answer is read off the statistics of its maps."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .alae_config import ALAEConfig
from .alae_layers import ScaledConv2d, ScaledLinear, standardise
from .equalized import Blur

__all__ = ["Encoder"]


class EncoderBlock(nn.Module):
    """conv → LeakyReLU → style → norm → blur → conv with halving → LeakyReLU → style → norm."""

    def __init__(self, inputs: int, outputs: int, config: ALAEConfig):
        super().__init__()
        self.blur = Blur()
        self.conv1 = ScaledConv2d(inputs, inputs, explicit=config.explicit)
        self.conv2 = ScaledConv2d(inputs, outputs, resample="down", explicit=config.explicit)
        self.bias1 = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.bias2 = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        self.style1 = ScaledLinear(2 * inputs, config.latent, explicit=config.explicit)
        self.style2 = ScaledLinear(2 * outputs, config.latent, explicit=config.explicit)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(B, inputs, H, W)`` → maps ``(B, outputs, H/2, W/2)`` and styles ``(B, latent)``."""
        x = self.conv1(x)
        x, moments = standardise(F.leaky_relu(x + self.bias1.to(x.dtype), 0.2), 1e-5)
        style = self.style1(moments)
        x = self.conv2(self.blur(x))
        x, moments = standardise(F.leaky_relu(x + self.bias2.to(x.dtype), 0.2), 1e-5)
        return x, style + self.style2(moments)


class Encoder(nn.Module):
    """Pictures to styles: the sum of what all blocks read."""

    def __init__(self, config: ALAEConfig):
        super().__init__()
        self.config = config
        # The last block halves 4 pixels to 2, without more channels.
        widths = [*config.channels[::-1], config.channels[0]]
        self.from_rgb = nn.ModuleList(
            [ScaledConv2d(config.colours, width, 1, bias=True, explicit=config.explicit) for width in widths[:-1]]
        )
        self.blocks = nn.ModuleList([EncoderBlock(inputs, outputs, config) for inputs, outputs in pairwise(widths)])

    def _enter(self, index: int, images: Tensor) -> Tensor:
        # The published code rectifies twice here: slope 0.2² for what is negative.
        return F.leaky_relu(self.from_rgb[index](images), 0.04)

    def forward(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """Styles ``(B, latent)``.

        Args:
            images: ``(B, colours, S, S)`` in [−1, 1]; S is the full size or that of a block (progressive growing).
            alpha: share of the block of that size; the rest comes from the halved picture.

        Raises:
            CourseError: no block has that size.
        """
        entry = (self.config.size // images.shape[-1]).bit_length() - 1
        if entry < 0 or entry >= len(self.blocks) or images.shape[-1] != self.config.size >> entry:
            raise CourseError(f"this encoder takes {self.config.size} pixels or a half, a quarter, … of them.")
        x, total = self._enter(entry, images), 0.0
        for index in range(entry, len(self.blocks)):
            x, style = self.blocks[index](x)
            if index == entry and alpha < 1.0:
                style = alpha * style
                if index < len(self.blocks) - 1:
                    x = torch.lerp(self._enter(entry + 1, F.avg_pool2d(images, 2)), x, alpha)
            total = total + style
        return total
