"""StyleGAN, first version: a mapping network, and a synthesis network that is steered by styles and fed with noise.

Source: Karras et al. 2019, in the PyTorch port that Hyper-Modulation builds on: one noise map a block, styles that
switch between blocks, √(2 / fan-in) everywhere, no activation after to-RGB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .equalized import Blur, EqualConv2d, EqualLinear, FusedUpsample, NoiseScale

__all__ = ["FFHQ1024", "StyleGAN", "StyleGANConfig", "Synthesis", "mix_styles"]


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes.

    Attributes:
        channels: of the generator's blocks, from 4×4 pixels on; every further block doubles the size, as published.
        critic: channels of the critic's maps, block for block.
        latent: length of z and of the style w.
        mapping: layers between them.
        fused_from: size in pixels from which resampling and convolution are one operation.
        colours: channels of what is drawn: 3 for pictures, those of a cell for the latents of an autoencoder.
        doublings: how many blocks double the size, if not all but the first; those after them keep it. Ours: grids of
            latents are small, and two blocks hold little.
    """

    channels: tuple[int, ...] = (128, 128, 64, 32)
    critic: tuple[int, ...] = (128, 128, 64, 32)
    latent: int = 128
    mapping: int = 8
    fused_from: int = 128
    colours: int = 3
    doublings: int | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "critic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.channels) != len(self.critic) or len(self.channels) < 2:
            raise CourseError(
                f"generator and critic need channels for the same sizes, at least two, not {len(self.channels)} and "
                f"{len(self.critic)}."
            )

    @property
    def sizes(self) -> list[int]:
        """Side of each block's maps."""
        most = len(self.channels) - 1 if self.doublings is None else self.doublings
        return [4 * 2 ** min(index, most) for index in range(len(self.channels))]

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.sizes[-1]

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


_PUBLISHED = (512, 512, 512, 512, 256, 128, 64, 32, 16)
FFHQ1024 = StyleGANConfig(_PUBLISHED, _PUBLISHED, 512)
"""The published configuration; its files hold all nine blocks, whatever resolution they were trained to."""


class PixelNorm(nn.Module):
    """Scales every vector to length √D."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D)`` → ``(B, D)``."""
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class AdaIN(nn.Module):
    """Adaptive instance norm: every channel of every picture is standardised, then scaled and shifted by the style."""

    def __init__(self, channels: int, latent: int):
        super().__init__()
        self.style = EqualLinear(latent, 2 * channels)
        with torch.no_grad():
            self.style.bias[:channels] = 1.0

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)``, style ``(B, latent)`` → maps."""
        gain, bias = self.style(w)[:, :, None, None].chunk(2, 1)
        # Not F.instance_norm: on a CPU it leaves channels-last and bfloat16, which made a step 1.5 times as long.
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x - x.mean((2, 3), keepdim=True, dtype=wide).to(x.dtype)
        variance = x.square().mean((2, 3), keepdim=True, dtype=wide)
        return torch.addcmul(bias.to(x.dtype), x, (gain * (variance + 1e-5).rsqrt()).to(x.dtype))


class Upsample(nn.Module):
    """Doubling by repetition, then a 3×3 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = EqualConv2d(inputs, outputs, 3)

    def forward(self, x: Tensor, convolve: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """``(B, inputs, H, W)`` → ``(B, outputs, 2H, 2W)``; ``convolve`` stands in for the convolution."""
        return (convolve or self.conv)(F.interpolate(x, scale_factor=2))


class Block(nn.Module):
    """Constant or upsampling convolution and blur; noise → LeakyReLU → AdaIN → conv → noise → LeakyReLU → AdaIN."""

    def __init__(self, inputs: int | None, outputs: int, size: int, doubles: bool, config: StyleGANConfig):
        super().__init__()
        self.size = size
        if inputs is None:
            self.constant = nn.Parameter(torch.randn(1, outputs, 4, 4))
        elif not doubles:
            self.conv1 = EqualConv2d(inputs, outputs, 3)
        else:
            self.conv1 = (FusedUpsample if size >= config.fused_from else Upsample)(inputs, outputs)
            self.blur = Blur()
        self.conv2 = EqualConv2d(outputs, outputs, 3)
        self.noise1, self.noise2 = NoiseScale(outputs), NoiseScale(outputs)
        self.adain1, self.adain2 = AdaIN(outputs, config.latent), AdaIN(outputs, config.latent)

    def forward(
        self, x: Tensor | None, w: Tensor, noise: Tensor, convolve: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Maps after the block.

        Args:
            x: maps of the block before, None for the first.
            w: style ``(B, latent)``.
            noise: ``(B, 1, H, W)``, used twice.
            convolve: called in place of each of the block's convolutions, in their order (Hyper-Modulation).
        """
        if x is None:
            x = self.constant.expand(len(w), -1, -1, -1)
        elif isinstance(self.conv1, EqualConv2d):
            x = (convolve or self.conv1)(x)
        elif convolve is not None and isinstance(self.conv1, FusedUpsample):
            x = self.blur(convolve(x))
        else:
            x = self.blur(self.conv1(x) if convolve is None else self.conv1(x, convolve))
        x = self.adain1(F.leaky_relu(self.noise1(x, noise), 0.2), w)
        x = (convolve or self.conv2)(x)
        return self.adain2(F.leaky_relu(self.noise2(x, noise), 0.2), w)


class Synthesis(nn.Module):
    """Styles and noise to pictures."""

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        inputs: list[int | None] = [None, *config.channels[:-1]]
        parts = zip(inputs, config.channels, config.sizes, [0, *config.sizes[:-1]], strict=True)
        self.blocks = nn.ModuleList([Block(i, o, size, size > before, config) for i, o, size, before in parts])
        self.to_rgb = nn.ModuleList([EqualConv2d(channels, config.colours, 1) for channels in config.channels])

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise, one map ``(count, 1, H, W)`` a block; drawn on the CPU: a seed means the same everywhere."""
        device = self.to_rgb[0].weight.device
        return [torch.randn(count, 1, b.size, b.size, generator=generator).to(device) for b in self.blocks]

    def features(self, w: Tensor, noise: Sequence[Tensor]) -> Iterator[Tensor]:
        """The maps after each block in turn.

        Args:
            w: ``(B, latent)``, one style for all blocks, or ``(B, blocks, latent)``.
            noise: of :meth:`noise`.
        """
        x = None
        for index, (block, given) in enumerate(zip(self.blocks, noise, strict=False)):
            x = block(x, w if w.ndim == 2 else w[:, index], given)
            yield x

    def forward(self, w: Tensor, noise: Sequence[Tensor], size: int | None = None, alpha: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, size, size)``, about [−1, 1], unbounded.

        Args:
            w: see :meth:`features`.
            noise: see :meth:`noise`.
            size: stop at this size (progressive growing); the full one by default.
            alpha: share of the last block; the rest is the enlarged picture of the block before.

        Raises:
            CourseError: there is no block of that size.
        """
        sizes = [block.size for block in self.blocks]
        size = sizes[-1] if size is None else size
        if size not in sizes:
            raise CourseError(f"this generator draws {', '.join(map(str, dict.fromkeys(sizes)))} pixels, not {size}.")
        before, last = None, len(sizes) - 1 - sizes[::-1].index(size)
        for index, x in enumerate(self.features(w, noise)):
            if index == last:
                picture = self.to_rgb[index](x)
                if alpha < 1.0 and before is not None:
                    picture = torch.lerp(F.interpolate(self.to_rgb[index - 1](before), scale_factor=2), picture, alpha)
                return picture
            before = x
        raise CourseError(f"{len(noise)} noise maps do not reach {size} pixels: give one a block.")


class StyleGAN(nn.Module):
    """Noise to pictures through styles."""

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [PixelNorm()]
        for _ in range(config.mapping):
            layers += [EqualLinear(config.latent, config.latent), nn.LeakyReLU(0.2)]
        self.mapping, self.synthesis = nn.Sequential(*layers), Synthesis(config)

    @torch.no_grad()
    def mean_style(self, count: int = 4096, seed: int = 0) -> Tensor:
        """``(1, latent)``: the mean of w, towards which truncation pulls."""
        z = torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(seed))
        return self.mapping(z.to(self.synthesis.to_rgb[0].weight.device)).mean(0, keepdim=True)

    def styles(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """w of z, of the same shape; truncation 0 gives the mean style to all."""
        w = self.mapping(z.flatten(0, -2)).view(z.shape)
        return w if truncation == 1.0 else torch.lerp(self.mean_style(), w, truncation)

    def forward(
        self,
        z: Tensor,
        noise: Sequence[Tensor] | None = None,
        truncation: float = 1.0,
        size: int | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """Pictures ``(B, 3, size, size)``.

        Args:
            z: ``(B, latent)``, standard normal, or one a block, ``(B, blocks, latent)``, as :func:`mix_styles` gives.
            noise: one map a block; fresh ones by default.
            truncation: 1 keeps styles as they are, 0 gives the mean style to all.
            size, alpha: see :meth:`Synthesis.forward`.
        """
        w = self.styles(z, truncation)
        return self.synthesis(w, self.synthesis.noise(len(z)) if noise is None else noise, size, alpha)


def mix_styles(w: Tensor, other: Tensor, blocks: int, generator: torch.Generator) -> Tensor:
    """Style mixing: from a block drawn at random for the whole batch on, the second style rules.

    Args:
        w, other: ``(B, latent)``: styles, or the noise vectors that become styles.
        blocks: of the generator.
        generator: CPU generator.

    Returns:
        ``(B, blocks, latent)``.
    """
    cut = int(torch.randint(1, blocks, (1,), generator=generator))
    return torch.stack([w if index < cut else other for index in range(blocks)], 1)
