"""One experiment, many sources: what a translation keeps is decided by who speaks (paper §4, figures 4 to 12).

The target expert, its latents and the held-out pictures stay; the source expert and what it is shown change.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from ..data.people import ATTRIBUTES
from ..evaluation import diversity, frechet_distance
from ..experts import GridAutoencoder, SourceExpert, TargetExpert
from ..training import Budget, train
from .bench import Bench, See, unchanged
from .pairs import Pairs
from .pooled import PooledSource
from .regression import GridRegressor, Regressor
from .superresolution import explained
from .training import FlowMethod, PairMethod, held_out_nats
from .translator import Translator

__all__ = [
    "RIDGE",
    "Choice",
    "ChoiceScores",
    "choice_flow",
    "choose_source",
    "grid_side",
    "regressor_answers",
    "use_translator",
]

RIDGE = 0.1
"""Penalty of the linear start: flattened maps have nearly as many numbers as a quick run has pictures."""

GRID_RIDGE = 0.01
"""The same for grids, where every cell of every picture is an example."""


@dataclass(frozen=True)
class ChoiceScores:
    """Scores on held-out pictures; features are the judge's.

    Attributes:
        frechet: Fréchet distance between translations and real pictures; lower is better.
        accuracy: share of translations in which the judge reads the true subgroup; of people, the mean over attributes.
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
        pairs: of the training pictures; None where nobody asked for them, see :func:`use_translator`.
        condition: ``(N, …)`` of the held-out pictures as the test showed them.
        pictures: ``(N, samples, 3, S, S)``, translations of the held-out pictures.
        scores: of these.
        seconds: of training.
    """

    translator: Translator
    pairs: Pairs | None
    condition: Tensor
    pictures: Tensor
    scores: ChoiceScores
    seconds: float


def choose_source(
    bench: Bench,
    expert: SourceExpert,
    steps: int,
    *,
    see: See = unchanged,
    see_at_test: See | None = None,
    known: tuple[Tensor, Tensor] | None = None,
    linear_start: bool = True,
    limit: float = float("inf"),
    samples: int = 2,
    temperature: float = 1.0,
    seed: int = 0,
) -> Choice:
    """Trains a flow from one source expert to the bench's target and scores it on held-out pictures.

    Maps go through a convolutional embedder, vectors through one linear layer. The flow is flat or a grid of cells, as
    the target's latent is.

    Args:
        bench: target, pictures and judge.
        expert: source expert, frozen.
        steps: of training, batches of 256, or of 64 for a grid: each of its pictures has many cells.
        see: what the expert is shown of a picture while training.
        see_at_test: what it is shown of held-out pictures; the same by default.
        known: the expert's outputs for training and held-out pictures, where they have been computed already.
        linear_start: begin with the least-squares guess of the latent from the condition.
        limit: of the condition, see :class:`PooledSource`.
        samples: translations of each held-out picture, two at least.
        temperature: standard deviation of their residuals.
        seed: of weights, batches and residuals.
    """
    see_at_test = see_at_test or see
    heard, told = known or (bench.outputs(expert, see), bench.outputs(expert, see_at_test, held=True))
    source = PooledSource(expert, heard, limit, grid_side(bench.target))
    pairs = Pairs(source.standardise(heard), bench.latents.mean, bench.latents.std)
    flow = choice_flow(pairs, bench.target, seed, linear_start)
    seconds = _run(FlowMethod(pairs, flow, 2e-3, 0.05), steps, seed)
    if isinstance(flow, GridFlow):
        flow.eval().fit_whitening(pairs.latents(seed), pairs.condition)
    translator = Translator(source, flow, bench.target)
    sampling = {"samples": samples, "temperature": temperature, "seed": seed}
    return _choice(bench, translator, pairs, source.standardise(told), see_at_test, seconds, **sampling)


def use_translator(
    bench: Bench,
    translator: Translator,
    *,
    see: See = unchanged,
    pairs: Pairs | None = None,
    told: Tensor | None = None,
    samples: int = 2,
    temperature: float = 1.0,
    seed: int = 0,
) -> Choice:
    """Scores a translator that has been trained before, as :func:`choose_source` scores its own.

    Args:
        bench: target, pictures and judge.
        translator: into the bench's target.
        see: what its source is shown of a picture.
        pairs: conditions and latents of the training pictures; only the probe of the residual wants them.
        told: conditions of the held-out pictures, where they are known.
        samples: translations of each held-out picture, two at least.
        temperature: standard deviation of their residuals.
        seed: of the residuals.
    """
    if told is None:
        told = bench.outputs(translator.source, see, held=True)
    return _choice(bench, translator, pairs, told, see, 0.0, samples=samples, temperature=temperature, seed=seed)


@torch.no_grad()
def regressor_answers(bench: Bench, regressor: Regressor | GridRegressor, condition: Tensor) -> tuple[Tensor, float]:
    """The paper's baseline for one source.

    Args:
        bench: target, pictures and judge.
        regressor: from conditions to the target's latents, trained.
        condition: ``(N, …)`` of the held-out pictures, as the flow's source gives them.

    Returns:
        ``(N, 3, S, S)``, its one answer for each held-out picture, and their Fréchet distance.
    """
    pictures = bench.decode(torch.cat([regressor(part) for part in condition.split(250)]))
    return pictures, frechet_distance(bench.features, bench.judge.features(pictures))


def grid_side(target: TargetExpert) -> int:
    """Cells along one side of the target's latent; 0 if it is flat."""
    return target.config.side if isinstance(target, GridAutoencoder) else 0


def choice_flow(
    pairs: Pairs, target: TargetExpert, seed: int = 0, linear_start: bool = True, **sizes: Any
) -> ConditionalFlow | GridFlow:
    """An untrained flow for one choice: four blocks, about half a million parameters, and the linear start.

    Args:
        pairs: training pairs.
        target: whose latents they are. One with a grid gets convolutions, any other one a flat flow.
        seed: of the weights.
        linear_start: fit it, or leave it out.
        sizes: replace those of :class:`FlowConfig` or :class:`GridFlowConfig`.
    """
    shape, generator = tuple(pairs.condition.shape[1:]), torch.Generator().manual_seed(seed)
    if isinstance(target, GridAutoencoder):
        small = {"hidden_dim": 24, "blocks": 4, "embedding_dim": 16, "whitened": 128}
        config = GridFlowConfig(target.config.channels, target.config.side, shape, **small | sizes)
        flow, ridge = GridFlow(config, generator), GRID_RIDGE
    else:
        small = {"hidden_dim": 96, "hidden_depth": 1, "blocks": 4, "embedding_dim": 64, "embedder_depth": 0}
        config = FlowConfig.quick(target.latent_dim, shape, **small | sizes, condition_shift=linear_start)
        flow, ridge = ConditionalFlow(config, generator), RIDGE
    if linear_start:
        flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), ridge=ridge)
    return flow


def _run(method: PairMethod, steps: int, seed: int) -> float:
    quiet = {"log_every": max(1, steps), "checkpoint_every": 0, "preview_every": 0, "progress": False}
    accelerator = method.pairs.mean.device.type
    batch = 64 if isinstance(method.modules[method.name], GridFlow) else 256
    return train(method, Budget(steps), min(batch, method.length), seed=seed, accelerator=accelerator, **quiet).seconds


def _choice(
    bench: Bench,
    translator: Translator,
    pairs: Pairs | None,
    condition: Tensor,
    see: See,
    seconds: float,
    *,
    samples: int,
    temperature: float,
    seed: int,
) -> Choice:
    """Draws and scores."""
    many = condition.repeat_interleave(samples, 0)
    drawn = bench.decode(translator.flow.sample(many, temperature, torch.Generator().manual_seed(seed)))
    pictures = drawn.view(len(bench.real), samples, *drawn.shape[1:])
    return Choice(translator, pairs, condition, pictures, _score(bench, translator, see, condition, pictures), seconds)


@torch.no_grad()
def _score(bench: Bench, translator: Translator, see: See, condition: Tensor, pictures: Tensor) -> ChoiceScores:
    first = pictures[:, 0]
    features = bench.judge.features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
    heads = bench.judge.network.heads
    labels = [label for label in ("subgroup", *ATTRIBUTES) if label in heads and label in bench.held.labels]
    right = [
        heads[label](features[:, 0].to(bench.device)).argmax(1).cpu() == bench.held.labels[label] for label in labels
    ]
    again = torch.cat([translator.source.encode(see(x.to(bench.device))) for x in first.split(250)])
    held = Pairs(condition, bench.held_latents.mean, bench.held_latents.std)
    return ChoiceScores(
        frechet_distance(bench.features, features[:, 0]),
        torch.stack(right).float().mean().item(),
        explained(condition.flatten(1), again.flatten(1)),
        diversity(features),
        (pictures[:, 0] - pictures[:, 1]).square().mean().sqrt().item(),
        held_out_nats(translator.flow, held),
    )
