"""Training of the translators from pictures (notebooks 00, 03, 06): a specification each, one trainer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..cinn.flow import GridFlowConfig
from ..cinn.layers import FINE_WEIGHTS
from ..data.avatars import fresh_people, load_people
from ..data.image_set import edges
from ..data.people import ATTRIBUTES, STYLES
from ..evaluation.scores import Judge, frechet_distance
from ..experts.networks import GridAutoencoder, LayerExpert
from ..experts.protocol import SourceExpert, load_expert
from ..profiles import seed_everything
from ..training.runs import Card, as_stored, save_weights
from ..translation import translator as net2net
from ..translation.translator import LATENT_NOISE, ExperimentData, FlowMethod, Pairs, Translator, encode_pairs
from .recipe import Job, data_hash, publish

Amounts = tuple[int, int, int]  # for the profiles quick, cpu and gpu
LAYERS = ("low", "middle", "features", "logits")  # layers of the classifier of avatars that notebook 03 compares
_CROSSED = 24  # pictures that are crossed with each other


@dataclass(frozen=True)
class TranslatorSpec:
    """A flow from one source, and the regressor that it is compared with."""

    source: Callable[[str], SourceExpert]  # of a device
    description: str  # what the card says of it
    pooled: bool = True  # average and standardise its output, see PooledSource; the card is then a "choice"
    sizes: Mapping[str, int] = field(default_factory=dict)  # of the flow, see GridFlowConfig
    width: int = 64  # of the regressor
    steps: Amounts = (60, 5000, 40000)
    baseline_steps: Amounts = (60, 4000, 20000)
    rate: float = 5e-3  # of the flow; at 1e-2 larger ones diverge
    weight_decay: float = 0.05
    ridge: float = 0.01  # of the linear start
    fresh: Amounts = (0, 0, 0)  # new people of every combination to train on, besides the training part
    style: str | None = None  # train and score on people in this style alone
    scored: int | None = 300  # pictures of val and of test that scores are computed on; None takes all
    more: Callable[[ExperimentData, Translator], dict[str, float]] | None = None  # further scores

    def named(self, metrics: Mapping[str, float], part: str) -> dict[str, float]:
        """Metrics under the names that the cards have."""
        where = f"{self.scored} of {part}" if self.scored else part
        names = {} if self.pooled else {"nats": "nats per picture"}
        return {f"{names.get(key, key)} on {where}": value for key, value in metrics.items()}


def _score_edges(data: ExperimentData, translator: Translator) -> dict[str, float]:
    drawn = Translator(translator.source.transformed(edges), translator.flow, translator.target)
    return {f"{key} (edges)": value for key, value in net2net.score_choice(data, drawn)[1].items()}


def _score_crossings(data: ExperimentData, translator: Translator) -> dict[str, float]:
    """Every one of some held-out pictures with the appearance of every other."""
    chosen = torch.randperm(len(data.real), generator=torch.Generator().manual_seed(0))[:_CROSSED]
    latent = data.latents.mean[chosen]
    crossed = net2net.cross_grid(translator, latent, translator.source.encode(data.real[chosen])).cpu()
    labels = {name: data.held.labels[name][chosen] for name in ATTRIBUTES}
    others = crossed[~torch.eye(_CROSSED, dtype=torch.bool)]
    metrics = {"frechet of crossings": frechet_distance(data.features, data.judge.features(others))}
    for name, shares in net2net.inherited(data.judge, crossed, labels).items():
        metrics |= {f"{name} from the {giver}": x for giver, x in zip(("residual", "condition"), shares, strict=True)}
    return metrics


def _superresolution(size: int, steps: Amounts, **sizes: int) -> TranslatorSpec:
    options = {"pooled": False, "width": 96, "baseline_steps": (60, 4000, 30000), "ridge": 1e-3, "rate": 4e-3}
    options |= {"weight_decay": 0.02, "fresh": (0, 2, 20), "scored": None, "steps": steps, "sizes": sizes}
    return TranslatorSpec(lambda device: net2net.LowResolution(size), f"pictures of {size} pixels", **options)


def _layer(layer: str) -> TranslatorSpec:
    def source(device: str) -> LayerExpert:
        return LayerExpert(load_expert("avatar-classifier", device), layer)

    options = {"steps": (60, 3000, 40000), "baseline_steps": (60, 1500, 20000)}
    return TranslatorSpec(source, f"layer {layer!r} of avatar-classifier", **options)


def _choice(name: str, **options: Any) -> TranslatorSpec:
    return TranslatorSpec(net2net.SOURCES[name], f"course_lib.translation.translator.SOURCES[{name!r}]", **options)


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
    # In one style: the colours give the style away, and a residual of one style has no meaning under another.
    "shape-appearance": _choice(
        "shape-appearance", sizes=_MORE_BLOCKS, fresh=(1, 8, 20), style="micah", more=_score_crossings
    ),
}
"""Name of a checkpoint → how it is trained."""


def _encode(job: Job, spec: TranslatorSpec) -> tuple[GridAutoencoder, SourceExpert, Pairs, dict[str, ExperimentData]]:
    """What a flow and its baseline share: autoencoder of people, source, pairs, and pictures of val and test."""
    seed_everything(job.seed)
    device = job.profile.device
    people, judge, source = load_people(), Judge.load().to(device), spec.source(device)
    target, fresh = load_expert("avatar-autoencoder", device), job.profile.pick(*spec.fresh)
    if spec.style:
        people = people.where(style=spec.style)
    sets = [people.part("train")]
    if fresh:
        sets.append(fresh_people(fresh, styles=[spec.style] if spec.style else tuple(STYLES)))

    def pairs_of(encode: Callable[[Tensor], Tensor]) -> Pairs:
        return Pairs.join([encode_pairs(one, encode, target, LATENT_NOISE) for one in sets])

    if spec.pooled:
        # Pooled batch by batch: maps in full would need gigabytes.
        first = source.encode(sets[0].batch(torch.arange(2)).to(device))
        pairs = pairs_of(net2net.PooledSource.fit(source, first, target.config.side).pooled)
        source = net2net.PooledSource.fit(source, pairs.condition, target.config.side)
        pairs = replace(pairs, condition=source.standardise(pairs.condition))
    else:
        pairs = pairs_of(source.encode)
    scored = {}
    for part in ("val", "test"):
        data = people.part(part)
        if spec.scored:
            data = data.subset(torch.linspace(0, len(data) - 1, spec.scored).long())
        scored[part] = ExperimentData(target, judge, data)
    return target, source, pairs, scored


def train_translator(job: Job, name: str, mlp: bool = False, last: bool = True) -> Card:
    """Trains and publishes the flow called ``name``, a key of :data:`TRANSLATORS`, or as ``NAME-mlp`` the regressor on
    the same pairs, with the same linear start; ``last`` as for :meth:`Job.run`."""
    spec = TRANSLATORS[name]
    target, source, pairs, scored = _encode(job, spec)
    recipe = {"rate": spec.rate, "weight_decay": spec.weight_decay, "batch_size": 64, "noise": LATENT_NOISE}
    recipe["pairs"] = len(pairs)
    if mlp:
        config = GridFlowConfig(target.config.channels, target.config.side, pairs.condition.shape[1:])
        network, kind, name = net2net.GridRegressor(config, spec.width), "grid regressor", f"{name}-mlp"
        network.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), spec.ridge)
        recipe |= {"rate": 1e-3, "width": network.width}
        steps, points, precision, trained = spec.baseline_steps, 20, "32-true", net2net.RegressorMethod
    else:
        network = net2net.choice_flow(pairs, target, job.seed, spec.ridge, **spec.sizes)
        kind = "choice" if spec.pooled else "grid flow"
        # Only the pictures of one style are warped.
        recipe |= {"style": spec.style, "warp_strength": net2net.WARP_STRENGTH} if spec.style else {}
        steps, points, precision, trained = spec.steps, 40, "bf16-mixed", FlowMethod
    steps = job.profile.pick(*steps)
    every = max(100, steps // points)
    method = trained(pairs, network, recipe["rate"], spec.weight_decay, scored["val"].pairs(source))
    method.held_every = every
    history = job.run(name, method, 64, steps, last, log_every=every, precision=precision)
    averaged = history.averaged[method.name].eval()
    if not mlp:
        # On the flow as it will be opened: rounded weights move v a little, and with it what a probe reads from it.
        averaged.load_state_dict(as_stored(averaged.state_dict(), 8, FINE_WEIGHTS))
        method.fit_residual_shift(averaged, features=spec.pooled)

    def score(part: str) -> dict[str, float]:
        data = scored[part]
        if mlp:
            return spec.named(net2net.score_regressor(data, averaged, source)[1], part)
        translator = Translator(source, averaged, target)
        found = net2net.score_choice(data, translator, seed=job.seed)[1]
        return spec.named(found | (spec.more(data, translator) if spec.more else {}), part)

    tensors = averaged.state_dict()
    if kind == "choice":
        tensors |= {f"source.{key}": getattr(source, key) for key in ("mean", "deviation")}
    card = Card(name, kind, averaged.config.to_dict(), recipe, data=data_hash(load_people()))
    card.metrics = score("val") | score("test")
    scores = "Error: squared, of the latent, a picture."
    scores = scores if mlp else "Fréchet distance, accuracy and diversity use the judge."
    card.notes = f"Source: {spec.description}. {scores}"
    higher = mlp and not spec.pooled
    (primary,) = spec.named({"psnr" if higher else "error" if mlp else "nats": 0.0}, "val")
    return publish(job, card, tensors, history, primary, higher, fine=FINE_WEIGHTS)


def train_layers(job: Job) -> Card:
    """A flow and its baseline from each of :data:`LAYERS`: one card with their scores, the networks stay behind."""
    place = replace(job, out=job.work / "layers", force=True)
    cards = {}
    for layer in LAYERS:
        for name in ("flow", "MLP"):
            cards[f"{layer}, {name}"] = train_translator(place, f"layer-{layer}", name == "MLP", last=False)
    flow, mlp = (cards[f"{LAYERS[0]}, {name}"] for name in ("flow", "MLP"))
    card = Card("layer-comparison", "comparison", {}, flow.recipe | {"steps of the MLP": mlp.steps}, data=flow.data)
    card.steps, card.seconds = flow.steps, sum(one.seconds for one in cards.values())
    card.seed, card.device = flow.seed, flow.device
    card.metrics = {f"{name}: {key}": value for name, one in cards.items() for key, value in one.metrics.items()}
    card.notes = "Source: layers of avatar-classifier. Steps: of the first flow; seconds: of all."
    save_weights({}, card, job.out)
    return card
