"""Net2Net's released experts, under the names of their files: two autoencoders, BigGAN, dequantiser, captioner.

All are frozen. Pictures are ``(B, 3, S, S)`` in [−1, 1], latents ``(B, latent_dim)``; other shapes are a
``CourseError``. ``posterior`` gives the distribution of the code; ``read`` of a configuration reads it off tensors.
Source: Net2Net (Rombach et al. 2020), section 4 and supplement, tables 3 and 5; CompVis/net2net."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..experts.networks import Posterior
from ..experts.protocol import freeze
from .reading import State, count_below, take

_FEATURES = 2048  # channels behind a ResNet's last stage of bottlenecks
_RESNET101 = (3, 4, 23, 3)


class FrozenActNorm(nn.Module):
    """``scale · (x + loc)`` per channel of maps ``(B, C, H, W)``."""

    def __init__(self, channels: int):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x + self.loc)


def _chain(name: str, *layers: nn.Module) -> nn.Sequential:
    """Layers in a row whose tensors are called ``{name}.{i}``."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def _fully_connected(*widths: int) -> nn.Module:
    """Linear layers of these widths with LeakyReLU (slope 0.01) between them, called ``main.{0, 2, 4, …}``."""
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.01))]
    return _chain("main", *layers[:-1])


def _resnet(layers: Sequence[int], **options: Any) -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet  # here, since torchvision takes seconds to import

    return ResNet(Bottleneck, list(layers), **options)


def posterior_of(moments: Tensor) -> Posterior:
    """From ``(B, 2 D)`` or ``(B, 2 D, 1, 1)``: means, then log-variances, which the released code clamps."""
    mean, log_variance = moments.flatten(1).chunk(2, dim=1)
    return Posterior(mean, log_variance.clamp(-30.0, 10.0))


def _check_latents(network: Any, latent: Tensor) -> Tensor:
    latent = latent.flatten(1)
    if latent.shape[1] != network.latent_dim:
        raise CourseError(f"this network takes latents (B, {network.latent_dim}), not {tuple(latent.shape)}.")
    return latent


# --- BigGAN ----------------------------------------

_WIDTHS = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
_CHUNK = 20  # numbers of the code that each residual block reads
_EPSILON = 1e-4  # of the port's batch norms and of its spectral norms


@dataclass(frozen=True)
class GeneratorConfig:
    """Of BigGAN."""

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
            object.__setattr__(self, "code_dim", _CHUNK * len(self.widths))
        if self.split[0] < 1:
            raise CourseError(f"each block reads {_CHUNK} numbers: a code of {self.code_dim} is too short.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels in front of, between and behind the blocks, each of which doubles the side, from 4 pixels on."""
        return tuple(width * self.channels for width in _WIDTHS[self.size])

    @property
    def split(self) -> list[int]:
        """How the code is split: the first layer's part, then one for each block."""
        blocks = len(self.widths) - 1
        return [self.code_dim - _CHUNK * blocks] + [_CHUNK] * blocks

    @classmethod
    def read(cls, state: State) -> Self:
        blocks = count_below(state, "GBlock.")
        class_dim, classes = state["linear.weight"].shape
        code_dim = state["G_linear.module.weight_bar"].shape[1] + _CHUNK * blocks
        channels = state["colorize.module.weight_bar"].shape[1]
        return cls(4 * 2**blocks, code_dim, channels, classes, class_dim, "ScaledCrossReplicaBN.loc" in state)


class SpectralNorm(nn.Module):
    """A layer whose weight is divided by σ at every call: one power iteration from a stored vector.

    ``torch.nn.utils`` stores what it found and normalises by max(‖·‖, ε); here every call starts at the same vector,
    and lengths are ‖·‖ + ε. The weights fit this σ, so no better one will do. ``weight_v`` is in the files and read by
    nobody. Source: Miyato et al. 2018, section 2; GANalyze and CompVis/net2net for ε and what is not written back."""

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
    """BatchNorm whose gain (1 + …) and bias are linear in the condition."""

    def __init__(self, channels: int, condition_dim: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, _EPSILON, affine=False)
        self.gamma_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))
        self.beta_embed = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gamma_embed(condition), self.beta_embed(condition)
        return gain[:, :, None, None] * self.bn(x) + bias[:, :, None, None]


class _Block(nn.Module):
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
        for block, chunk in zip(self.GBlock, chunks, strict=True):
            x = self.attention(x) if block is self.GBlock[-1] else x
            x = block(x, torch.cat([chunk, class_embedding], dim=1))
        return self.colorize(F.relu(self.ScaledCrossReplicaBN(x))).tanh()


class BigGan(nn.Module):
    """The generator as a target expert: a latent is the code ``z``, trained for |z| ≤ 2.5, and a class embedding."""

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
    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(*_check_latents(self, latent).tensor_split([self.config.code_dim], dim=1))

    def encode(self, x: Tensor) -> Tensor:
        raise CourseError("BigGAN has no encoder: keep the latents (z, class embedding) that pictures were made of.")


# --- the autoencoder of 256 pixels ----------------------------------------


@dataclass(frozen=True)
class BigAutoencoderConfig:
    """Sizes of a big autoencoder; those of its decoder are as in :class:`GeneratorConfig`."""

    latent_dim: int = 128
    size: int = 256
    channels: int = 96
    encoder_layers: tuple[int, ...] = _RESNET101  # residual blocks in each of four stages
    classes: int = 1000  # that the decoder mixes
    class_hidden: int = 2000  # width of the network that chooses the mixture
    class_dim: int = 128
    actnorm_at_end: bool = True  # the norms inside its blocks are BatchNorm in either case

    @property
    def generator(self) -> GeneratorConfig:
        """The decoder's sizes."""
        ends = self.classes, self.class_dim, self.actnorm_at_end
        return GeneratorConfig(self.size, self.latent_dim, self.channels, *ends)

    @classmethod
    def read(cls, state: State) -> Self:
        one = GeneratorConfig.read(take(state, "decoder.decoder."))
        layers = tuple(count_below(state, f"encoder.model.layer{stage}.") for stage in (1, 2, 3, 4))
        hidden = len(state["decoder.map_to_class_embedding.main.0.weight"])
        ends = one.classes, hidden, one.class_dim, one.actnorm_at_end
        return cls(one.code_dim, one.size, one.channels, layers, *ends)


class _Autoencoder(nn.Module):
    """Codes are the posterior's mean, as in the authors' demo, or drawn from it (``sample_codes``), as in training."""

    sample_codes = False

    def __init__(self, config: Any):
        super().__init__()
        self.config, self.latent_dim, self.condition_shape = config, config.latent_dim, (config.latent_dim,)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        posterior = self.posterior(x)
        return posterior.sample(generator) if self.sample_codes else posterior.mean


def normalise_twice(images: Tensor) -> Tensor:
    """From [−1, 1] to the statistics of ImageNet, and then once more on the result: the released weights were trained
    with that mistake and need it."""
    mean, std = (images.new_tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for _ in range(2):
        images = (0.5 * (images + 1) - mean) / std
    return images


class BigAutoencoder(_Autoencoder):
    """A ResNet-101 with ActNorm encodes, a BigGAN decodes."""

    def __init__(self, config: BigAutoencoderConfig):
        super().__init__(config)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.model = _resnet(config.encoder_layers, num_classes=1, norm_layer=FrozenActNorm)
        self.encoder.model.fc = _chain("sub_layers", nn.Conv2d(_FEATURES, 2 * config.latent_dim, 1))
        hidden = [config.class_hidden] * 3
        self.decoder.map_to_class_embedding = _fully_connected(config.latent_dim, *hidden, config.classes)
        self.decoder.decoder = PortedGenerator(config.generator)
        freeze(self)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        if images.ndim != 4 or images.shape[1] != 3:
            raise CourseError(f"this autoencoder takes pictures (B, 3, S, S), not {tuple(images.shape)}.")
        # Not by torchvision's own ``forward``, which would flatten before ``fc``.
        return posterior_of(nn.Sequential(*self.encoder.model.children())(normalise_twice(images)))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """The whole latent chooses a mixture of classes, and is the generator's code as well."""
        latent, generator = _check_latents(self, latent), self.decoder.decoder
        return generator(latent, generator.linear(self.decoder.map_to_class_embedding(latent).softmax(1)))


# --- the autoencoder of 32 pixels ----------------------------------------


@dataclass(frozen=True)
class BasicAutoencoderConfig:
    """Of a basic autoencoder: four halvings down to a map of ``bottleneck`` pixels, and the way back."""

    latent_dim: int = 128
    bottleneck: int = 2
    base: int = 64  # width at half the side; it doubles with every halving

    @property
    def size(self) -> int:
        return 16 * self.bottleneck

    @classmethod
    def read(cls, state: State) -> Self:
        code, _, side, _ = state["autoencoder.dense_encode.sub_layers.0.weight"].shape
        return cls(code // 2, side, len(state["autoencoder.feature_layers.0.sub_layers.0.weight"]))


class BasicAutoencoder(_Autoencoder):
    """The source expert of super-resolution. The released wrapper can only encode; its files hold a decoder too."""

    def __init__(self, config: BasicAutoencoderConfig):
        super().__init__(config)
        net = self.autoencoder = nn.Module()
        pairs = list(pairwise([3, *(config.base * 2**scale for scale in range(4))]))
        strided = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False}

        def activated(convolution: nn.Module) -> nn.Module:
            return _chain("sub_layers", convolution, FrozenActNorm(convolution.out_channels), nn.LeakyReLU(0.2))

        net.feature_layers = nn.Sequential(*(activated(nn.Conv2d(*pair, **strided)) for pair in pairs))
        ups = (nn.ConvTranspose2d(outer, inner, **strided) for inner, outer in pairs[1:])
        net.decoder_layers = nn.ModuleList(map(activated, ups))  # coarse ones come last here and run first
        code, side, top = config.latent_dim, config.bottleneck, 8 * config.base
        net.dense_encode = _chain("sub_layers", nn.Conv2d(top, 2 * code, side))
        net.dense_decode = _chain("sub_layers", nn.ConvTranspose2d(code, top, side))
        net.image_layer = _chain("sub_layers", nn.ConvTranspose2d(config.base, 3, **strided), nn.Tanh())
        freeze(self)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        size = self.config.size
        if images.shape[1:] != (3, size, size):
            raise CourseError(f"this autoencoder takes pictures (B, 3, {size}, {size}): resize them first.")
        return posterior_of(self.autoencoder.dense_encode(self.autoencoder.feature_layers(images)))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        x = self.autoencoder.dense_decode(_check_latents(self, latent)[:, :, None, None])
        for layer in reversed(self.autoencoder.decoder_layers):
            x = layer(x)
        return self.autoencoder.image_layer(x)


@dataclass(frozen=True)
class DequantiserConfig:
    """Widths of an embedding, of the code, and of the hidden layers."""

    dim: int = 128
    code_dim: int = 128
    hidden_dim: int = 4096

    @classmethod
    def read(cls, state: State) -> Self:
        hidden, dim = state["encoder.main.0.weight"].shape
        return cls(dim, state["decoder.main.0.weight"].shape[1], hidden)


class Dequantiser(nn.Module):
    """A variational autoencoder of vectors; its random reconstruction stands in for BigGAN's exact class embedding,
    since a flow that is trained on a thousand points puts ever narrower spikes on them."""

    def __init__(self, config: DequantiserConfig):
        super().__init__()
        self.config, hidden = config, [config.hidden_dim] * 3
        self.encoder = _fully_connected(config.dim, *hidden, config.dim)
        self.mu_layer = _fully_connected(config.dim, *hidden, config.code_dim)
        self.logvar_layer = _fully_connected(config.dim, *hidden, config.code_dim)
        self.decoder = _fully_connected(config.code_dim, *hidden, config.hidden_dim, config.dim)
        freeze(self)

    @torch.no_grad()
    def posterior(self, embedding: Tensor) -> Posterior:
        features = self.encoder(embedding)
        return posterior_of(torch.cat([self.mu_layer(features), self.logvar_layer(features)], dim=1))

    @torch.no_grad()
    def forward(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Random neighbours of embeddings, both ``(B, dim)``."""
        return self.decoder(self.posterior(embedding).sample(generator))


_BEAMS, _STEPS, _WORDS = 3, 50, 50


@dataclass(frozen=True)
class CaptionerConfig:
    """Vocabulary and widths."""

    vocabulary: int = 9490
    width: int = 512  # of embeddings, attention and state, which are one number here
    encoder_layers: tuple[int, ...] = _RESNET101

    @classmethod
    def read(cls, state: State) -> Self:
        layers = tuple(count_below(state, f"encoder.resnet.{place}.") for place in (4, 5, 6, 7))
        return cls(*state["decoder.embedding.weight"].shape, layers)


class _PlaceAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder_att, self.decoder_att = nn.Linear(_FEATURES, width), nn.Linear(width, width)
        self.full_att = nn.Linear(width, 1)

    def forward(self, places: Tensor, state: Tensor) -> Tensor:
        """Mean of the places ``(B, P, F)``, weighted by how they match the state ``(B, W)``."""
        scores = self.full_att(F.relu(self.encoder_att(places) + self.decoder_att(state)[:, None])).squeeze(2)
        return (places * scores.softmax(1)[:, :, None]).sum(1)


class _WordDecoder(nn.Module):
    def __init__(self, config: CaptionerConfig):
        super().__init__()
        width = config.width
        self.attention = _PlaceAttention(width)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.decode_step = nn.LSTMCell(width + _FEATURES, width)
        self.init_h, self.init_c = nn.Linear(_FEATURES, width), nn.Linear(_FEATURES, width)
        self.f_beta, self.fc = nn.Linear(width, _FEATURES), nn.Linear(width, config.vocabulary)

    def step(self, words: Tensor, places: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the next word ``(B, V)`` after ``words (B,)``, and the new state."""
        seen = self.f_beta(h).sigmoid() * self.attention(places, h)
        h, c = self.decode_step(torch.cat([self.embedding(words), seen], dim=1), (h, c))
        return self.fc(h).log_softmax(1), h, c


class Captioner(nn.Module):
    """Pictures → captions, by a beam search of width 3 (Show-Attend-Tell).

    Pictures go in as they are, in [−1, 1], since the released class never calls its ImageNet normalisation. ``words``
    are the vocabulary in the order of its numbers, with ``<start>``, ``<end>`` and ``<pad>``. Source: Xu et al. 2015;
    the tutorial port that CompVis/net2net uses, with its way of ending a search."""

    words: Sequence[str] = ()

    def __init__(self, config: CaptionerConfig):
        super().__init__()
        self.config = config
        self.encoder = _chain("resnet", *list(_resnet(config.encoder_layers).children())[:-2])  # no pooling, no classes
        self.decoder = _WordDecoder(config)
        freeze(self)

    @torch.no_grad()
    def caption(self, images: Tensor) -> list[str]:
        """Captions as the sentence expert got them: ``"<start> a red bird <end> "``, at most 50 words."""
        if len(self.words) != self.config.vocabulary or not {"<start>", "<end>", "<pad>"} <= set(self.words):
            text = f"this captioner has {self.config.vocabulary} words, with <start>, <end> and <pad>, and was given"
            how = "pass the word map that was published with its weights to load_net2net_expert"
            raise CourseError(f"{text} {len(self.words)}: {how}.")
        places = F.adaptive_avg_pool2d(self.encoder(images), 14).flatten(2).transpose(1, 2)
        return ["".join(self.words[k] + " " for k in self._search(one)[:_WORDS]) for one in places]

    def _search(self, places: Tensor) -> list[int]:
        """Word numbers of the likeliest finished beam for one picture's places ``(P, F)``."""
        start, end = self.words.index("<start>"), self.words.index("<end>")
        decoder, device, places = self.decoder, places.device, places[None]
        h, c = decoder.init_h(places.mean(1)), decoder.init_c(places.mean(1))
        beams, scores, finished = [[start]], torch.zeros(1, device=device), []
        for _ in range(_STEPS + 1):
            last = torch.tensor([beam[-1] for beam in beams], device=device)
            log_p, h, c = decoder.step(last, places.expand(len(beams), -1, -1), h, c)
            total = scores[:, None] + log_p
            top, index = total.flatten().topk(min(_BEAMS - len(finished), total.numel()))
            parents, following = index // total.shape[1], index % total.shape[1]
            beams = [[*beams[p], w] for p, w in zip(parents.tolist(), following.tolist(), strict=True)]
            finished += [(score, beam) for score, beam in zip(top.tolist(), beams, strict=True) if beam[-1] == end]
            # A finished beam is set aside, and the search goes on with one beam less.
            going = (following != end).nonzero().flatten()
            if not len(going):
                break
            beams = [beams[k] for k in going.tolist()]
            scores, h, c = top[going], h[parents[going]], c[parents[going]]
        failed = 0.0, [self.words.index("<pad>")] * 9  # where no beam comes to an end
        return max(finished, key=lambda one: one[0], default=failed)[1]


_FACES = ("faces256", "anime_photography_256", "celeba_celebahq_ffhq_256", "portraits_photography_256")
RELEASED_EXPERTS: dict[str, Any] = dict.fromkeys(_FACES, BigAutoencoderConfig())
RELEASED_EXPERTS |= {"coco256": BigAutoencoderConfig(latent_dim=256), "faces32": BasicAutoencoderConfig()}
RELEASED_EXPERTS |= {f"biggan{size}": GeneratorConfig(size) for size in _WIDTHS}
RELEASED_EXPERTS |= {"dequantiser": DequantiserConfig(), "captioner": CaptionerConfig()}
"""Sizes of the released files by name."""

NETWORKS = {
    BigAutoencoderConfig: (BigAutoencoder, "256-pixel autoencoder", "decoder.map_to_class_embedding.main.0.weight"),
    BasicAutoencoderConfig: (BasicAutoencoder, "32-pixel autoencoder", "autoencoder.dense_encode.sub_layers.0.weight"),
    GeneratorConfig: (BigGan, "BigGAN generator of Net2Net", "GBlock.0.conv0.module.weight_bar"),
    DequantiserConfig: (Dequantiser, "dequantiser", "mu_layer.main.0.weight"),
    CaptionerConfig: (Captioner, "captioner", "decoder.decode_step.weight_ih"),
}
"""Type of the configuration → its network, what it is called, the tensor that tells it."""
