"""One experiment, many sources: what a translation keeps is decided by who speaks (paper §4, figures 4 to 12).

The target expert, its latents and the held-out pictures stay; the source expert and what it is shown change.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig
from ..data import ImageSet
from ..evaluation import Judge, diversity, frechet_distance
from ..experts import Autoencoder, SourceExpert
from ..training import Budget, train
from .components import Components, ComponentSource, flat
from .pairs import Pairs, encode_pairs
from .superresolution import explained
from .training import FlowMethod, held_out_nats
from .translator import Translator

__all__ = ["Bench", "Choice", "ChoiceScores", "StandardisedSource", "choose_source", "flow_config", "unchanged"]

See = Callable[[Tensor], Tensor]
"""What the source expert is shown of float pictures ``(B, 3, S, S)``."""


def unchanged(x: Tensor) -> Tensor:
    """The source expert is shown the picture itself."""
    return x


@dataclass(frozen=True)
class Bench:
    """What all experiments share.

    Attributes:
        target: target expert, frozen.
        judge: scores, and never trains anything.
        training, held: data sets.
        latents: of ``training``; their condition is empty.
        held_latents: of ``held``.
        real: ``(N, 3, S, S)``, the held-out pictures.
        features: ``(N, F)``, the judge's features of them.
    """

    target: Autoencoder
    judge: Judge
    training: ImageSet
    held: ImageSet
    latents: Pairs
    held_latents: Pairs
    real: Tensor
    features: Tensor

    @classmethod
    def prepare(cls, target: Autoencoder, judge: Judge, training: ImageSet, held: ImageSet) -> "Bench":
        """Encodes both sets with the target expert, once for all experiments."""
        latents, held_latents = (
            encode_pairs(data, lambda x: x.new_zeros(len(x), 0), target) for data in (training, held)
        )
        real = torch.cat(list(held.batches(250))).to(next(target.parameters()).device)
        return cls(target, judge, training, held, latents, held_latents, real, judge.features(real))

    @property
    def device(self) -> torch.device:
        """Where the experts live."""
        return next(self.target.parameters()).device

    @torch.no_grad()
    def outputs(self, expert: SourceExpert, see: See = unchanged, held: bool = False) -> Tensor:
        """``(N, *condition_shape)``: the source expert's output for the training (or held-out) pictures."""
        data = self.held if held else self.training
        return torch.cat([expert.encode(see(x.to(self.device))) for x in data.batches(250)])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(N, 3, S, S)`` on the CPU."""
        return torch.cat([self.target.decode(part).cpu() for part in latent.split(250)])


@dataclass(frozen=True)
class ChoiceScores:
    """Scores on held-out pictures; features are the judge's.

    Attributes:
        frechet: Fréchet distance between translations and real pictures; lower is better.
        accuracy: share of translations that the judge puts into the true subgroup.
        consistency: explained share of the condition's variance when translations are shown to the source again.
        diversity: mean feature distance between two translations of one input.
        pixel_spread: root mean square difference of two translations of one input, in [0, 2].
        nats: negative log-likelihood of the true latent, a picture, on held-out pictures.
    """

    frechet: float
    accuracy: float
    consistency: float
    diversity: float
    pixel_spread: float
    nats: float


@dataclass(frozen=True)
class Choice:
    """A trained translator and what came of it.

    Attributes:
        translator: source, flow and target; the source is shown what ``see`` makes of a picture.
        pairs: it was trained on.
        condition: ``(N, …)`` of the held-out pictures as the test showed them.
        pictures: ``(N, samples, 3, S, S)``, translations of the held-out pictures.
        scores: of these.
        seconds: of training.
    """

    translator: Translator
    pairs: Pairs
    condition: Tensor
    pictures: Tensor
    scores: ChoiceScores
    seconds: float


class StandardisedSource:
    """Source expert: another expert's maps with mean 0 and deviation 1 in every channel, for a convolutional embedder.

    Args:
        expert: gives maps.
        output: ``(N, C, H, W)``, its output for training pictures.
    """

    def __init__(self, expert: SourceExpert, output: Tensor):
        self.expert, self.condition_shape = expert, tuple(output.shape[1:])
        self.mean = output.mean((0, 2, 3), keepdim=True)
        self.deviation = output.std((0, 2, 3), keepdim=True) + 1e-3

    def normalise(self, output: Tensor) -> Tensor:
        """Condition ``(B, C, H, W)`` of the expert's output."""
        return (output - self.mean) / self.deviation

    def encode(self, x: Tensor) -> Tensor:
        """Condition of images in [−1, 1]."""
        return self.normalise(self.expert.encode(x))


def choose_source(
    bench: Bench,
    expert: SourceExpert,
    steps: int,
    *,
    see: See = unchanged,
    see_at_test: See | None = None,
    known: tuple[Tensor, Tensor] | None = None,
    convolutional: bool = False,
    components: int = 128,
    samples: int = 2,
    seed: int = 0,
    flow: ConditionalFlow | None = None,
) -> Choice:
    """Trains a flow from one source expert to the bench's target and scores it on held-out pictures.

    Args:
        bench: target, pictures and judge.
        expert: source expert, frozen.
        steps: of training, batches of 256.
        see: what the expert is shown of a picture while training.
        see_at_test: what it is shown of held-out pictures; the same by default.
        known: the expert's outputs for training and held-out pictures, where they have been computed already.
        convolutional: feed the map itself to a convolutional embedder, as the paper does. By default the map's leading
            principal components are the condition and the flow begins with the least-squares guess from them.
        components: how many.
        samples: translations of each held-out picture, two at least.
        seed: of weights, batches and residuals.
        flow: a trained flow, which is scored as it is; ``expert`` then gives its condition directly.

    Raises:
        CourseError: fewer training pictures than components, or maps where the flow takes vectors.
    """
    see_at_test = see_at_test or see
    heard, told = known or (bench.outputs(expert, see), bench.outputs(expert, see_at_test, held=True))
    if flow is not None:
        source, conditions = expert, (heard, told)
    elif convolutional:
        source = StandardisedSource(expert, heard)
        conditions = (source.normalise(heard), source.normalise(told))
    else:
        source = ComponentSource(expert, Components.fit(flat(heard), components, seed))
        conditions = (source.components(flat(heard)), source.components(flat(told)))
    pairs = Pairs(conditions[0], bench.latents.mean, bench.latents.deviation)
    seconds = 0.0
    if flow is None:
        flow, seconds = _train(pairs, steps, seed, convolutional)
    translator = Translator(source, flow, bench.target)
    many = conditions[1].repeat_interleave(samples, 0)
    drawn = bench.decode(flow.sample(many, 1.0, torch.Generator().manual_seed(seed)))
    pictures = drawn.view(len(bench.real), samples, *drawn.shape[1:])
    scores = _score(bench, translator, see_at_test, conditions[1], pictures)
    return Choice(translator, pairs, conditions[1], pictures, scores, seconds)


def flow_config(dim: int, condition_shape: tuple[int, ...]) -> FlowConfig:
    """Four blocks of width 96, under half a million parameters; a linear start where the condition is a vector."""
    sizes = {"hidden_dim": 96, "hidden_depth": 1, "blocks": 4, "embedding_dim": 64, "embedder_depth": 0}
    return FlowConfig.quick(dim, condition_shape, **sizes, condition_shift=len(condition_shape) == 1)


def _train(pairs: Pairs, steps: int, seed: int, convolutional: bool) -> tuple[ConditionalFlow, float]:
    config = flow_config(pairs.mean.shape[1], tuple(pairs.condition.shape[1:]))
    flow = ConditionalFlow(config, torch.Generator().manual_seed(seed))
    if not convolutional:
        flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu())
    method = FlowMethod(pairs, flow, 2e-3, 0.05)
    quiet = {"log_every": max(1, steps), "checkpoint_every": 0, "preview_every": 0, "progress": False}
    accelerator = pairs.mean.device.type
    history = train(method, Budget(steps), min(256, len(pairs)), seed=seed, accelerator=accelerator, **quiet)
    return flow.eval(), history.seconds


@torch.no_grad()
def _score(bench: Bench, translator: Translator, see: See, condition: Tensor, pictures: Tensor) -> ChoiceScores:
    first = pictures[:, 0]
    features = bench.judge.features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
    named = bench.judge.network.heads["subgroup"](features[:, 0].to(bench.device)).argmax(1).cpu()
    again = torch.cat([translator.source.encode(see(x.to(bench.device))) for x in first.split(250)])
    held = Pairs(condition, bench.held_latents.mean, bench.held_latents.deviation)
    return ChoiceScores(
        frechet_distance(bench.features, features[:, 0]),
        (named == bench.held.labels["subgroup"]).float().mean().item(),
        explained(condition.flatten(1), again.flatten(1)),
        diversity(features),
        (pictures[:, 0] - pictures[:, 1]).square().mean().sqrt().item(),
        held_out_nats(translator.flow, held),
    )
