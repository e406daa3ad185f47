"""Net2Net's target experts, BigGAN and the autoencoder of 256 pixels; their tensors carry the released names.

All released networks are frozen. Pictures are ``(B, 3, S, S)`` in [−1, 1], latents ``(B, latent_dim)``; other shapes
are a ``CourseError``. Each configuration reads itself off tensors: ``read``.

References:
    Net2Net (Rombach et al. 2020), supplement, table 3; CompVis/net2net, ``BigAE`` and its BigGAN.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..experts.autoencoder import Posterior
from ..experts.protocol import freeze
from .reading import State
from .strict import count_below, take

__all__ = ["FEATURES", "BigAutoencoder", "BigAutoencoderConfig", "BigGan", "FrozenActNorm", "GeneratorConfig"]
__all__ += ["PortedGenerator", "SpectralNorm", "chain", "check_latents", "fully_connected", "posterior_of", "resnet"]
__all__ += ["stages_of"]

FEATURES = 2048
"""Channels behind a ResNet's last stage of bottlenecks."""


# --- pieces that several networks share ----------------------------------------


class FrozenActNorm(nn.Module):
    """``scale · (x + loc)`` per channel, for maps ``(B, C, H, W)``; the trained values are in the file."""

    def __init__(self, channels: int):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x + self.loc)


def chain(name: str, *layers: nn.Module) -> nn.Sequential:
    """Layers in a row whose tensors are called ``{name}.{i}``."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def fully_connected(widths: Sequence[int]) -> nn.Module:
    """Linear layers of these widths with LeakyReLU (slope 0.01) between them, called ``main.{0, 2, 4, …}``."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.01)]
    return chain("main", *layers[:-1])


def resnet(layers: Sequence[int], **options: Any) -> nn.Module:
    """Torchvision's, of bottlenecks, with so many in each of its four stages."""
    from torchvision.models.resnet import Bottleneck, ResNet  # here, since torchvision takes seconds to import

    return ResNet(Bottleneck, list(layers), **options)


def stages_of(state: State, prefixes: Iterable[str]) -> tuple[int, ...]:
    """How many residual blocks each stage of a ResNet has, from the names ``{block}.….weight`` of its tensors."""
    return tuple(count_below(state, prefix) for prefix in prefixes)


def posterior_of(moments: Tensor) -> Posterior:
    """From ``(B, 2 D)`` or ``(B, 2 D, 1, 1)``: means, then log-variances, which the released code clamps."""
    mean, log_variance = moments.flatten(1).chunk(2, dim=1)
    return Posterior(mean, log_variance.clamp(-30.0, 10.0))


def check_latents(network: Any, latent: Tensor) -> Tensor:
    """``(B, latent_dim)``; another width is a CourseError."""
    latent = latent.flatten(1)
    if latent.shape[1] != network.latent_dim:
        raise CourseError(f"this network takes latents (B, {network.latent_dim}), not {tuple(latent.shape)}.")
    return latent


# --- BigGAN ----------------------------------------

_WIDTHS = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
_CHUNK = 20
"""Numbers of the code that each residual block reads."""
_EPSILON = 1e-4
"""Of the port's batch norms and of its spectral norms."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of a generator."""

    size: int = 256  # side of the pictures in pixels, 128 or 256
    code_dim: int | None = None  # of z; each block reads 20 numbers, the first layer the others. None: 20 too
    channels: int = 96  # width of the last block; the first is 16 times as wide
    classes: int = 1000
    class_dim: int = 128  # width of a class embedding
    actnorm_at_end: bool = False  # instead of BatchNorm before the last convolution, as in the autoencoders

    def __post_init__(self) -> None:
        if self.size not in _WIDTHS:
            raise CourseError(f"there is no released BigGAN of {self.size} px: choose 128 or 256.")
        if self.code_dim is None:
            object.__setattr__(self, "code_dim", _CHUNK * (self.blocks + 1))
        if self.split[0] < 1:
            raise CourseError(
                f"{self.blocks} blocks read {_CHUNK} numbers each: a code of {self.code_dim} is too short."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels in front of, between and behind the blocks."""
        return tuple(width * self.channels for width in _WIDTHS[self.size])

    @property
    def blocks(self) -> int:
        """Residual blocks; each doubles the side, from 4 pixels on."""
        return len(_WIDTHS[self.size]) - 1

    @property
    def split(self) -> list[int]:
        """How the code is split: the first layer's part, then one for each block."""
        return [self.code_dim - _CHUNK * self.blocks] + [_CHUNK] * self.blocks

    @classmethod
    def read(cls, state: State) -> Self:
        blocks = count_below(state, "GBlock.")
        class_dim, classes = state["linear.weight"].shape
        code_dim = state["G_linear.module.weight_bar"].shape[1] + _CHUNK * blocks
        channels = state["colorize.module.weight_bar"].shape[1]
        return cls(4 * 2**blocks, code_dim, channels, classes, class_dim, "ScaledCrossReplicaBN.loc" in state)


class SpectralNorm(nn.Module):
    """A layer whose weight is divided by σ at every call: one power iteration from a stored vector.

    ``torch.nn.utils`` iterates on and on while it trains, stores what it found and normalises by max(‖·‖, ε); here
    every call starts at the same vector, and lengths are ‖·‖ + ε. The weights fit this σ, so no better one will do.
    Tensors are ``module.{bias, weight_u, weight_v, weight_bar}``. Nobody reads ``weight_v``, which is as long as
    ``weight_u`` whatever the layer's width; it is there because it is in the files.

    References:
        Miyato et al. 2018, section 2; GANalyze and CompVis/net2net for ε and for what is not written back.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.module, weight = layer, layer.weight
        del layer.weight
        for name in ("weight_u", "weight_v"):
            start = torch.randn(len(weight), device=weight.device)
            layer.register_parameter(name, nn.Parameter(_unit(start), requires_grad=False))
        layer.register_parameter("weight_bar", weight)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.module
        matrix = layer.weight_bar.flatten(1)
        v = _unit(matrix.T @ layer.weight_u)
        u = _unit(matrix @ v)
        weight = layer.weight_bar / (u @ (matrix @ v))
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def _unit(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + _EPSILON)


def _conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> SpectralNorm:
    return SpectralNorm(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))


class _ConditionalNorm(nn.Module):
    """BatchNorm without affine part; gain (1 + …) and bias are linear in the condition."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, _EPSILON, affine=False)
        self.gamma_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))
        self.beta_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gamma_embed(condition), self.beta_embed(condition)
        return gain[:, :, None, None] * self.bn(x) + bias[:, :, None, None]


class _Block(nn.Module):
    """Residual block that doubles the side."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int):
        super().__init__()
        self.conv0, self.conv1 = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.conv_sc = _conv(inputs, outputs, 1)
        self.HyperBN = _ConditionalNorm(inputs, condition_dim)
        self.HyperBN_1 = _ConditionalNorm(outputs, condition_dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv0(F.interpolate(F.relu(self.HyperBN(x, condition)), scale_factor=2))
        h = self.conv1(F.relu(self.HyperBN_1(h, condition)))
        return h + self.conv_sc(F.interpolate(x, scale_factor=2))


class _Attention(nn.Module):
    """Self-attention; keys and values are pooled 2×2, and scores are not divided by the root of their width."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.theta, self.phi = (_conv(channels, channels // 8, 1, bias=False) for _ in range(2))
        self.g = _conv(channels, channels // 2, 1, bias=False)
        self.o_conv = _conv(channels // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2)
        key, value = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.phi, self.g))
        attention = (query.transpose(1, 2) @ key).softmax(-1)
        return self.gamma * self.o_conv((value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])) + x


class PortedGenerator(nn.Module):
    """Code and class embedding → picture: BigGAN in the port by GANalyze, with the changes of CompVis/net2net."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, widths = config, config.widths
        self.linear = nn.Linear(config.classes, config.class_dim, bias=False)
        self.G_linear = SpectralNorm(nn.Linear(config.split[0], 16 * widths[0]))
        self.GBlock = nn.ModuleList(_Block(*pair, _CHUNK + config.class_dim) for pair in pairwise(widths))
        self.attention = _Attention(widths[-2])
        end = FrozenActNorm(widths[-1]) if config.actnorm_at_end else nn.BatchNorm2d(widths[-1], _EPSILON)
        self.ScaledCrossReplicaBN = end
        self.colorize = _conv(widths[-1], 3, 3)

    def forward(self, code: Tensor, class_embedding: Tensor) -> Tensor:
        """Pictures of codes ``(B, code_dim)`` and embeddings ``(B, class_dim)``, which ``linear`` makes of classes."""
        first, *chunks = code.split(self.config.split, dim=1)
        # The first layer writes channels last.
        x = self.G_linear(first).view(len(code), 4, 4, -1).permute(0, 3, 1, 2)
        for i, (block, chunk) in enumerate(zip(self.GBlock, chunks, strict=True)):
            if i == self.config.blocks - 1:
                x = self.attention(x)
            x = block(x, torch.cat([chunk, class_embedding], dim=1))
        return self.colorize(F.relu(self.ScaledCrossReplicaBN(x))).tanh()


class BigGan(nn.Module):
    """The generator as a target expert: a latent is the code ``z`` followed by a class embedding, 268 numbers."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, self.latent_dim = config, config.code_dim + config.class_dim
        self.decoder = PortedGenerator(config)
        freeze(self)

    @torch.no_grad()
    def embed(self, labels: Tensor) -> Tensor:
        """Class embeddings ``(B, class_dim)`` of class numbers ``int64 (B,)``."""
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.config.classes:
            raise CourseError(f"class numbers go from 0 to {self.config.classes - 1}.")
        return self.decoder.linear.weight.T[labels]

    @torch.no_grad()
    def render(self, code: Tensor, class_embedding: Tensor) -> Tensor:
        """Pictures for codes ``(B, code_dim)``, of which |z| ≤ 2.5 were trained on."""
        return self.decoder(code, class_embedding)

    def decode(self, latent: Tensor) -> Tensor:
        latent = check_latents(self, latent)
        return self.render(*latent.split([self.config.code_dim, self.config.class_dim], dim=1))

    def encode(self, x: Tensor) -> Tensor:
        raise CourseError("BigGAN has no encoder: keep the latents (z, class embedding) that pictures were made of.")


# --- the autoencoder of 256 pixels ----------------------------------------


@dataclass(frozen=True)
class BigAutoencoderConfig:
    """Sizes of a big autoencoder.

    Attributes:
        actnorm_at_end: ActNorm instead of BatchNorm before the decoder's last convolution. The norms inside its blocks
            are class-conditional BatchNorm in either case, although the option's name in the released code promises
            more.
        normalise_twice: bring pictures to the statistics of ImageNet and then do it again on the result. The released
            weights were trained with that mistake and need it; it leaves no trace in a file.
    """

    latent_dim: int = 128
    size: int = 256  # side of the pictures in pixels, 128 or 256
    channels: int = 96  # width of the decoder's last block
    encoder_layers: tuple[int, ...] = (3, 4, 23, 3)  # residual blocks in each of four stages
    classes: int = 1000  # that the decoder mixes
    class_hidden: int = 2000  # width of the network that chooses the mixture
    class_dim: int = 128
    actnorm_at_end: bool = True
    normalise_twice: bool = True

    @property
    def generator(self) -> GeneratorConfig:
        """The decoder's sizes."""
        ends = self.classes, self.class_dim, self.actnorm_at_end
        return GeneratorConfig(self.size, self.latent_dim, self.channels, *ends)

    @classmethod
    def read(cls, state: State) -> Self:
        one = GeneratorConfig.read(take(state, "decoder.decoder."))
        layers = stages_of(state, [f"encoder.model.layer{stage}." for stage in (1, 2, 3, 4)])
        hidden = len(state["decoder.map_to_class_embedding.main.0.weight"])
        ends = one.classes, hidden, one.class_dim, one.actnorm_at_end
        return cls(one.code_dim, one.size, one.channels, layers, *ends)


class _BigEncoder(nn.Module):
    def __init__(self, config: BigAutoencoderConfig):
        super().__init__()
        self.passes = 2 if config.normalise_twice else 1
        self.model = resnet(config.encoder_layers, num_classes=1, norm_layer=FrozenActNorm)
        self.model.fc = chain("sub_layers", nn.Conv2d(FEATURES, 2 * config.latent_dim, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """From [−1, 1] to the statistics of ImageNet, once or twice."""
        mean, std = (images.new_tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        for _ in range(self.passes):
            images = (0.5 * (images + 1) - mean) / std
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Means and log-variances ``(B, 2 D, 1, 1)``; torchvision's own ``forward`` would flatten before ``fc``."""
        x = self.normalise(images)
        for layer in self.model.children():
            x = layer(x)
        return x


class _BigDecoder(nn.Module):
    def __init__(self, config: BigAutoencoderConfig):
        super().__init__()
        widths = [config.latent_dim, *[config.class_hidden] * 3, config.classes]
        self.map_to_class_embedding = fully_connected(widths)
        self.decoder = PortedGenerator(config.generator)

    def forward(self, latent: Tensor) -> Tensor:
        """The whole latent chooses a mixture of classes, and is the generator's code as well."""
        soft_class = self.map_to_class_embedding(latent).softmax(1)
        return self.decoder(latent, self.decoder.linear(soft_class))


class BigAutoencoder(nn.Module):
    """A ResNet-101 with ActNorm encodes, a BigGAN decodes. It can be a source expert too."""

    def __init__(self, config: BigAutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or BigAutoencoderConfig()
        self.latent_dim, self.condition_shape = config.latent_dim, (config.latent_dim,)
        self.encoder, self.decoder = _BigEncoder(config), _BigDecoder(config)
        freeze(self)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each picture."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise CourseError(f"this autoencoder takes pictures (B, 3, S, S), not {tuple(images.shape)}.")
        return posterior_of(self.encoder(images))

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Latents: the posterior's mean, as the authors' demo, or a draw from it, as their training."""
        posterior = self.posterior(x)
        return posterior.sample(generator) if sample else posterior.mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(check_latents(self, latent))
