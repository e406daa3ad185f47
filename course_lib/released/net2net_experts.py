"""Net2Net's smaller experts, in the same way.

The autoencoder of 32 pixels (source of super-resolution), the dequantiser of BigGAN's class embeddings, and the
captioner that wrote the captions of its pictures.

References:
    Net2Net (Rombach et al. 2020), section 4 and supplement, table 5; CompVis/net2net.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..experts.autoencoder import Posterior
from ..experts.protocol import freeze
from .net2net_biggan import (
    FEATURES,
    BigAutoencoderConfig,
    FrozenActNorm,
    GeneratorConfig,
    chain,
    check_latents,
    fully_connected,
    posterior_of,
    resnet,
    stages_of,
)
from .reading import State

__all__ = ["RELEASED_EXPERTS", "BasicAutoencoder", "BasicAutoencoderConfig", "Captioner", "CaptionerConfig"]
__all__ += ["Dequantiser", "DequantiserConfig"]

# --- the autoencoder of 32 pixels ----------------------------------------


@dataclass(frozen=True)
class BasicAutoencoderConfig:
    """Sizes of a basic autoencoder.

    With ``sample_codes`` ``encode`` draws from the posterior, as the released code always does. By default it is the
    mean, so that one picture has the same condition at every call.
    """

    latent_dim: int = 128
    downsamplings: int = 4  # halvings, and doublings on the way back
    bottleneck: int = 2  # side in pixels of the map between them
    channels: int = 3  # of the pictures
    base: int = 64  # width at half the side; it doubles with every halving, up to 16 times
    sample_codes: bool = False

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.bottleneck * 2**self.downsamplings

    @classmethod
    def read(cls, state: State) -> Self:
        scales = {name.split(".")[2] for name in state if name.startswith("autoencoder.feature_layers.")}
        code, _, side, _ = state["autoencoder.dense_encode.sub_layers.0.weight"].shape
        base, channels = state["autoencoder.feature_layers.0.sub_layers.0.weight"].shape[:2]
        return cls(code // 2, len(scales), side, channels, base)


class _BasicNetwork(nn.Module):
    def __init__(self, config: BasicAutoencoderConfig):
        super().__init__()
        widths = [config.base * min(2**scale, 16) for scale in range(config.downsamplings)]
        strided = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False}
        pairs = list(pairwise([config.channels, *widths]))

        def activated(convolution: nn.Module) -> nn.Module:
            return chain("sub_layers", convolution, FrozenActNorm(convolution.out_channels), nn.LeakyReLU(0.2))

        self.feature_layers = nn.ModuleList(activated(nn.Conv2d(*pair, **strided)) for pair in pairs)
        # Coarse layers come last here and run first.
        self.decoder_layers = nn.ModuleList(
            activated(nn.ConvTranspose2d(outer, inner, **strided)) for inner, outer in pairs[1:]
        )
        code, side, top = config.latent_dim, config.bottleneck, widths[-1]
        self.dense_encode = chain("sub_layers", nn.Conv2d(top, 2 * code, side))
        self.dense_decode = chain("sub_layers", nn.ConvTranspose2d(code, top, side))
        last = nn.ConvTranspose2d(widths[0], config.channels, **strided)
        self.image_layer = chain("sub_layers", last, nn.Tanh())


class BasicAutoencoder(nn.Module):
    """The source expert of super-resolution.

    The released wrapper can only encode; the weights of the decoder are in its files, so here it decodes too.
    """

    def __init__(self, config: BasicAutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or BasicAutoencoderConfig()
        self.latent_dim, self.condition_shape = config.latent_dim, (config.latent_dim,)
        self.autoencoder = _BasicNetwork(config)
        freeze(self)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each picture."""
        wanted = (self.config.channels, self.config.size, self.config.size)
        if tuple(images.shape[1:]) != wanted:
            raise CourseError(f"this autoencoder takes pictures (B, {', '.join(map(str, wanted))}): resize them first.")
        x = images
        for layer in self.autoencoder.feature_layers:
            x = layer(x)
        return posterior_of(self.autoencoder.dense_encode(x))

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents: the posterior's mean, or with ``sample_codes`` a draw from it."""
        posterior = self.posterior(x)
        return posterior.sample(generator) if self.config.sample_codes else posterior.mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        x = self.autoencoder.dense_decode(check_latents(self, latent)[:, :, None, None])
        for layer in reversed(self.autoencoder.decoder_layers):
            x = layer(x)
        return self.autoencoder.image_layer(x)


# --- dequantiser ----------------------------------------


@dataclass(frozen=True)
class DequantiserConfig:
    """Sizes: width of an embedding, of the code, and of the hidden layers."""

    dim: int = 128
    code_dim: int = 128
    hidden_dim: int = 4096

    @classmethod
    def read(cls, state: State) -> Self:
        hidden, dim = state["encoder.main.0.weight"].shape
        return cls(dim, state["decoder.main.0.weight"].shape[1], hidden)


class Dequantiser(nn.Module):
    """A variational autoencoder of vectors; its random reconstruction stands in for BigGAN's exact class embedding.

    A thousand embeddings are a thousand points, and a flow trained on points puts ever narrower spikes on them. The
    picture of a training pair is made of the exact embedding, the flow's target of the random one.
    """

    def __init__(self, config: DequantiserConfig | None = None):
        super().__init__()
        self.config = config = config or DequantiserConfig()
        hidden = [config.hidden_dim] * 3
        self.encoder = fully_connected([config.dim, *hidden, config.dim])
        self.mu_layer = fully_connected([config.dim, *hidden, config.code_dim])
        self.logvar_layer = fully_connected([config.dim, *hidden, config.code_dim])
        self.decoder = fully_connected([config.code_dim, *hidden, config.hidden_dim, config.dim])
        freeze(self)

    @torch.no_grad()
    def posterior(self, embedding: Tensor) -> Posterior:
        """Distribution of the code for embeddings ``(B, dim)``."""
        features = self.encoder(embedding)
        return posterior_of(torch.cat([self.mu_layer(features), self.logvar_layer(features)], dim=1))

    @torch.no_grad()
    def forward(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Random neighbours ``(B, dim)`` of embeddings ``(B, dim)``."""
        return self.decoder(self.posterior(embedding).sample(generator))


# --- captioner ----------------------------------------

_MAP_SIDE = 14
_BEAMS, _STEPS, _WORDS = 3, 50, 50
_PAD = "<pad>"
_FAILED = 9
"""Padding words in the caption of a picture for which no beam came to an end."""


@dataclass(frozen=True)
class CaptionerConfig:
    """Sizes of a captioner."""

    vocabulary: int = 9490
    width: int = 512  # of embeddings, attention and state, which are one number here
    encoder_layers: tuple[int, ...] = (3, 4, 23, 3)  # residual blocks in each of the ResNet's four stages

    @classmethod
    def read(cls, state: State) -> Self:
        vocabulary, width = state["decoder.embedding.weight"].shape
        return cls(vocabulary, width, stages_of(state, [f"encoder.resnet.{place}." for place in (4, 5, 6, 7)]))


class _PlaceAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder_att, self.decoder_att = nn.Linear(FEATURES, width), nn.Linear(width, width)
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
        self.decode_step = nn.LSTMCell(width + FEATURES, width)
        self.init_h, self.init_c = nn.Linear(FEATURES, width), nn.Linear(FEATURES, width)
        self.f_beta, self.fc = nn.Linear(width, FEATURES), nn.Linear(width, config.vocabulary)

    def step(self, words: Tensor, places: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the next word ``(B, V)`` after ``words (B,)``, and the new state."""
        seen = self.f_beta(h).sigmoid() * self.attention(places, h)
        h, c = self.decode_step(torch.cat([self.embedding(words), seen], dim=1), (h, c))
        return self.fc(h).log_softmax(1), h, c


class Captioner(nn.Module):
    """Pictures → captions, by a beam search of width 3 (Show-Attend-Tell).

    Pictures go in as they are, in [−1, 1]: the released class defines an ImageNet normalisation and never calls it, so
    the translator was trained on captions of pictures that its captioner saw in the wrong range. For other captions
    normalise the pictures first.

    ``words`` are the vocabulary in the order of its numbers, with ``<start>``, ``<end>`` and ``<pad>``.

    References:
        Xu et al. 2015; the tutorial port that CompVis/net2net uses, with its way of ending a search.
    """

    def __init__(self, config: CaptionerConfig | None = None, words: Sequence[str] = ()):
        super().__init__()
        self.config, self.words = config or CaptionerConfig(), tuple(words)
        # Without pooling and classifier.
        trunk = nn.Sequential(*list(resnet(self.config.encoder_layers).children())[:-2])
        self.encoder = nn.Sequential(OrderedDict(resnet=trunk))
        self.decoder = _WordDecoder(self.config)
        freeze(self)

    @torch.no_grad()
    def caption(self, images: Tensor) -> list[str]:
        """Captions as the sentence expert got them: ``"<start> a red bird <end> "``, at most 50 words."""
        if len(self.words) != self.config.vocabulary or not {"<start>", "<end>", _PAD} <= set(self.words):
            raise CourseError(
                f"this captioner has {self.config.vocabulary} words, with <start>, <end> and <pad>, and was given "
                f"{len(self.words)}: pass the word map that was published with its weights to load_net2net_expert."
            )
        maps = F.adaptive_avg_pool2d(self.encoder(images), _MAP_SIDE)
        places = maps.flatten(2).transpose(1, 2)
        return ["".join(self.words[k] + " " for k in self._search(one)[:_WORDS]) for one in places]

    def _search(self, places: Tensor) -> list[int]:
        """Word numbers of the likeliest finished beam for one picture's places ``(P, F)``."""
        start, end = self.words.index("<start>"), self.words.index("<end>")
        decoder, device = self.decoder, places.device
        places = places[None]
        h, c = decoder.init_h(places.mean(1)), decoder.init_c(places.mean(1))
        beams, scores = [[start]], torch.zeros(1, device=device)
        wanted, best, best_score = _BEAMS, [self.words.index(_PAD)] * _FAILED, -float("inf")
        for _ in range(_STEPS + 1):
            last = torch.tensor([beam[-1] for beam in beams], device=device)
            log_p, h, c = decoder.step(last, places.expand(len(beams), -1, -1), h, c)
            total = scores[:, None] + log_p
            top, index = total.flatten().topk(min(wanted, total.numel()))
            parents, following = index // total.shape[1], index % total.shape[1]
            beams = [[*beams[p], w] for p, w in zip(parents.tolist(), following.tolist(), strict=True)]
            for beam, score in zip(beams, top.tolist(), strict=True):
                if beam[-1] == end:
                    wanted -= 1
                    if score > best_score:
                        best, best_score = beam, score
            # A finished beam is set aside, and the search goes on with one beam less.
            going = (following != end).nonzero().flatten()
            if not len(going):
                break
            beams = [beams[k] for k in going.tolist()]
            scores, h, c = top[going], h[parents[going]], c[parents[going]]
        return best


RELEASED_EXPERTS: Mapping[str, Any] = {
    "faces256": BigAutoencoderConfig(),
    "coco256": BigAutoencoderConfig(latent_dim=256),
    "anime_photography_256": BigAutoencoderConfig(),
    "celeba_celebahq_ffhq_256": BigAutoencoderConfig(),
    "portraits_photography_256": BigAutoencoderConfig(),
    "faces32": BasicAutoencoderConfig(),
    "biggan128": GeneratorConfig(128),
    "biggan256": GeneratorConfig(256),
    "dequantiser": DequantiserConfig(),
    "captioner": CaptionerConfig(),
}
"""Sizes of the released files by name."""
