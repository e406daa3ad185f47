"""Training of the translators into the autoencoder of people: one specification each, one trainer, one baseline.

Super-resolution (notebooks 00 and 03), layers of a classifier (03), other sources (06), and labels (05).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..cinn import FINE_WEIGHTS, GridFlowConfig
from ..data import ImageSet, fresh_people, load_people
from ..data.changes import edges
from ..data.people import ATTRIBUTES, STYLES
from ..evaluation import Judge, frechet_distance
from ..evaluation.domain_scores import PairedPictures
from ..experts import GridAutoencoder, LayerExpert, SourceExpert, load_expert
from ..profiles import seed_everything
from ..training import Card, save_weights
from ..translation import (
    LATENT_NOISE,
    ExperimentData,
    FlowMethod,
    GridRegressor,
    LowResolution,
    Pairs,
    PooledSource,
    RegressorMethod,
    Translator,
    choice_flow,
    cross_grid,
    encode_pairs,
    held_out_nats,
    inherited,
    score_choice,
    score_regressor,
)
from ..translation.domains import DomainTranslator, LabelMethod, LinearStart, encode_labelled, label_flow, people_expert
from ..translation.sources import SOURCES, WARP_STRENGTH
from .recipe import Job, data_hash, publish

__all__ = [
    "LAYERS",
    "TRANSLATORS",
    "TranslatorSpec",
    "train_baseline",
    "train_labels",
    "train_layers",
    "train_translator",
]

Amounts = tuple[int, int, int]
"""For the profiles quick, cpu and gpu."""

LAYERS = ("low", "middle", "features", "logits")
"""Layers of the classifier of avatars that notebook 03 compares."""

_CROSSED = 24
"""Pictures that are crossed with each other."""


@dataclass(frozen=True)
class TranslatorSpec:
    """A flow from one source, and the regressor that it is compared with.

    Attributes:
        source: device → source expert.
        description: of the source, for the card.
        pooled: average and standardise its output, see :class:`PooledSource`; the card is then a "choice".
        sizes: of the flow, see :class:`GridFlowConfig`.
        width: of the regressor.
        steps, baseline_steps: of training.
        weight_decay: of both.
        ridge: of their linear start.
        fresh: new people of every combination to train on, besides the training part.
        style: train and score on people in this style alone.
        scored: pictures of val and of test that scores are computed on; None takes all.
        more: further scores.
        recorded: goes into the card's recipe.
    """

    source: Callable[[str], SourceExpert]
    description: str
    pooled: bool = True
    sizes: Mapping[str, int] = field(default_factory=dict)
    width: int = 64
    steps: Amounts = (60, 5000, 40000)
    baseline_steps: Amounts = (60, 4000, 20000)
    weight_decay: float = 0.05
    ridge: float = 0.01
    fresh: Amounts = (0, 0, 0)
    style: str | None = None
    scored: int | None = 300
    more: Callable[[ExperimentData, Translator], dict[str, float]] | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def named(self, metrics: Mapping[str, float], part: str) -> dict[str, float]:
        """Metrics under the names that the cards have."""
        where = f"{self.scored} of {part}" if self.scored else part
        names = {} if self.pooled else {"nats": "nats per picture"}
        return {f"{names.get(key, key)} on {where}": value for key, value in metrics.items()}


def _score_edges(data: ExperimentData, translator: Translator) -> dict[str, float]:
    drawn = Translator(translator.source.transformed(edges), translator.flow, translator.target)
    return {f"{key} (edges)": value for key, value in score_choice(data, drawn).metrics.items()}


def _score_crossings(data: ExperimentData, translator: Translator) -> dict[str, float]:
    """Every one of some held-out pictures with the appearance of every other."""
    chosen = torch.randperm(len(data.real), generator=torch.Generator().manual_seed(0))[:_CROSSED]
    latent = data.latents.mean[chosen]
    crossed = cross_grid(translator, latent, translator.source.encode(data.real[chosen])).cpu()
    labels = {name: data.held.labels[name][chosen] for name in ATTRIBUTES}
    others = crossed[~torch.eye(_CROSSED, dtype=torch.bool)]
    metrics = {"frechet of crossings": frechet_distance(data.features, data.judge.features(others))}
    for name, shares in inherited(data.judge, crossed, labels).items():
        metrics |= {f"{name} from the {giver}": x for giver, x in zip(("residual", "condition"), shares, strict=True)}
    return metrics


def _superresolution(size: int, steps: Amounts, **sizes: int) -> TranslatorSpec:
    return TranslatorSpec(
        lambda device: LowResolution(size),
        f"pictures of {size} pixels",
        pooled=False,
        sizes=sizes,
        width=96,
        steps=steps,
        baseline_steps=(60, 4000, 30000),
        weight_decay=0.02,
        ridge=1e-3,
        fresh=(0, 2, 20),
        scored=None,
    )


def _layer(layer: str) -> TranslatorSpec:
    return TranslatorSpec(
        lambda device: LayerExpert(load_expert("avatar-classifier", device), layer),
        f"layer {layer!r} of avatar-classifier",
        steps=(60, 3000, 40000),
        baseline_steps=(60, 1500, 20000),
    )


def _choice(name: str, **options: Any) -> TranslatorSpec:
    return TranslatorSpec(SOURCES[name], f"course_lib.translation.sources.SOURCES[{name!r}]", **options)


_MORE_BLOCKS = {"blocks": 6}

TRANSLATORS = {
    "superresolution-8": _superresolution(8, (60, 16000, 80000), hidden_dim=64, blocks=10),
    "superresolution-16": _superresolution(16, (60, 3000, 60000), hidden_dim=24, blocks=6),
    **{f"layer-{layer}": _layer(layer) for layer in LAYERS},
    "colourisation": _choice("colourisation", sizes=_MORE_BLOCKS),
    "inpainting": _choice("inpainting", sizes=_MORE_BLOCKS),
    # What leaves most open gets the largest flow.
    "segmenter-argmax": _choice("segmenter-argmax", sizes={"blocks": 6, "hidden_dim": 32}),
    "segmenter-logits": _choice("segmenter-logits", sizes=_MORE_BLOCKS),
    "segmenter-early": _choice("segmenter-early"),
    "segmenter-middle": _choice("segmenter-middle"),
    # Trained on plain pictures, scored on their edges as well.
    "edges-shape": _choice("edges-shape", more=_score_edges),
    "edges-texture": _choice("edges-texture", more=_score_edges),
    # In one style: the colours give the style away, and a residual of one style under the condition of another had no
    # meaning (measured with statistics of a layer of the classifier as the source: ghosts, Fréchet distance 34).
    "shape-appearance": _choice(
        "shape-appearance",
        sizes=_MORE_BLOCKS,
        fresh=(1, 8, 20),
        style="micah",
        more=_score_crossings,
        recorded={"warp_strength": WARP_STRENGTH},
    ),
}
"""Name of a checkpoint → how it is trained."""


@dataclass(frozen=True)
class _Task:
    """What a flow and its baseline share.

    Attributes:
        target: autoencoder of people.
        source: gives conditions.
        pairs: of training.
        scored: pictures of val and test.
    """

    target: GridAutoencoder
    source: SourceExpert
    pairs: Pairs
    scored: dict[str, ExperimentData]

    @classmethod
    def prepare(cls, job: Job, spec: TranslatorSpec) -> "_Task":
        seed_everything(job.seed)
        device = job.profile.device
        people, judge, source = load_people(), Judge.load().to(device), spec.source(device)
        target, fresh = load_expert("avatar-autoencoder", device), job.profile.pick(*spec.fresh)
        if spec.style:
            people = people.subset(people.labels["style"] == people.classes["style"].index(spec.style))
        sets = [people.part("train")]
        if fresh:
            sets.append(fresh_people(fresh, styles=[spec.style] if spec.style else tuple(STYLES)))
        if spec.pooled:
            # Pooled batch by batch: maps in full would need gigabytes.
            first = source.encode(sets[0].batch(torch.arange(2)).to(device))
            pairs = _pairs(sets, PooledSource(source, first, target.config.side).pooled, target)
            source = PooledSource(source, pairs.condition, target.config.side)
            pairs = replace(pairs, condition=source.standardise(pairs.condition))
        else:
            pairs = _pairs(sets, source.encode, target)
        parts = {name: _some(people.part(name), spec.scored) for name in ("val", "test")}
        return cls(
            target, source, pairs, {name: ExperimentData.prepare(target, judge, one) for name, one in parts.items()}
        )


def _pairs(sets: list[ImageSet], encode: Callable[[Tensor], Tensor], target: GridAutoencoder) -> Pairs:
    return Pairs.join([encode_pairs(one, encode, target, LATENT_NOISE) for one in sets])


def _some(data: ImageSet, count: int | None) -> ImageSet:
    return data if count is None else data.subset(torch.linspace(0, len(data) - 1, count).long())


def train_translator(job: Job, name: str, last: bool = True) -> Card:
    """Trains and publishes the flow called ``name``, a key of :data:`TRANSLATORS`; ``last`` as for :meth:`Job.run`."""
    spec = TRANSLATORS[name]
    task = _Task.prepare(job, spec)
    flow = choice_flow(task.pairs, task.target, job.seed, spec.ridge, **spec.sizes)
    recipe = {"rate": 2e-3, "weight_decay": spec.weight_decay, "batch_size": 64, "noise": LATENT_NOISE}
    recipe |= {"pairs": len(task.pairs)} | ({"style": spec.style} if spec.style else {}) | dict(spec.recorded)
    steps = job.profile.pick(*spec.steps)
    every = max(100, steps // 40)
    held = task.scored["val"].pairs(task.source)
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], held, every)
    job = replace(job, precision="bf16-mixed")
    history = job.run(name, method, recipe["batch_size"], steps, last, log_every=every)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, data in task.scored.items():
        found = score_choice(data, translator, seed=job.seed).metrics
        metrics |= spec.named(found | (spec.more(data, translator) if spec.more else {}), part)
    kind, tensors = "choice" if spec.pooled else "grid flow", averaged.state_dict()
    if spec.pooled:
        tensors |= {f"source.{key}": value for key, value in task.source.state().items()}
    notes = f"Source: {spec.description}. Fréchet distance, accuracy and diversity use the judge."
    card = Card(name, kind, flow.config.to_dict(), recipe, data=data_hash(load_people()), metrics=metrics, notes=notes)
    (primary,) = spec.named({"nats": 0.0}, "val")
    return publish(job, card, tensors, history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def train_baseline(job: Job, flow: str, last: bool = True) -> Card:
    """Trains and publishes ``FLOW-mlp``, the regressor that sees the pairs of ``flow`` and its linear start."""
    spec = TRANSLATORS[flow]
    task = _Task.prepare(job, spec)
    config = GridFlowConfig(task.target.config.channels, task.target.config.side, task.pairs.condition.shape[1:])
    regressor = GridRegressor(config, spec.width)
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu(), spec.ridge)
    recipe = {"rate": 1e-3, "weight_decay": spec.weight_decay, "batch_size": 64, "noise": LATENT_NOISE}
    recipe |= {"pairs": len(task.pairs), "width": regressor.width}
    steps = job.profile.pick(*spec.baseline_steps)
    every = max(100, steps // 20)
    held = task.scored["val"].pairs(task.source)
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], held, every)
    history = job.run(f"{flow}-mlp", method, recipe["batch_size"], steps, last, log_every=every)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, data in task.scored.items():
        found = score_regressor(data, averaged, task.source)
        with torch.no_grad():
            error = (data.latents.mean - averaged(found.condition)).square().sum(1).mean().item()
        metrics |= spec.named({"error": error} | found.metrics, part)
    notes = f"Source: {spec.description}. Error: squared, of the latent, a picture."
    record = data_hash(load_people())
    card = Card(f"{flow}-mlp", "grid regressor", config.to_dict(), recipe, data=record, metrics=metrics, notes=notes)
    score, higher = ("error", False) if spec.pooled else ("psnr", True)
    (primary,) = spec.named({score: 0.0}, "val")
    return publish(job, card, averaged.state_dict(), history, primary, higher, bits=8, fine=FINE_WEIGHTS)


def train_layers(job: Job) -> Card:
    """A flow and its baseline from each of :data:`LAYERS`: one card with their scores, the networks stay behind."""
    place = replace(job, out=job.work / "layers", force=True)
    cards = {
        layer: (train_translator(place, f"layer-{layer}", False), train_baseline(place, f"layer-{layer}", False))
        for layer in LAYERS
    }
    metrics = {
        f"{layer}, {name}: {key}": value
        for layer, both in cards.items()
        for name, card in zip(("flow", "MLP"), both, strict=True)
        for key, value in card.metrics.items()
    }
    flow, mlp = next(iter(cards.values()))
    card = Card("layer-comparison", "comparison", {}, flow.recipe | {"steps of the MLP": mlp.steps}, data=flow.data)
    card.steps, card.seconds = flow.steps, sum(one.seconds for both in cards.values() for one in both)
    card.seed, card.device, card.metrics = flow.seed, flow.device, metrics
    card.notes = "Source: layers of avatar-classifier. Steps: of the first flow; seconds: of all."
    save_weights({}, card, job.out)
    return card


# --- labels ---------------------------------------------------------------------------------------------------------


_TRANSLATED = 150
"""Test people that are translated in all thirty directions."""


def train_labels(job: Job) -> Card:
    """The flow between labels of people (style, skin, hair, cut, glasses and mouth), published as ``people-labels``."""
    seed_everything(job.seed)
    data, device = load_people(), job.profile.device
    target, expert, each = load_expert("avatar-autoencoder", device), people_expert(data.classes), (0, 2, 20)
    sets = [data.part("train")] + [fresh_people(count) for count in [job.profile.pick(*each)] if count]
    pairs = Pairs.join([encode_labelled(one, target, expert, LATENT_NOISE) for one in sets])
    held = encode_labelled(data.part("val"), target, expert, LATENT_NOISE)
    held = replace(held, condition=expert.cross(held.condition))
    flow = label_flow(pairs, target, expert, job.seed, hidden_dim=64, blocks=8, embedding_dim=16)
    recipe = {"batch_size": 64, "pairs": len(pairs), "rate": 2e-3, "weight_decay": 0.02, "noise": LATENT_NOISE}
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    every = max(100, steps // 40)
    rates = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"], "held": held, "held_every": every}
    method = LabelMethod(pairs, flow, expert, **rates)
    job = replace(job, precision="bf16-mixed")
    history = job.run("people-labels", method, recipe["batch_size"], steps, last=True, log_every=every)
    flow = history.averaged["flow"].eval()
    metrics = {"nats per picture on val": held_out_nats(flow, held)}
    classifier, judge, test = load_expert("avatar-classifier", device), Judge.load().to(device), data.part("test")
    paired = PairedPictures(test, judge, target.encode, most=_TRANSLATED)
    alone = DomainTranslator(data.classes, flow, target, expert)
    for words, translator in (
        ("", DomainTranslator(data.classes, flow, target, expert, classifier)),
        (", style alone", alone),
        (", linear start", DomainTranslator(data.classes, LinearStart(flow), target, expert, classifier)),
    ):
        scores = _translation_metrics(translator, paired)
        metrics |= {f"{key}{words} on test": value for key, value in scores.items()}
    metrics |= {f"{key} on test": value for key, value in _sample_metrics(alone, test, judge).items()}
    card = Card("people-labels", "grid flow", flow.config.to_dict(), recipe, data=data_hash(data), metrics=metrics)
    card.notes = (
        "Condition: labels and their products with the style. Attributes of a picture are read by avatar-classifier."
    )
    primary = "nats per picture on val"
    return publish(job, card, flow.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def _translation_metrics(translator: DomainTranslator, paired: PairedPictures) -> dict[str, float]:
    """Every picture into every other style."""
    device = next(translator.flow.parameters()).device

    def translate(pictures: Tensor, own: int, other: int) -> Tensor:
        domain = torch.full((len(pictures),), own, device=device)
        return translator.edit(pictures.to(device), domain, {translator.domain: torch.full_like(domain, other)})

    return paired.score_all(translate)


def _sample_metrics(translator: DomainTranslator, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Share of pictures, one drawn for the labels of each, of which the judge reads what was asked."""
    condition = translator.code({name: data.labels[name] for name in translator.classes})
    latent = translator.flow.sample(condition, 1.0, torch.Generator().manual_seed(seed))
    pictures = translator.decode(latent).cpu()
    return {
        f"{name} read in samples": (judge.predict(pictures, name) == data.labels[name]).float().mean().item()
        for name in ATTRIBUTES
    }
