"""ALAE, the adversarial latent autoencoder: a style-based GAN whose critic reads styles back. F maps noise to styles w,
G draws pictures from them, E reads a style off a picture, D scores a style. G ∘ F is the generator, D ∘ E the only
critic; because E ∘ G is trained to be the identity on styles, E and G are an autoencoder as well. Source: Pidhorskyi et
al. 2020 and its code."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from .stylegan import AdaIN, Blur, EqualConv2d, EqualLinear, PixelNorm, instance_norm

_RATE = 0.1  # learning rate of F and D in shares of the others'


@dataclass(frozen=True)
class ALAEConfig:
    """Sizes."""

    channels: tuple[int, ...] = (96, 96, 64, 32)  # of both halves at 4×4 pixels, 8×8, …; the last is the picture's size
    latent: int = 64  # length of z and of the style w
    mapping: int = 8  # layers between them
    colours: int = 3  # channels of a picture, or of a cell of latents
    fused_from: int = 128  # side in pixels from which resampling and convolution are published as one operation
    bounded: bool = True  # whether ``decode`` clamps to [−1, 1]; latents have no bounds

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.channels) < 2 or min(*self.channels, self.latent, self.mapping, self.colours) < 1:
            raise CourseError(f"ALAE needs channels for two sizes or more, and positive sizes, not {self}.")

    @property
    def size(self) -> int:
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def slots(self) -> int:
        """Styles that a decoder reads: two a block."""
        return 2 * len(self.channels)


PUBLISHED_ALAE: dict[str, ALAEConfig] = {
    "ffhq": ALAEConfig((512, 512, 512, 512, 256, 128, 64, 32, 16), 512),
    "celeba": ALAEConfig((256, 256, 256, 256, 128, 64), 256),
    "celebahq256": ALAEConfig((512, 512, 512, 512, 256, 128, 64), 512),
    "bedroom": ALAEConfig((512, 512, 512, 256, 128, 64, 32), 512),
    "mnist": ALAEConfig((256, 256, 128, 64), 32, 4, 1),
}
"""The released configurations: FFHQ at 1024 pixels, CelebA at 128, CelebA-HQ and LSUN bedrooms at 256, MNIST at 32."""


class LayerNoise(nn.Module):
    """Noise ``(B, 1, H, W)`` with a learned strength for each channel (0 at first), then bias and LeakyReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        x = torch.addcmul(x, self.strength.to(x.dtype), noise.to(x.dtype))
        return F.leaky_relu(x + self.bias.to(x.dtype), 0.2)


class DecoderBlock(nn.Module):
    """Constant, or doubling → conv → blur; noise → LeakyReLU → style → conv → noise → LeakyReLU → style."""

    def __init__(self, level: int, config: ALAEConfig):
        super().__init__()
        channels, self.first, self.size = config.channels[level], level == 0, 4 * 2**level
        if not self.first:
            resample = "transposed" if self.size >= config.fused_from else "up"
            self.conv1 = EqualConv2d(config.channels[level - 1], channels, resample=resample, rate=1.0, bias=False)
            self.blur = Blur()
        self.noise1, self.style1 = LayerNoise(channels), AdaIN(channels, config.latent, 1.0)
        self.conv2 = EqualConv2d(channels, channels, rate=1.0, bias=False)
        self.noise2, self.style2 = LayerNoise(channels), AdaIN(channels, config.latent, 1.0)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Maps after the block, of those before, styles ``(B, 2, latent)`` and maps of noise ``(B, 2, H, W)``."""
        if not self.first:
            x = self.blur(self.conv1(x))
        x = self.style1(self.noise1(x, noise[:, :1]), w[:, 0])
        return self.style2(self.noise2(self.conv2(x), noise[:, 1:]), w[:, 1])


class Decoder(nn.Module):
    """Styles and noise to pictures; only the last to-RGB draws, the others are kept as in the files."""

    def __init__(self, config: ALAEConfig):
        super().__init__()
        self.slots = config.slots
        self.constant = nn.Parameter(torch.ones(1, config.channels[0], 4, 4))
        self.blocks = nn.ModuleList([DecoderBlock(level, config) for level in range(len(config.channels))])
        colours = config.colours
        self.to_rgb = nn.ModuleList([EqualConv2d(width, colours, 1, gain=0.03, rate=1.0) for width in config.channels])

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise, two maps ``(count, 2, H, W)`` a block; drawn on the CPU: a seed means the same everywhere."""
        device = self.constant.device
        return [torch.randn(count, 2, b.size, b.size, generator=generator).to(device) for b in self.blocks]

    def same_noise(self, count: int) -> list[Tensor]:
        """The same noise for every picture and every call, so that decoding is a function."""
        return [one.expand(count, -1, -1, -1) for one in self.noise(1, torch.Generator().manual_seed(0))]

    def forward(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Pictures ``(B, colours, S, S)``, about [−1, 1], unbounded, of styles ``(B, latent)``, or one a slot, ``(B,
        slots, latent)``, and noise as :meth:`noise` gives it."""
        if w.ndim == 2:
            w = w[:, None].expand(-1, self.slots, -1)
        x = self.constant.expand(len(w), -1, -1, -1)
        for block, styles, maps in zip(self.blocks, w.split(2, 1), noise, strict=True):
            x = block(x, styles, maps)
        return self.to_rgb[-1](x)


class EncoderBlock(nn.Module):
    """conv → LeakyReLU → style → norm → blur → conv with halving → LeakyReLU → style → norm."""

    def __init__(self, inputs: int, outputs: int, latent: int):
        super().__init__()
        self.blur = Blur()
        self.conv1 = EqualConv2d(inputs, inputs, rate=1.0, bias=False)
        self.conv2 = EqualConv2d(inputs, outputs, resample="down", rate=1.0, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.bias2 = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        self.style1, self.style2 = (EqualLinear(2 * width, latent, rate=1.0) for width in (inputs, outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(B, inputs, H, W)`` → maps ``(B, outputs, H/2, W/2)`` and styles ``(B, latent)``."""
        x = self.conv1(x)
        x, moments = instance_norm(F.leaky_relu(x + self.bias1.to(x.dtype), 0.2))
        style = self.style1(moments)
        x = self.conv2(self.blur(x))
        x, moments = instance_norm(F.leaky_relu(x + self.bias2.to(x.dtype), 0.2))
        return x, style + self.style2(moments)


class Encoder(nn.Module):
    """Pictures in [−1, 1] to styles ``(B, latent)``: the sum of what is read off the statistics of all blocks' maps."""

    def __init__(self, config: ALAEConfig):
        super().__init__()
        # The last block halves 4 pixels to 2, without more channels.
        widths = [*config.channels[::-1], config.channels[0]]
        self.from_rgb = nn.ModuleList([EqualConv2d(config.colours, width, 1, rate=1.0) for width in widths[:-1]])
        self.blocks = nn.ModuleList([EncoderBlock(*pair, config.latent) for pair in pairwise(widths)])

    def forward(self, images: Tensor) -> Tensor:
        # The published code rectifies twice here: slope 0.2² for what is negative.
        x, styles = F.leaky_relu(self.from_rgb[0](images), 0.04), []
        for block in self.blocks:
            x, style = block(x)
            styles.append(style)
        return sum(styles)


class _Linears(nn.Module):
    """Linear layers of ``widths``, each followed by a LeakyReLU of one of the ``slopes``, 1 for none."""

    def __init__(self, widths: Sequence[int], slopes: Sequence[float], rate: float):
        super().__init__()
        self.layers, self.slopes = nn.ModuleList([EqualLinear(*pair, rate=rate) for pair in pairwise(widths)]), slopes

    def run(self, x: Tensor) -> Tensor:
        for layer, slope in zip(self.layers, self.slopes, strict=True):
            x = F.leaky_relu(layer(x), slope)
        return x


class StyleMapping(_Linears):
    """F: pixel norm, then linear layers with LeakyReLU; ``(B, latent)`` → ``(B, latent)``."""

    def __init__(self, latent: int, layers: int):
        super().__init__([latent] * (layers + 1), [0.2] * layers, _RATE)
        self.norm = PixelNorm()

    def forward(self, z: Tensor) -> Tensor:
        return self.run(self.norm(z))


class LatentScore(_Linears):
    """D: scores ``(B,)``, real high, of styles: three linear layers without activation, so one affine function, of
    whose ``outputs`` one is ``chosen``."""

    def __init__(self, latent: int, outputs: int, chosen: int):
        super().__init__([latent, latent, latent, outputs], [1.0] * 3, _RATE)
        self.chosen = chosen

    def forward(self, w: Tensor) -> Tensor:
        return self.run(w)[:, self.chosen]


class ALAEGenerator(nn.Module):
    """F and G. ``mean (slots, latent)`` is the mean style; zero until :meth:`set_mean`."""

    def __init__(self, mapping: StyleMapping, decoder: nn.Module, latent: int, slots: int = 1):
        super().__init__()
        self.mapping, self.decoder, self.latent = mapping, decoder, latent
        self.register_buffer("mean", torch.zeros(slots, latent))

    @torch.no_grad()
    def set_mean(self, count: int = 4096) -> None:
        """Measures the mean style over ``count`` draws."""
        z = torch.randn(count, self.latent, generator=torch.Generator().manual_seed(0))
        self.mean.copy_(self.mapping(z.to(self.mean.device)).mean(0))

    def styles(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Styles ``(B, latent)``, or ``(B, slots, latent)`` where the slots differ or are truncated, of noise of one of
        these shapes; truncation 0 gives the mean style to all; 0.7 as published."""
        w = self.mapping(z.flatten(0, -2)).view(z.shape)
        return w if truncation == 1.0 else torch.lerp(self.mean, w if w.ndim == 3 else w[:, None], truncation)

    def forward(
        self, z: Tensor, noise: Sequence[Tensor] | None = None, truncation: float = 1.0, styled: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Pictures of noise vectors ``z``, or with ``styled`` of styles, and their styles; by default with fresh
        noise."""
        w = z if styled else self.styles(z, truncation)
        return self.decoder(w, self.decoder.noise(len(z)) if noise is None else noise), w


class ALAE(nn.Module):
    """The four networks; ``encode`` and ``decode`` make it a target expert with latents ``(latent_dim,)``."""

    def __init__(self, config: ALAEConfig):
        super().__init__()
        self.config, self.latent_dim, self.condition_shape = config, config.latent, (config.latent,)
        mapping = StyleMapping(config.latent, config.mapping)
        self.generator = ALAEGenerator(mapping, Decoder(config), config.latent, config.slots)
        self.encoder = Encoder(config)
        self.score = LatentScore(config.latent, 2 * config.latent, config.latent)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Styles ``(B, latent)`` of pictures ``(B, colours, S, S)`` in [−1, 1]; a CourseError for another size."""
        shape = (self.config.colours, self.config.size, self.config.size)
        if images.shape[1:] != shape:
            wanted, given = ", ".join(map(str, shape)), tuple(images.shape)
            raise CourseError(f"this encoder takes pictures (B, {wanted}), not {given}: use course_lib.data.resize.")
        return self.encoder(images)

    @torch.no_grad()
    def decode(self, latent: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures in [−1, 1], or unbounded latents: ``(B, colours, S, S)``, of styles ``(B, latent)``, or one a slot;
        by default with :meth:`Decoder.same_noise`."""
        decoder = self.generator.decoder
        drawn = decoder(latent, decoder.same_noise(len(latent)) if noise is None else noise)
        return drawn.clamp(-1.0, 1.0) if self.config.bounded else drawn


@dataclass(frozen=True)
class MLPALAEConfig:
    """Sizes: length of z and w, width of the hidden layers, layers of F, side of the pictures in pixels."""

    latent: int = 50
    hidden: int = 1024
    mapping: int = 6
    size: int = 28


class MLPDecoder(_Linears):
    """G: styles ``(B, latent)`` to grey pictures ``(B, 1, S, S)``, about [−1, 1]; there is no noise."""

    def __init__(self, widths: Sequence[int], size: int):
        super().__init__(widths, (0.01, 0.01, 1.0), 1.0)
        self.size = size

    def noise(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        return []

    def forward(self, w: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        # The layers work in [0, 1], as published.
        return 2 * self.run(w).view(-1, 1, self.size, self.size) - 1


class MLPEncoder(_Linears):
    """E: pictures ``(B, 1 or 3, S, S)`` in [−1, 1] to styles ``(B, latent)``; three channels are averaged."""

    def __init__(self, widths: Sequence[int], size: int):
        super().__init__(widths, (0.2, 0.2, 0.01), 1.0)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.size, self.size):
            raise CourseError(f"this encoder takes pictures of {self.size} pixels: use course_lib.data.resize.")
        return self.run((images.mean(1) + 1).flatten(1) / 2)


class MLPALAE(nn.Module):
    """The permutation-invariant version of the paper, for digits; a target expert with the names of :class:`ALAE`.
    Source: the authors' branch ``mnist_ref`` (W-space revision)."""

    def __init__(self, config: MLPALAEConfig = MLPALAEConfig()):
        super().__init__()
        self.config, self.latent_dim, self.condition_shape = config, config.latent, (config.latent,)
        widths = (config.latent, config.hidden, config.hidden, config.size**2)
        decoder = MLPDecoder(widths, config.size)
        self.generator = ALAEGenerator(StyleMapping(config.latent, config.mapping), decoder, config.latent)
        self.encoder = MLPEncoder(widths[::-1], config.size)
        self.score = LatentScore(config.latent, config.latent, 0)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        return self.generator.decoder(latent).clamp(-1.0, 1.0).expand(-1, 3, -1, -1)
