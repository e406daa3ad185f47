"""Training of one translator into the autoencoder of people, or of the regressor it is compared with (03, 06)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..cinn import FINE_WEIGHTS, GridFlowConfig
from ..data import ImageSet, fresh_people, load_people
from ..evaluation import Judge
from ..experts import GridAutoencoder, SourceExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import (
    ExperimentData,
    FlowMethod,
    GridRegressor,
    Pairs,
    PooledSource,
    RegressorMethod,
    Translator,
    choice_flow,
    encode_pairs,
    regressor_answers,
    score_choice,
)
from ..translation.choice import GRID_RIDGE, NOISE
from .recipe import Job, data_hash, publish

__all__ = ["SCORED", "train_baseline", "train_flow"]

SCORED = 300
"""Held-out pictures of each part that scores are computed on."""

_RECIPE = {"rate": 2e-3, "weight_decay": 0.05, "batch_size": 64, "noise": NOISE}


def train_flow(
    job: Job,
    name: str,
    expert: SourceExpert,
    source: str,
    steps: int | None = None,
    sizes: Mapping[str, int] | None = None,
    more: Callable[[ExperimentData, Translator], dict[str, float]] | None = None,
    style: str | None = None,
    **recorded: Any,
) -> Card:
    """Trains and publishes one flow.

    Args:
        expert: source expert, before pooling.
        source: the source in words, for the card.
        steps: of the profile; those of most flows by default.
        sizes: of the flow, see :class:`GridFlowConfig`.
        more: further scores of val and test.
        style: train and score on people in this style alone, with new ones drawn besides.
        recorded: goes into the card's recipe.
    """
    task = _Task.prepare(job, expert, style)
    flow = choice_flow(task.pairs, task.target, job.seed, **(sizes or {}))
    recipe = _RECIPE | {"pairs": len(task.pairs)} | ({"style": style} if style else {}) | recorded
    steps = steps or job.profile.pick(quick=60, cpu=5000, gpu=40000)
    every = max(100, steps // 20)
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], task.held_out, every)
    job = replace(job, precision="bf16-mixed")
    history = job.run(name, method, recipe["batch_size"], steps, log_every=every, last=True)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, data in task.scored.items():
        found = vars(score_choice(data, translator, seed=job.seed).scores) | (more(data, translator) if more else {})
        metrics |= {f"{key} on {SCORED} of {part}": value for key, value in found.items()}
    record = data_hash(load_people())
    card = Card(name, "choice", flow.config.to_dict(), recipe, data=record, metrics=metrics, notes=f"Source: {source}.")
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in task.source.state().items()}
    primary = f"nats on {SCORED} of val"
    return publish(job, card, tensors, history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def train_baseline(job: Job, flow: str, expert: SourceExpert, source: str, steps: int | None = None) -> Card:
    """Trains and publishes the regressor that the flow called ``flow`` is compared with; arguments as there."""
    task = _Task.prepare(job, expert)
    shape = task.pairs.condition.shape[1:]
    regressor = GridRegressor(GridFlowConfig(task.target.config.channels, task.target.config.side, shape))
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu(), GRID_RIDGE)
    recipe = _RECIPE | {"rate": 1e-3, "width": regressor.width}
    steps = steps or job.profile.pick(quick=60, cpu=4000, gpu=20000)
    every = max(100, steps // 20)
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], task.held_out, every)
    history = job.run(f"{flow}-mlp", method, recipe["batch_size"], steps, log_every=every, last=True)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, data in task.scored.items():
        condition = data.conditions(task.source)
        with torch.no_grad():
            error = (data.latents.mean - averaged(condition)).square().sum(1).mean().item()
        metrics[f"error on {SCORED} of {part}"] = error
        _, metrics[f"frechet on {SCORED} of {part}"] = regressor_answers(data, averaged, condition)
    notes = f"Source: {source}. Error: squared, of the latent, a picture."
    config, record = regressor.config.to_dict(), data_hash(load_people())
    card = Card(f"{flow}-mlp", "grid regressor", config, recipe, data=record, metrics=metrics, notes=notes)
    primary = f"error on {SCORED} of val"
    return publish(job, card, averaged.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


@dataclass(frozen=True)
class _Task:
    """What a flow and its baseline share.

    Attributes:
        target: autoencoder of people.
        source: gives conditions.
        pairs, held_out: of training and of some val pictures.
        scored: some pictures of val and test.
    """

    target: GridAutoencoder
    source: PooledSource
    pairs: Pairs
    held_out: Pairs
    scored: dict[str, ExperimentData]

    @classmethod
    def prepare(cls, job: Job, expert: SourceExpert, style: str | None = None) -> "_Task":
        seed_everything(job.seed)
        people, judge = load_people(), Judge.load().to(job.profile.device)
        target, sets = load_expert("avatar-autoencoder", job.profile.device), [people.part("train")]
        if style:
            people = people.subset(people.labels["style"] == people.classes["style"].index(style))
            sets = [people.part("train"), fresh_people(job.profile.pick(quick=1, cpu=8, gpu=20), styles=[style])]
        # Pooled batch by batch: maps in full would need gigabytes.
        first = sets[0].batch(torch.arange(2)).to(job.profile.device)
        small = PooledSource(expert, expert.encode(first), target.config.side)
        parts = [encode_pairs(one, lambda x: small.pool(expert.encode(x)), target, noise=NOISE) for one in sets]
        pairs = Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("condition", "mean", "std")))
        source = PooledSource(expert, pairs.condition, target.config.side)
        pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.std)
        scored = {part: ExperimentData.prepare(target, judge, _some(people.part(part))) for part in ("val", "test")}
        val = scored["val"]
        held_out = Pairs(val.conditions(source), val.latents.mean, val.latents.std)
        return cls(target, source, pairs, held_out, scored)


def _some(data: ImageSet) -> ImageSet:
    return data.subset(torch.linspace(0, len(data) - 1, SCORED).long())
