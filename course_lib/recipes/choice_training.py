"""Training of one translator into a grid autoencoder, or of the regressor it is compared with (notebooks 03, 06)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..cinn import FINE_WEIGHTS, GridFlowConfig
from ..data import ImageSet, load_emoji, load_people
from ..evaluation import Judge
from ..experts import GridAutoencoder, SourceExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import (
    Bench,
    FlowMethod,
    GridRegressor,
    Pairs,
    PooledSource,
    RegressorMethod,
    Translator,
    encode_pairs,
    regressor_answers,
    use_translator,
)
from ..translation.bench import See
from ..translation.choice import GRID_RIDGE, choice_flow, grid_side
from .recipe import Job, data_hash, publish

__all__ = ["EMOJI", "PEOPLE", "SCORED", "World", "train_baseline", "train_flow"]

SCORED = 300
"""Held-out pictures of each part that scores are computed on."""


@dataclass(frozen=True)
class World:
    """What a translator draws.

    Attributes:
        load: opens the data set.
        target: name of the grid autoencoder.
        judge: name of the judge.
        variants: of each training picture, see :func:`encode_pairs`; more where pictures are few and may be mirrored.
        noise: on the latents, see there.
    """

    load: Callable[[], ImageSet]
    target: str
    judge: str
    variants: int
    noise: float = 0.0


EMOJI = World(load_emoji, "autoencoder-grid64", "judge", 6)
PEOPLE = World(load_people, "avatar-autoencoder", "avatar-judge", 1, 0.2)

_RECIPE = {"rate": 2e-3, "weight_decay": 0.05, "batch_size": 64}


def train_flow(
    job: Job,
    name: str,
    expert: SourceExpert,
    see: See,
    words: str,
    foreign: Mapping[str, See] | None = None,
    steps: int | None = None,
    more: Callable[[Bench, Translator], dict[str, float]] | None = None,
    world: World = EMOJI,
    primary: str = f"nats on {SCORED} of val",
    **recorded: Any,
) -> Card:
    """Trains and publishes one flow.

    Args:
        see: what the source is shown, in training and in tests.
        words: say what the source is.
        foreign: what it is shown in further tests, by name; such scores are called after it.
        steps: of the profile; those of most flows by default.
        more: further scores of val and test.
        world: what is drawn.
        primary: the score that decides whether the flow is published; lower is better.
        recorded: goes into the card's recipe.
    """
    task = _Task.prepare(job, expert, see, world)
    # A long training finds by itself what ``Whitening`` gives a short one; added to it, the held-out likelihood falls.
    flow = choice_flow(task.pairs, task.target, job.seed, whitened=0)
    recipe = _RECIPE | {"variants": task.variants} | recorded
    steps = steps or job.profile.pick(quick=60, cpu=8000, gpu=40000)
    every = max(100, steps // 20)
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], task.held, every)
    if world is not EMOJI:
        job = replace(job, precision="bf16-mixed")
    history = job.run(name, method, recipe["batch_size"], steps, log_every=every)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, bench in task.benches.items():
        for named, shown in {"": see, **(foreign or {})}.items():
            scores = use_translator(bench, translator, see=shown, seed=job.seed).scores
            named = f" ({named})" if named else ""
            metrics |= {f"{key}{named} on {SCORED} of {part}": value for key, value in vars(scores).items()}
        if more:
            metrics |= {f"{key} on {SCORED} of {part}": value for key, value in more(bench, translator).items()}
    data = data_hash(world.load())
    card = Card(name, "choice", flow.config.to_dict(), recipe, data=data, metrics=metrics, notes=f"Source: {words}.")
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in task.source.state().items()}
    return publish(job, card, tensors, history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def train_baseline(
    job: Job, flow: str, expert: SourceExpert, see: See, words: str, steps: int | None = None, world: World = EMOJI
) -> Card:
    """Trains and publishes the regressor that the flow called ``flow`` is compared with; arguments as there."""
    task = _Task.prepare(job, expert, see, world)
    shape = task.pairs.condition.shape[1:]
    regressor = GridRegressor(GridFlowConfig(task.target.config.channels, task.target.config.side, shape))
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu(), GRID_RIDGE)
    recipe = _RECIPE | {"rate": 1e-3, "variants": task.variants, "width": regressor.width}
    steps = steps or job.profile.pick(quick=60, cpu=4000, gpu=20000)
    every = max(100, steps // 20)
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], task.held, every)
    history = job.run(f"{flow}-mlp", method, recipe["batch_size"], steps, log_every=every)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, bench in task.benches.items():
        told = task.source.standardise(bench.outputs(expert, see, held=True))
        with torch.no_grad():
            error = (bench.held_latents.mean - averaged(told)).square().sum(1).mean().item()
        metrics[f"error on {SCORED} of {part}"] = error
        _, metrics[f"frechet on {SCORED} of {part}"] = regressor_answers(bench, averaged, told)
    notes = f"Source: {words}. Error: squared, of the latent, a picture."
    config, data = regressor.config.to_dict(), data_hash(world.load())
    card = Card(f"{flow}-mlp", "grid regressor", config, recipe, data=data, metrics=metrics, notes=notes)
    primary = f"error on {SCORED} of val"
    return publish(job, card, averaged.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


@dataclass(frozen=True)
class _Task:
    """What a flow and its baseline share.

    Attributes:
        target: grid autoencoder.
        source: gives conditions.
        pairs, held: of training and of some val pictures.
        variants: of each training picture in ``pairs``.
        benches: some pictures of val and test, to be scored on.
    """

    target: GridAutoencoder
    source: PooledSource
    pairs: Pairs
    held: Pairs
    variants: int
    benches: dict[str, Bench]

    @classmethod
    def prepare(cls, job: Job, expert: SourceExpert, see: See, world: World) -> "_Task":
        seed_everything(job.seed)
        data, judge = world.load(), Judge.load(world.judge).to(job.profile.device)
        target, training = load_expert(world.target, job.profile.device), data.part("train")
        # With two, label maps of emoji ended 110 nats apart on training and held-out pictures; with six, 46.
        variants = 1 if job.profile.name == "quick" else world.variants
        # Pooled batch by batch: the maps of all variants in full would need ten gigabytes.
        first = training.batch(torch.arange(2)).to(job.profile.device)
        small = PooledSource(expert, expert.encode(see(first)), grid=grid_side(target))
        pairs = encode_pairs(
            training, lambda x: small.pool(expert.encode(see(x))), target, variants, job.seed, noise=world.noise
        )
        source = PooledSource(expert, pairs.condition, grid=grid_side(target))
        pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.std)
        few = training.subset(range(SCORED))
        benches = {
            part: Bench.prepare(target, judge, few, _some(data.part(part)), world.noise) for part in ("val", "test")
        }
        val = benches["val"]
        told = source.standardise(val.outputs(expert, see, held=True))
        held = Pairs(told, val.held_latents.mean, val.held_latents.std)
        return cls(target, source, pairs, held, variants, benches)


def _some(data: ImageSet) -> ImageSet:
    return data.subset(torch.linspace(0, len(data) - 1, SCORED).long())
