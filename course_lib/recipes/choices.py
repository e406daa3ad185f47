"""Training of the translators of notebooks 03 and 06 that a few seconds are not enough for."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..data.degrade import edges
from ..data.people import ATTRIBUTES
from ..evaluation import frechet_distance
from ..experts import LayerExpert, SourceExpert, load_expert
from ..training import Card, save_weights
from ..translation import ExperimentData, Translator, cross_grid, inherited, score_choice
from ..translation.choice import SOURCES, WARP_STRENGTH
from .choice_training import train_baseline, train_flow
from .recipe import Job

__all__ = [
    "save_layers",
    "train_appearance",
    "train_argmax",
    "train_argmax_mlp",
    "train_colourisation",
    "train_early",
    "train_early_mlp",
    "train_edges_shape",
    "train_edges_texture",
    "train_inpainting",
    "train_layer",
    "train_layer_comparison",
    "train_layer_mlp",
    "train_logits",
    "train_middle",
    "train_middle_mlp",
]

_CROSSED = 24
"""Pictures that are crossed with each other."""


def _layer(job: Job, name: str) -> tuple[SourceExpert, str]:
    expert = LayerExpert(load_expert("avatar-classifier", job.profile.device), name)
    return expert, f"layer {name!r} of avatar-classifier"


def train_layer(job: Job, layer: str) -> Card:
    """One layer of the classifier → autoencoder of people."""
    steps = job.profile.pick(quick=60, cpu=3000, gpu=40000)
    return train_flow(job, f"layer-{layer}", *_layer(job, layer), steps=steps)


def train_layer_mlp(job: Job, layer: str) -> Card:
    """The baseline of that layer."""
    steps = job.profile.pick(quick=60, cpu=1500, gpu=20000)
    return train_baseline(job, f"layer-{layer}", *_layer(job, layer), steps=steps)


LAYERS = ("low", "middle", "features", "logits")
"""Layers of the classifier of avatars that notebook 03 compares."""


def train_layer_comparison(job: Job) -> Card:
    """A flow and its baseline from each of some layers of the classifier: scores only, the networks stay behind."""
    place = replace(job, out=job.work / "layers", force=True)
    cards = {layer: (train_layer(place, layer), train_layer_mlp(place, layer)) for layer in LAYERS}
    return save_layers(job, cards)


def save_layers(job: Job, cards: Mapping[str, tuple[Card, Card]]) -> Card:
    """One card with the scores of flows and baselines, layer → cards of both."""
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


def _source(job: Job, name: str) -> tuple[str, SourceExpert, str]:
    return name, SOURCES[name](job.profile.device), f"course_lib.translation.choice.SOURCES[{name!r}]"


_MORE_BLOCKS = {"blocks": 6}


def train_colourisation(job: Job) -> Card:
    """The autoencoder's latent of a grey copy."""
    return train_flow(job, *_source(job, "colourisation"), sizes=_MORE_BLOCKS)


def train_inpainting(job: Job) -> Card:
    """The autoencoder's latent of a copy with a hole."""
    return train_flow(job, *_source(job, "inpainting"), sizes=_MORE_BLOCKS)


def train_argmax(job: Job) -> Card:
    """Part masks of the segmenter. What leaves most open gets the largest flow."""
    return train_flow(job, *_source(job, "segmenter-argmax"), sizes={"blocks": 6, "hidden_dim": 32})


def train_logits(job: Job) -> Card:
    """Logits of the segmenter."""
    return train_flow(job, *_source(job, "segmenter-logits"), sizes=_MORE_BLOCKS)


def train_early(job: Job) -> Card:
    """Its first layer."""
    return train_flow(job, *_source(job, "segmenter-early"))


def train_middle(job: Job) -> Card:
    """Its middle layer."""
    return train_flow(job, *_source(job, "segmenter-middle"))


def train_early_mlp(job: Job) -> Card:
    """The baseline of the first layer."""
    return train_baseline(job, *_source(job, "segmenter-early"))


def train_middle_mlp(job: Job) -> Card:
    """The baseline of the middle layer."""
    return train_baseline(job, *_source(job, "segmenter-middle"))


def train_argmax_mlp(job: Job) -> Card:
    """The baseline of the part masks."""
    return train_baseline(job, *_source(job, "segmenter-argmax"))


def train_edges_shape(job: Job) -> Card:
    """A layer of the shape-biased classifier; trained on plain pictures, scored on their edges as well."""
    return train_flow(job, *_source(job, "edges-shape"), more=_score_edges)


def train_edges_texture(job: Job) -> Card:
    """The same layer of the texture-biased classifier."""
    return train_flow(job, *_source(job, "edges-texture"), more=_score_edges)


def _score_edges(data: ExperimentData, translator: Translator) -> dict[str, float]:
    drawn = Translator(translator.source.transformed(edges), translator.flow, translator.target)
    return {f"{key} (edges)": value for key, value in vars(score_choice(data, drawn).scores).items()}


def train_appearance(job: Job) -> Card:
    """Colours of a warped copy without their places: shape goes to the residual.

    In one style: the colours give the style away, and a residual of one style under the condition of another had no
    meaning (measured with statistics of a layer of the classifier as the source: ghosts, Fréchet distance 34).
    """
    return train_flow(
        job,
        *_source(job, "shape-appearance"),
        sizes=_MORE_BLOCKS,
        more=_score_crossings,
        style="micah",
        warp_strength=WARP_STRENGTH,
    )


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
