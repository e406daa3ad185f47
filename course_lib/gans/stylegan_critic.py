"""StyleGAN's discriminator, and the gradient penalty it is trained with."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .equalized import Blur, EqualConv2d, EqualLinear, FusedDownsample, four_shifts
from .stylegan import StyleGANConfig

__all__ = ["StyleGANCritic", "r1_penalty"]


class CriticBlock(nn.Module):
    """conv → LeakyReLU → blur → conv with halving → LeakyReLU; without blur and halving where the size stays."""

    def __init__(self, inputs: int, outputs: int, fused: bool, halves: bool = True):
        super().__init__()
        self.conv1, self.blur, self.fused, self.halves = EqualConv2d(inputs, outputs, 3), Blur(), fused, halves
        self.conv2 = FusedDownsample(outputs, outputs) if fused else EqualConv2d(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` → ``(B, outputs, H/2, W/2)``."""
        x = F.leaky_relu(self.conv1(x), 0.2)
        if not self.halves:
            return F.leaky_relu(self.conv2(x), 0.2)
        x = self.blur(x)
        if self.fused:
            return F.leaky_relu(self.conv2(x), 0.2)
        # The convolution and the mean over 2×2 pixels in one strided convolution: the same function, half the products.
        kernel = four_shifts(self.conv2.weight * self.conv2.scale)
        return F.leaky_relu(F.conv2d(x, kernel, self.conv2.bias, stride=2, padding=1), 0.2)


class StyleGANCritic(nn.Module):
    """Pictures to scores, real high.

    Args:
        config: of the generator.
        classes: with more than one, a score a class; the label picks one.
    """

    def __init__(self, config: StyleGANConfig, classes: int = 1):
        super().__init__()
        self.config = config
        channels = config.critic[::-1]
        self.sizes = config.sizes[::-1]
        self.from_rgb = nn.ModuleList([EqualConv2d(config.colours, width, 1) for width in channels])
        self.blocks = nn.ModuleList(
            [
                CriticBlock(inputs, outputs, size >= config.fused_from, size > after)
                for inputs, outputs, (size, after) in zip(channels, channels[1:], pairwise(self.sizes), strict=False)
            ]
        )
        self.last = nn.ModuleList(
            [EqualConv2d(channels[-1] + 1, channels[-1], 3), EqualConv2d(channels[-1], channels[-1], 4, padding=0)]
        )
        self.head = EqualLinear(channels[-1], classes)

    def features(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """``(B, 3, S, S)`` → ``(B, C)``. Smaller pictures enter at their own block (progressive growing).

        Args:
            images: S is the full size or a smaller size of a block, at least 8.
            alpha: share of the block of that size; the rest comes from the halved picture.
        """
        if images.shape[-1] not in self.sizes[:-1]:
            taken = ", ".join(map(str, dict.fromkeys(self.sizes[:-1])))
            raise CourseError(f"this critic takes {taken} pixels, not {images.shape[-1]}.")
        entry = self.sizes.index(images.shape[-1])
        x = F.leaky_relu(self.from_rgb[entry](images), 0.2)
        for index in range(entry, len(self.blocks)):
            x = self.blocks[index](x)
            if index == entry and alpha < 1.0:
                small = F.leaky_relu(self.from_rgb[entry + 1](F.avg_pool2d(images, 2)), 0.2)
                x = torch.lerp(small, x, alpha)
        # How much the pictures of the batch differ, as one more channel: a critic that sees it notices collapse.
        spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(len(x), 1, 4, 4)
        x = F.leaky_relu(self.last[0](torch.cat([x, spread], 1)), 0.2)
        return F.leaky_relu(self.last[1](x), 0.2)[:, :, 0, 0]

    def forward(self, images: Tensor, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Scores ``(B,)``; ``labels: (B,)`` is needed with more than one class."""
        scores = self.head(self.features(images, alpha))
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None])[:, 0]


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² on real pictures (Mescheder et al. 2018); ``images`` must require a gradient. Usual weight 10/2."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
