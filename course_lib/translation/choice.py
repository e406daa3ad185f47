"""One target, many sources: the source decides what a translation keeps (Net2Net, paper §4, figures 4 to 12).

The target expert, its latents and the held-out pictures stay; only the source changes. A source is any layer of any
frozen expert, of the picture or of a changed copy of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cinn import GridFlow, GridFlowConfig
from ..data import ImageSet
from ..data.degrade import grey, grey_square
from ..data.people import ATTRIBUTES
from ..data.warp import random_warp
from ..errors import CourseError
from ..evaluation import Judge, diversity, frechet_distance
from ..experts import GridAutoencoder, GridExpert, LayerExpert, SegmenterExpert, SourceExpert, freeze, load_expert
from ..paths import CHECKPOINTS
from ..training import load_weights
from .pairs import Pairs, encode_pairs
from .regression import GridRegressor
from .superresolution import explained
from .training import held_out_nats
from .translator import Translator

__all__ = [
    "NOISE",
    "SOURCES",
    "WARP_STRENGTH",
    "Choice",
    "ChoiceScores",
    "ColourPresence",
    "ExperimentData",
    "PooledSource",
    "TransformedExpert",
    "choice_flow",
    "load_choice",
    "regressor_answers",
    "score_choice",
]

NOISE = 0.2
"""On the latents of training, whose own standard deviations are 1 to 2. Without it a probe reads the condition from v,
see ``recipes.translators``."""

GRID_RIDGE = 0.01
"""Penalty of the linear start, where every cell of every picture is an example."""

WARP_STRENGTH = 2.0
"""Twice the released code's."""

_MOST_NEIGHBOURS = 800


class TransformedExpert:
    """A source expert that gets a changed copy of each picture.

    Args:
        expert: any source expert.
        transform: pictures ``(B, 3, S, S)`` in [−1, 1] → changed pictures.
    """

    def __init__(self, expert: SourceExpert, transform: Callable[[Tensor], Tensor]):
        self.expert, self.transform, self.condition_shape = expert, transform, expert.condition_shape

    def encode(self, x: Tensor) -> Tensor:
        """The expert's output for the changed pictures."""
        return self.expert.encode(self.transform(x))


class ColourPresence:
    """Which colours there are, but not where and how much of them.

    Every place of the picture, averaged to 16×16, belongs to the nearest points of a 4×4×4 lattice in colour space. Of
    each point only the strongest share over all places is kept.
    """

    condition_shape = (64,)

    def encode(self, x: Tensor) -> Tensor:
        """``(B, 64)`` in [0, 1], of images in [−1, 1]."""
        places = F.adaptive_avg_pool2d(x, 16).flatten(2)[..., None]
        shares = (1 - (places - torch.linspace(-1, 1, 4).to(x)).abs() * 1.5).clamp_min(0)
        return torch.einsum("bni,bnj,bnk->bnijk", *shares.unbind(1)).amax(1).flatten(1)


class PooledSource:
    """Source expert: another expert's output, averaged to few places and standardised.

    Maps get mean 0 and standard deviation 1 in every channel, vectors in every coordinate. Maps keep as many places as
    the target's grid has cells, or twice as many along each side where the neighbourhood of a cell stays small.

    Args:
        expert: gives vectors or maps.
        output: ``(N, C, H, W)`` or ``(N, K)``, its output for training pictures.
        side: cells along one side of the target's latent.
    """

    def __init__(self, expert: SourceExpert, output: Tensor, side: int):
        self.expert, self.condition_shape = expert, tuple(output.shape[1:])
        if output.ndim == 4:
            channels, size = output.shape[1:3]
            fine = channels * 4**2 <= _MOST_NEIGHBOURS and 2 * side <= size
            places = 2 * side if fine else side
            self.condition_shape = (channels, places, places)
        pooled = self.pool(output)
        axes = (0, 2, 3) if output.ndim == 4 else 0
        # What hardly varies is not blown up: its deviation counts as a twentieth of the mean one at least.
        deviation = pooled.std(axes, keepdim=True)
        self.mean, self.deviation = pooled.mean(axes, keepdim=True), deviation.clamp_min(0.05 * deviation.mean() + 1e-6)

    @classmethod
    def restore(cls, expert: SourceExpert, shape: tuple[int, ...], state: dict[str, Tensor]) -> "PooledSource":
        """The source that gave :meth:`state`, around an expert of the same kind."""
        source = cls.__new__(cls)
        source.expert, source.condition_shape = expert, tuple(shape)
        source.mean, source.deviation = state["mean"], state["deviation"]
        return source

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the expert and the shape."""
        return {"mean": self.mean, "deviation": self.deviation}

    def transformed(self, transform: Callable[[Tensor], Tensor]) -> "PooledSource":
        """The same source for changed pictures."""
        return self.restore(TransformedExpert(self.expert, transform), self.condition_shape, self.state())

    def pool(self, output: Tensor) -> Tensor:
        """The expert's output, ``(B, C, H, W)`` averaged to few places; pooling twice changes nothing more."""
        return F.adaptive_avg_pool2d(output, self.condition_shape[1:]) if output.ndim == 4 else output

    def standardise(self, output: Tensor) -> Tensor:
        """Condition ``(B, *condition_shape)`` of the expert's output."""
        return (self.pool(output) - self.mean) / self.deviation

    def encode(self, x: Tensor) -> Tensor:
        """Condition of images in [−1, 1]."""
        return self.standardise(self.expert.encode(x))


def _changed(transform: Callable[[Tensor], Tensor], device: str | torch.device) -> SourceExpert:
    return TransformedExpert(GridExpert(load_expert("avatar-autoencoder", device)), transform)


def _parts(layer: str, device: str | torch.device) -> SourceExpert:
    return SegmenterExpert(load_expert("avatar-segmenter", device), layer)


def _biased(name: str, device: str | torch.device) -> SourceExpert:
    return LayerExpert(load_expert(name, device), "middle")


def _appearance(device: str | torch.device) -> SourceExpert:
    generator = torch.Generator().manual_seed(0)
    return TransformedExpert(ColourPresence(), lambda x: random_warp(x, generator, WARP_STRENGTH))


SOURCES: dict[str, Callable[[str | torch.device], SourceExpert]] = {
    "colourisation": partial(_changed, grey),
    "inpainting": partial(_changed, grey_square),
    "segmenter-early": partial(_parts, "early"),
    "segmenter-middle": partial(_parts, "middle"),
    "segmenter-logits": partial(_parts, "logits"),
    "segmenter-argmax": partial(_parts, "argmax"),
    "edges-shape": partial(_biased, "classifier-shape"),
    "edges-texture": partial(_biased, "classifier-texture"),
    "shape-appearance": _appearance,
}
"""Name of a shipped translator → its source expert on a device, before pooling."""


def load_choice(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """A shipped translator into the autoencoder of people, with its source.

    Args:
        name: a key of :data:`SOURCES`.
        device: where to put the networks.
        folder: where weights and cards of the flow are.

    Raises:
        CourseError: no such source, missing or damaged files, or a checkpoint of another kind.
    """
    if name not in SOURCES:
        raise CourseError(f"there is no source {name!r}: choose one of {', '.join(SOURCES)}.")
    tensors, card = load_weights(name, folder)
    if card.kind != "choice":
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a choice of a source.")
    config = GridFlowConfig.from_dict(card.config)
    state = {key.removeprefix("source."): tensors.pop(key).to(device) for key in list(tensors) if "source." in key}
    flow = GridFlow(config)
    flow.load_state_dict(tensors)
    source = PooledSource.restore(SOURCES[name](device), config.condition_shape, state)
    return Translator(source, freeze(flow.to(device)), load_expert("avatar-autoencoder", device))


def choice_flow(pairs: Pairs, target: GridAutoencoder, seed: int = 0, **sizes: Any) -> GridFlow:
    """An untrained flow for one source, with the linear start.

    Args:
        pairs: training pairs.
        target: whose latents they are.
        seed: of the weights.
        sizes: replace those of :class:`GridFlowConfig`.
    """
    small = {"hidden_dim": 24, "blocks": 4, "embedding_dim": 16}
    shape = tuple(pairs.condition.shape[1:])
    config = GridFlowConfig(target.config.channels, target.config.side, shape, **small | sizes)
    flow = GridFlow(config, torch.Generator().manual_seed(seed))
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), ridge=GRID_RIDGE)
    return flow


@dataclass(frozen=True)
class ExperimentData:
    """What all sources are scored on.

    Attributes:
        target: target expert, frozen.
        judge: scores, and never trains anything.
        held: held-out pictures.
        latents: of ``held``; their condition is empty.
        real: ``(N, 3, S, S)``, the held-out pictures.
        features: ``(N, F)``, the judge's features of them.
    """

    target: GridAutoencoder
    judge: Judge
    held: ImageSet
    latents: Pairs
    real: Tensor
    features: Tensor

    @classmethod
    def prepare(cls, target: GridAutoencoder, judge: Judge, held: ImageSet) -> "ExperimentData":
        """Encodes the pictures with the target expert, once for all sources."""
        latents = encode_pairs(held, lambda x: x.new_zeros(len(x), 0), target, noise=NOISE)
        real = torch.cat(list(held.batches(250))).to(next(target.parameters()).device)
        return cls(target, judge, held, latents, real, judge.features(real))

    def conditions(self, source: SourceExpert) -> Tensor:
        """``(N, *condition_shape)`` of the held-out pictures."""
        with torch.no_grad():
            return torch.cat([source.encode(x) for x in self.real.split(250)])

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(N, 3, S, S)`` on the CPU."""
        with torch.no_grad():
            return torch.cat([self.target.decode(part).cpu() for part in latent.split(250)])


@dataclass(frozen=True)
class ChoiceScores:
    """Scores on held-out pictures; features are the judge's.

    Attributes:
        frechet: Fréchet distance between translations and real pictures; lower is better.
        accuracy: share of right attributes that the judge reads from translations, mean over attributes.
        consistency: explained share of the condition's variance when the source encodes the translations.
        diversity: mean feature distance between two translations of one input.
        pixel_spread: root mean square difference of two translations of one input, in [0, 2].
        nats: negative log-likelihood of the true latent, a picture.
    """

    frechet: float
    accuracy: float
    consistency: float
    diversity: float
    pixel_spread: float
    nats: float


@dataclass(frozen=True)
class Choice:
    """Translations of the held-out pictures.

    Attributes:
        condition: ``(N, …)`` of the held-out pictures.
        pictures: ``(N, samples, 3, S, S)``.
        scores: of these.
    """

    condition: Tensor
    pictures: Tensor
    scores: ChoiceScores


@torch.no_grad()
def score_choice(
    data: ExperimentData, translator: Translator, samples: int = 2, temperature: float = 1.0, seed: int = 0
) -> Choice:
    """Translates the held-out pictures and scores the translations.

    Args:
        data: target, pictures and judge.
        translator: into that target.
        samples: translations of each picture, two at least.
        temperature: standard deviation of their residuals.
        seed: of the residuals.
    """
    condition = data.conditions(translator.source)
    many = condition.repeat_interleave(samples, 0)
    drawn = data.decode(translator.flow.sample(many, temperature, torch.Generator().manual_seed(seed)))
    pictures = drawn.view(len(data.real), samples, *drawn.shape[1:])
    features = data.judge.features(drawn).unflatten(0, pictures.shape[:2])
    heads, first = data.judge.network.heads, features[:, 0].to(data.real.device)
    labels = [label for label in ATTRIBUTES if label in heads and label in data.held.labels]
    right = [heads[label](first).argmax(1).cpu() == data.held.labels[label] for label in labels]
    again = torch.cat([translator.source.encode(x.to(data.real.device)) for x in pictures[:, 0].split(250)])
    scores = ChoiceScores(
        frechet_distance(data.features, features[:, 0]),
        torch.stack(right).float().mean().item(),
        explained(condition.flatten(1), again.flatten(1)),
        diversity(features),
        (pictures[:, 0] - pictures[:, 1]).square().mean().sqrt().item(),
        held_out_nats(translator.flow, Pairs(condition, data.latents.mean, data.latents.std)),
    )
    return Choice(condition, pictures, scores)


@torch.no_grad()
def regressor_answers(data: ExperimentData, regressor: GridRegressor, condition: Tensor) -> tuple[Tensor, float]:
    """The paper's baseline for one source.

    Args:
        data: target, pictures and judge.
        regressor: from conditions to the target's latents, trained.
        condition: ``(N, …)`` of the held-out pictures, as the flow's source gives them.

    Returns:
        ``(N, 3, S, S)``, its one answer for each held-out picture, and their Fréchet distance.
    """
    pictures = data.decode(torch.cat([regressor(part) for part in condition.split(250)]))
    return pictures, frechet_distance(data.features, data.judge.features(pictures))
