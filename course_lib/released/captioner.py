"""The captioner of Net2Net, Show-Attend-Tell: it wrote the captions of generated pictures for text to image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.layers import FrozenNetwork, blocks_of_stages
from course_lib.released.strict import load_exactly, reading_sizes, take

__all__ = ["Captioner", "CaptionerConfig", "infer_captioner_config", "load_captioner"]

_FEATURES = 2048
"""Channels behind a ResNet's last stage of bottlenecks."""
_MAP_SIDE = 14
_BEAMS, _STEPS, _WORDS = 3, 50, 50
_PAD = "<pad>"
_FAILED = 9
"""Padding words in the caption of a picture for which no beam came to an end."""


@dataclass(frozen=True)
class CaptionerConfig:
    """Sizes of a captioner.

    Attributes:
        vocabulary: number of words.
        width: of embeddings, attention and state, which are one number here.
        encoder_layers: residual blocks in each of the ResNet's four stages.
    """

    vocabulary: int = 9490
    width: int = 512
    encoder_layers: tuple[int, ...] = (3, 4, 23, 3)


class _Encoder(nn.Module):
    def __init__(self, config: CaptionerConfig):
        from torchvision.models.resnet import Bottleneck, ResNet  # here, since torchvision takes seconds to import

        super().__init__()
        # Without pooling and classifier.
        self.resnet = nn.Sequential(*list(ResNet(Bottleneck, list(config.encoder_layers)).children())[:-2])


class _Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder_att, self.decoder_att = nn.Linear(_FEATURES, width), nn.Linear(width, width)
        self.full_att = nn.Linear(width, 1)

    def forward(self, places: Tensor, state: Tensor) -> Tensor:
        """Mean of the places ``(B, P, F)``, weighted by how they answer the state ``(B, W)``."""
        scores = self.full_att(F.relu(self.encoder_att(places) + self.decoder_att(state)[:, None])).squeeze(2)
        return (places * scores.softmax(1)[:, :, None]).sum(1)


class _Decoder(nn.Module):
    def __init__(self, config: CaptionerConfig):
        super().__init__()
        width = config.width
        self.attention = _Attention(width)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.decode_step = nn.LSTMCell(width + _FEATURES, width)
        self.init_h, self.init_c = nn.Linear(_FEATURES, width), nn.Linear(_FEATURES, width)
        self.f_beta, self.fc = nn.Linear(width, _FEATURES), nn.Linear(width, config.vocabulary)

    def step(self, words: Tensor, places: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the next word ``(B, V)`` after ``words (B,)``, and the new state."""
        seen = self.f_beta(h).sigmoid() * self.attention(places, h)
        h, c = self.decode_step(torch.cat([self.embedding(words), seen], dim=1), (h, c))
        return self.fc(h).log_softmax(1), h, c


class Captioner(FrozenNetwork):
    """Pictures → captions, by a beam search of width 3.

    Pictures go in as they are, in [−1, 1]: the released class defines an ImageNet normalisation and never calls it, so
    the translator was trained on captions of pictures that its captioner saw in the wrong range. To see what the
    captioner says otherwise, normalise the pictures first.

    Args:
        config: sizes.
        words: the vocabulary in the order of its numbers, with ``<start>``, ``<end>`` and ``<pad>``.

    References:
        Xu et al. 2015; the tutorial port that CompVis/net2net uses, with its way of ending a search.
    """

    def __init__(self, config: CaptionerConfig | None = None, words: Sequence[str] = ()):
        super().__init__()
        self.config, self.words = config or CaptionerConfig(), tuple(words)
        self.encoder, self.decoder = _Encoder(self.config), _Decoder(self.config)
        self.frozen()

    @torch.no_grad()
    def caption(self, images: Tensor) -> list[str]:
        """Captions as the sentence expert got them: ``"<start> a red bird <end> "``, at most 50 words.

        Args:
            images: ``(B, 3, S, S)`` in [−1, 1].

        Raises:
            CourseError: there is no vocabulary, or not one of this captioner's size.
        """
        if len(self.words) != self.config.vocabulary or not {"<start>", "<end>", _PAD} <= set(self.words):
            raise CourseError(
                f"this captioner knows {self.config.vocabulary} words, with <start>, <end> and <pad>, and was given "
                f"{len(self.words)}: pass the word map that was published with its weights to load_captioner."
            )
        maps = F.adaptive_avg_pool2d(self.encoder.resnet(images), _MAP_SIDE)
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


def infer_captioner_config(state: Mapping[str, Tensor]) -> CaptionerConfig:
    """Reads the sizes off the tensors.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a captioner"):
        vocabulary, width = state["decoder.embedding.weight"].shape
        stages = [take(state, f"encoder.resnet.{place}.") for place in (4, 5, 6, 7)]
        return CaptionerConfig(vocabulary, width, blocks_of_stages(stages))


def load_captioner(path: str | Path, word_map: Mapping[str, int], config: CaptionerConfig | None = None) -> Captioner:
    """Reads the captioner's file.

    Args:
        path: ``.safetensors`` or a torch file.
        word_map: word → number, the JSON file that was published beside the weights.
        config: what the file must fit, ``CaptionerConfig()`` for the released one; None reads the sizes off it.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = read_state_dict(path)
    with torch.device("meta"):
        network = Captioner(config or infer_captioner_config(state), sorted(word_map, key=word_map.__getitem__))
    return load_exactly(network, state, "this captioner")
