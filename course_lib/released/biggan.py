"""The BigGAN generator of Net2Net, at 128 and 256 pixels: a target expert, and the decoder of the big autoencoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.layers import ActNorm, FrozenNetwork
from course_lib.released.spectral_norm import SpectralNorm
from course_lib.released.strict import load_exactly, reading_sizes, take

__all__ = ["RELEASED_BIGGANS", "BigGan", "Generator", "GeneratorConfig", "infer_generator_config", "load_biggan"]

_WIDTHS = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
_CHUNK = 20
"""Numbers of the code that each residual block reads."""
_BATCH_NORM_EPSILON = 1e-4


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of a generator.

    Attributes:
        size: side of the pictures in pixels, 128 or 256.
        code_dim: numbers of the code ``z``; each block reads 20 of them, the first layer the others. None: 20 too.
        channels: width of the last block; the first is 16 times as wide.
        classes: number of classes.
        class_dim: width of a class embedding.
        actnorm_at_end: ActNorm instead of BatchNorm before the last convolution, as in the autoencoders.

    Raises:
        CourseError: another size, or a code without numbers for the first layer.
    """

    size: int = 256
    code_dim: int | None = None
    channels: int = 96
    classes: int = 1000
    class_dim: int = 128
    actnorm_at_end: bool = False

    def __post_init__(self) -> None:
        if self.size not in _WIDTHS:
            raise CourseError(f"there is no released BigGAN of {self.size} px: choose 128 or 256.")
        if self.code_dim is None:
            object.__setattr__(self, "code_dim", _CHUNK * (self.blocks + 1))
        if self.code_dim <= _CHUNK * self.blocks:
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


RELEASED_BIGGANS: dict[str, GeneratorConfig] = {"biggan128": GeneratorConfig(128), "biggan256": GeneratorConfig(256)}


class _ConditionalNorm(nn.Module):
    """BatchNorm without affine part; gain (1 + …) and bias are linear in the condition."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, _BATCH_NORM_EPSILON, affine=False)
        self.gamma_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))
        self.beta_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gamma_embed(condition), self.beta_embed(condition)
        return gain[:, :, None, None] * self.bn(x) + bias[:, :, None, None]


class _Block(nn.Module):
    """Residual block that doubles the side."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int):
        super().__init__()
        self.conv0 = SpectralNorm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv1 = SpectralNorm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.conv_sc = SpectralNorm(nn.Conv2d(inputs, outputs, 1))
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
        self.theta = SpectralNorm(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.phi = SpectralNorm(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.g = SpectralNorm(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.o_conv = SpectralNorm(nn.Conv2d(channels // 2, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2)
        key, value = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.phi, self.g))
        attention = (query.transpose(1, 2) @ key).softmax(-1)
        return self.gamma * self.o_conv((value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])) + x


class Generator(nn.Module):
    """Code and class embedding → picture.

    References:
        Brock et al. 2019; the port by GANalyze, with the changes of CompVis/net2net.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        widths = config.widths
        self.linear = nn.Linear(config.classes, config.class_dim, bias=False)
        self.G_linear = SpectralNorm(nn.Linear(config.split[0], 16 * widths[0]))
        self.GBlock = nn.ModuleList(_Block(*pair, _CHUNK + config.class_dim) for pair in pairwise(widths))
        self.attention = _Attention(widths[-2])
        end = ActNorm(widths[-1]) if config.actnorm_at_end else nn.BatchNorm2d(widths[-1], _BATCH_NORM_EPSILON)
        self.ScaledCrossReplicaBN = end
        self.colorize = SpectralNorm(nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, code: Tensor, class_embedding: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1].

        Args:
            code: ``(B, code_dim)``.
            class_embedding: ``(B, class_dim)``; ``linear`` makes it of one-hot or soft classes ``(B, classes)``.
        """
        first, *chunks = code.split(self.config.split, dim=1)
        # The first layer writes channels last.
        x = self.G_linear(first).view(len(code), 4, 4, -1).permute(0, 3, 1, 2)
        for i, (block, chunk) in enumerate(zip(self.GBlock, chunks, strict=True)):
            if i == self.config.blocks - 1:
                x = self.attention(x)
            x = block(x, torch.cat([chunk, class_embedding], dim=1))
        return self.colorize(F.relu(self.ScaledCrossReplicaBN(x))).tanh()


class BigGan(FrozenNetwork):
    """The generator as a target expert: a latent is the code ``z`` followed by a class embedding.

    Attributes:
        latent_dim: ``code_dim + class_dim``, 268 at 256 pixels.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, self.latent_dim = config, config.code_dim + config.class_dim
        self.decoder = Generator(config)
        self.frozen()

    @torch.no_grad()
    def embed(self, labels: Tensor) -> Tensor:
        """Class embeddings ``(B, class_dim)`` of class numbers ``int64 (B,)``.

        Raises:
            CourseError: a number is out of range.
        """
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.config.classes:
            raise CourseError(f"class numbers go from 0 to {self.config.classes - 1}.")
        return self.decoder.linear.weight.T[labels]

    @torch.no_grad()
    def render(self, code: Tensor, class_embedding: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] for codes ``(B, code_dim)``, of which |z| ≤ 2.5 were trained on."""
        return self.decoder(code, class_embedding)

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] for latents ``(B, latent_dim)``.

        Raises:
            CourseError: latents of another width.
        """
        latent = latent.flatten(1)
        if latent.shape[1] != self.latent_dim:
            raise CourseError(f"this generator takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        return self.render(*latent.split([self.config.code_dim, self.config.class_dim], dim=1))

    def encode(self, x: Tensor) -> Tensor:
        """A generator has no encoder.

        Raises:
            CourseError: always.
        """
        raise CourseError("BigGAN has no encoder: keep the latents (z, class embedding) that pictures were made of.")


def infer_generator_config(state: Mapping[str, Tensor]) -> GeneratorConfig:
    """Reads the sizes off a generator's tensors, named without prefix.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a BigGAN"):
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("GBlock."))
        class_dim, classes = state["linear.weight"].shape
        return GeneratorConfig(
            size=4 * 2**blocks,
            code_dim=state["G_linear.module.weight_bar"].shape[1] + _CHUNK * blocks,
            channels=state["colorize.module.weight_bar"].shape[1],
            classes=classes,
            class_dim=class_dim,
            actnorm_at_end="ScaledCrossReplicaBN.loc" in state,
        )


def load_biggan(path: str | Path, config: GeneratorConfig | None = None) -> BigGan:
    """Reads a generator's file, or one of its wrapper (all names begin with ``decoder.``).

    Args:
        path: ``.safetensors`` or a torch file.
        config: what the file must fit, for example ``RELEASED_BIGGANS["biggan256"]``; None reads the sizes off it.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = read_state_dict(path)
    if all(name.startswith("decoder.") for name in state):
        state = take(state, "decoder.")
    with torch.device("meta"):
        network = BigGan(config or infer_generator_config(state))
    return load_exactly(network, {f"decoder.{name}": tensor for name, tensor in state.items()}, "this BigGAN")
