"""Networks that are experts: autoencoders whose latent is a small grid or a vector, latents or pixels as what a GAN
draws, and classifiers of whole pictures and of their cells, whose inner layers are the course's feature maps. Every
cell of the grid stands for its own patch, so a new picture is made of known ones. The role is that of Net2Net's target
expert (Rombach et al. 2020, table 3) at a size that two cores can train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.image_set import ImageSet
from ..errors import CourseError


@dataclass
class Posterior:
    """Diagonal Gaussian over latents: ``mean`` and ``log_variance``, both ``(B, D)``."""

    mean: Tensor
    log_variance: Tensor

    def std(self, noise: float = 0.0) -> Tensor:
        """Standard deviation ``(B, D)`` of a sample plus Gaussian noise whose own is ``noise``."""
        return (self.log_variance.exp() + noise**2).sqrt()

    def moved(self, noise: Tensor) -> Tensor:
        """The sample ``(B, D)`` that belongs to standard normal ``noise (B, D)``; differentiable."""
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One latent per image; the noise is drawn on the generator's device, else on the mean's."""
        device = generator.device if generator is not None else self.mean.device
        return self.moved(torch.randn(self.mean.shape, generator=generator, device=device).to(self.mean))

    def kl(self) -> Tensor:
        """KL divergence to N(0, I) in nats, ``(B,)``."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance).sum(1)


@dataclass(frozen=True)
class GridAutoencoderConfig:
    """Sizes of a grid autoencoder. A latent has ``latent_dim`` numbers; as a grid it has ``shape`` (C, G, G)."""

    size: int = 64  # side of the images in pixels, a multiple of 2^(number of widths)
    channels: int = 8  # numbers in one cell of the grid
    encoder_widths: tuple[int, ...] = (32, 64, 128)  # channels after each halving, finest first
    decoder_widths: tuple[int, ...] = (24, 64, 128)  # channels after each doubling, finest first
    centre: tuple[float, ...] = ()  # of each channel, measured after training, see LatentSpace
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("encoder_widths", "decoder_widths", "centre", "scale"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.size % self.patch or len(self.encoder_widths) != len(self.decoder_widths):
            widths = f"{len(self.encoder_widths)} encoder and {len(self.decoder_widths)} decoder widths"
            advice = "give as many of both, and a size that can be halved that often"
            raise CourseError(f"{widths} do not fit {self.size} px: {advice}.")

    @property
    def patch(self) -> int:
        """Side in pixels of what one cell covers."""
        return 2 ** len(self.encoder_widths)

    @property
    def side(self) -> int:
        """G, cells along one side of the grid."""
        return self.size // self.patch

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.side, self.side)

    @property
    def latent_dim(self) -> int:
        return self.channels * self.side**2


class _Residual(nn.Module):
    """``x + convolution(ReLU(norm(x)))``."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.norm(x)))


def _halvings(widths: Sequence[int]) -> Iterator[nn.Module]:
    """Layers from three channels to the last of ``widths``; each width halves the side."""
    for inputs, outputs in pairwise([3, *widths]):
        yield nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        yield _Residual(outputs)


def _doublings(start: int, widths: Sequence[int], deep: int = 64) -> Iterator[nn.Module]:
    """From ``start`` channels to the first of ``widths``, each doubles the side; wide ones get a second block."""
    for inputs, outputs in pairwise([start, *widths[::-1]]):
        yield nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        yield from (_Residual(outputs) for _ in range(2 if outputs >= deep else 1))
    yield nn.BatchNorm2d(widths[0])
    yield nn.ReLU()


class GridAutoencoder(nn.Module):
    """Images ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, C · G · G)``, with a linear path beside the convolutions."""

    def __init__(self, config: GridAutoencoderConfig):
        super().__init__()
        self.config, self.latent_dim, self.condition_shape = config, config.latent_dim, (config.latent_dim,)
        last, start = config.encoder_widths[-1], config.decoder_widths[-1]
        self.encoder = nn.Sequential(*_halvings(config.encoder_widths), _Residual(last), nn.BatchNorm2d(last))
        self.linear_in = nn.Conv2d(3, config.channels, config.patch, config.patch)
        self.linear_out = nn.ConvTranspose2d(config.channels, 3, config.patch, config.patch)
        self.to_posterior = nn.Conv2d(last, 2 * config.channels, 3, 1, 1)
        self.from_latent = nn.Conv2d(config.channels, start, 3, 1, 1)
        self.decoder = nn.Sequential(_Residual(start), _Residual(start), *_doublings(start, config.decoder_widths))
        self.to_image = nn.Conv2d(config.decoder_widths[0], 3, 3, 1, 1)

    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each image; another size is a CourseError."""
        size, found = self.config.size, tuple(images.shape)
        if found[1:] != (3, size, size):
            wanted = f"takes images (B, 3, {size}, {size}), not {found}"
            raise CourseError(f"this autoencoder {wanted}: use course_lib.data.resize.")
        features = F.relu(self.encoder(images.contiguous(memory_format=torch.channels_last)))
        mean, log_variance = self.to_posterior(features).chunk(2, dim=1)
        # In float32 whatever the convolutions compute in: a divergence of a thousand numbers adds up their rounding.
        mean = mean.float() + self.linear_in(images).float()
        return Posterior(mean.flatten(1), log_variance.float().flatten(1).clamp(-30.0, 10.0))

    def render(self, latent: Tensor) -> Tensor:
        """Like :meth:`decode`, with gradients and not clamped."""
        grid = latent.view(-1, *self.config.shape)
        x = self.from_latent(grid).contiguous(memory_format=torch.channels_last)
        return self.linear_out(grid) + self.to_image(self.decoder(x))

    @torch.no_grad()
    def start_from_pca(self, images: Tensor) -> None:
        """Linear paths become principal components of every seventh patch, convolutions are silenced."""
        patch, channels = self.config.patch, self.config.channels
        if channels > 3 * patch**2:
            raise CourseError(f"there are {3 * patch**2} components at most, not {channels}.")
        patches = F.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1)[::7].double()
        if len(patches) < 2 * patches.shape[1]:
            raise CourseError(f"{len(images)} images are too few for components of patches: take more.")
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        std = values.flip(0)[:channels].clamp_min(1e-6).sqrt()
        components = vectors.flip(1)[:, :channels]
        shape = (channels, 3, patch, patch)
        self.linear_in.weight.copy_((components / std).T.reshape(shape))
        self.linear_in.bias.copy_(-(mean @ components) / std)
        self.linear_out.weight.copy_((components * std).T.reshape(shape))
        self.linear_out.bias.copy_(mean.view(3, -1).mean(1))
        for layer in (self.to_posterior, self.to_image):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.to_posterior.bias[channels:] = -4.0

    def forward(
        self, images: Tensor, noise: Tensor | None = None, further: Tensor | None = None
    ) -> tuple[Tensor, Posterior]:
        """Reconstruction and posterior; ``noise (B, D)`` samples the latent, ``further (B, D)`` is added to it."""
        posterior = self.posterior(images)
        latent = posterior.mean if noise is None else posterior.moved(noise)
        return self.render(latent if further is None else latent + further), posterior

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return self.posterior(images).mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        return self.render(latent).clamp(-1.0, 1.0)


class GridExpert:
    """Source expert: a frozen grid autoencoder whose latent keeps its shape: a cell reads what lies in its place."""

    def __init__(self, autoencoder: GridAutoencoder):
        self.autoencoder, self.condition_shape = autoencoder, autoencoder.config.shape

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, C, G, G)`` of images in [−1, 1], detached."""
        return self.autoencoder.encode(x).view(-1, *self.condition_shape)


NOISE = 0.1
"""Standard deviation of the noise that real and drawn latents get before a discriminator sees them."""


@torch.no_grad()
def measure_latents(autoencoder: GridAutoencoder, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Centre and scale of each channel of a frozen autoencoder, from a few hundred images; latents get variance 1."""
    device, config = next(autoencoder.parameters()).device, autoencoder.config
    grid = torch.cat([autoencoder.encode(part.to(device)) for part in images.split(100)]).view(-1, *config.shape)
    draws, moved = torch.Generator().manual_seed(0), torch.zeros(config.channels, dtype=torch.float64)
    # Each cell by its own sign: what neighbours do to each other's pixels cancels on average.
    signs = torch.randn(len(grid), config.side, config.side, generator=draws).sign().to(device)
    for part, sign in zip(grid.split(100), signs.split(100), strict=True):
        before = autoencoder.render(part.flatten(1))
        for channel in range(config.channels):
            after = part.clone()
            after[:, channel] += 0.5 * sign
            moved[channel] += (autoencoder.render(after.flatten(1)) - before).square().sum().item()
    scale = moved.rsqrt().float()
    scale = scale * (grid.var((0, 2, 3)).cpu() / scale.square()).mean().sqrt()
    return tuple(grid.mean((0, 2, 3)).tolist()), tuple(scale.tolist())


class LatentSpace:
    """Pictures ↔ scaled latents ``(B, C, G, G)`` of a frozen autoencoder whose channels were measured. Ours: a
    discriminator that sees all numbers of a cell alike spends its attention on what nobody can see, so each channel is
    scaled by what one unit of it does to the pixels."""

    def __init__(self, autoencoder: GridAutoencoder):
        config, self.device = autoencoder.config, next(autoencoder.parameters()).device
        if len(config.scale) != config.channels:
            raise CourseError("these latents were not measured: take avatar-autoencoder, or measure_latents.")
        self.autoencoder, self.shape = autoencoder, config.shape
        self.centre = torch.tensor(config.centre, device=self.device).view(1, -1, 1, 1)
        self.scale = torch.tensor(config.scale, device=self.device).view(1, -1, 1, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] → ``(B, C, G, G)``, mean 0 and variance 1 over all channels together."""
        return (self.autoencoder.encode(images).view(-1, *self.shape) - self.centre) / self.scale

    def encode_set(self, data: ImageSet) -> Tensor:
        """All pictures of a set, on the CPU in half precision."""
        return torch.cat([self.encode(part.to(self.device)).cpu().half() for part in data.batches(250)])

    def unscaled(self, latents: Tensor) -> Tensor:
        """``(B, C, G, G)`` → the autoencoder's own latents, ``(B, C · G · G)``."""
        return (latents.float() * self.scale + self.centre).flatten(1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The way back: ``(B, C, G, G)`` → pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return torch.cat([self.autoencoder.decode(part) for part in self.unscaled(latents).split(100)])


class PixelSpace(LatentSpace):
    """Pictures as they are, ``shape (3, S, S)``, where a :class:`LatentSpace` could stand."""

    def __init__(self, size: int, device: str | torch.device = "cpu"):
        self.shape, self.device = (3, size, size), device

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, images: Tensor) -> Tensor:
        return images.float().clamp(-1, 1)


class DigitAutoencoder(nn.Module):
    """The source of Mind2Mind that is no GAN (its README). Pictures ``(B, 3, 28, 28)`` ↔ 256 numbers in (−1, 1).
    Kernels and strides are ours, since none are published. Pictures are grey: three channels are averaged on the way in
    and repeated on the way out. Trained with mean squared error and Adam, 1e-3, (0.9, 0.9)."""

    config = SimpleNamespace(size=28)  # what others read of an expert's sizes

    def __init__(self, latent: int = 256):
        super().__init__()
        self.latent_dim, self.condition_shape = latent, (latent,)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([1, 32, 64, 128]):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 128, latent), nn.Tanh())
        layers = [nn.Linear(latent, 16 * 64), nn.ReLU(), nn.Unflatten(1, (64, 4, 4))]
        # 4 → 7 → 14 → 28 pixels.
        for (inputs, outputs), kernel in zip(pairwise([64, 64, 64, 32]), (3, 4, 4), strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, kernel, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.ConvTranspose2d(32, 1, 3, 1, 1), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        """Grey reconstructions ``(B, 1, 28, 28)``, with gradients."""
        if images.shape[-2:] != (28, 28):
            raise CourseError("this autoencoder takes pictures of 28 pixels: use course_lib.data.resize.")
        return self.decoder(self.encoder(images.mean(1, keepdim=True)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images.mean(1, keepdim=True))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent).expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier."""

    heads: dict[str, int]  # label name → number of classes
    width: int = 32  # channels of the first stage; each of the three next ones doubles them
    projection: int = 0  # size of an extra embedding head for retrieval, 0 for none


class _Stage(nn.Module):
    """Halves the resolution, then one residual block: norm → ReLU → convolution, twice."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Classifier(nn.Module):
    """A small residual network: image → logits for several labels at once. Layers by name, for 64-pixel input and width
    C: ``early`` (C, 32, 32), ``low`` (2C, 16, 16), ``middle`` (4C, 8, 8), ``late`` (8C, 4, 4), ``features`` (8C,) after
    average pooling, ``logits`` (all heads joined)."""

    layers = ("early", "low", "middle", "late", "features", "logits")

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = [3] + [config.width * 2**i for i in range(4)]
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], count) for name, count in config.heads.items()})
        self.projection = nn.Linear(widths[-1], config.projection) if config.projection else None

    def maps(self, x: Tensor) -> list[Tensor]:
        """The four stage outputs for images ``(B, 3, S, S)`` in [−1, 1]."""
        maps = [x.contiguous(memory_format=torch.channels_last)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def features(self, x: Tensor) -> Tensor:
        """``(B, 8 · width)``: average-pooled last stage."""
        return F.relu(self.norm(self.maps(x)[-1])).mean((2, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every head, and ``projection`` (unit length) if there is one."""
        features = self.features(x)
        outputs = {name: head(features) for name, head in self.heads.items()}
        if self.projection is not None:
            outputs["projection"] = F.normalize(self.projection(features), dim=1)
        return outputs

    def layer(self, x: Tensor, name: str) -> Tensor:
        """The representation called ``name``, one of :attr:`layers`; a CourseError where there is none."""
        if name not in self.layers:
            raise CourseError(f"the classifier has no layer {name!r}: choose one of {', '.join(self.layers)}.")
        if name not in ("features", "logits"):
            return self.maps(x)[self.layers.index(name)].contiguous()
        features = self.features(x)
        return features if name == "features" else torch.cat([head(features) for head in self.heads.values()], 1)


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes of a segmenter."""

    classes: int  # how many a cell can have
    width: int = 24  # channels of the first stage; the two next ones double them


class _Block(nn.Module):
    """A change of resolution, then ``x + convolution(ReLU(norm(x)))``."""

    def __init__(self, inputs: int, outputs: int, up: bool = False):
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.resample = kind(inputs, outputs, 4, 2, 1, bias=False)
        self.norm, self.conv = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.resample(x)
        return x + self.conv(F.relu(self.norm(x)))


class Segmenter(nn.Module):
    """A small hourglass network: images ``(B, 3, S, S)`` in [−1, 1] → logits of every cell, ``(B, K, S/2, S/2)``.
    Layers by name, for 64-pixel input: ``early`` (24, 32, 32), ``low`` (48, 16, 16), ``middle`` (96, 8, 8), ``late``
    (24, 32, 32), ``logits`` (K, 32, 32), ``argmax`` (K, 32, 32), their one-hot map. There are no skip connections."""

    layers = ("early", "low", "middle", "late", "logits", "argmax")

    def __init__(self, config: SegmenterConfig):
        super().__init__()
        self.config = config
        w = config.width
        sizes = ((3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 2 * w, True), (2 * w, w, True))
        self.blocks = nn.ModuleList(_Block(*one) for one in sizes)
        self.norm, self.head = nn.BatchNorm2d(w), nn.Conv2d(w, config.classes, 1)

    def layer(self, x: Tensor, name: str) -> Tensor:
        """The representation called ``name``, one of :attr:`layers`: a map ``(B, C, H, W)``."""
        if name not in self.layers:
            raise CourseError(f"the segmenter has no layer {name!r}: choose one of {', '.join(self.layers)}.")
        x = x.contiguous(memory_format=torch.channels_last)
        for k, block in enumerate(self.blocks):
            x = block(x)
            if name == ("early", "low", "middle", "", "late")[k]:
                return x.contiguous()
        logits = self.head(F.relu(self.norm(x))).contiguous()
        if name == "logits":
            return logits
        return F.one_hot(logits.argmax(1), self.config.classes).permute(0, 3, 1, 2).to(logits).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, "logits")

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Class of every cell, ``int64 (B, S/2, S/2)``."""
        return self(x).argmax(1)


class LayerExpert:
    """The layer ``name`` of a frozen network as a source expert, its shape that for images of ``size`` pixels."""

    def __init__(self, network: Classifier | Segmenter, name: str, size: int = 64):
        self.network, self.name = network, name
        device = next(network.parameters()).device
        self.condition_shape = tuple(self.encode(torch.zeros(1, 3, size, size, device=device)).shape[1:])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        return self.network.layer(x, self.name)
