"""Training of the translators of notebooks 03 and 06 that a few seconds are not enough for."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..data.degrade import edges, grey, grey_square
from ..data.warp import random_warp
from ..evaluation import frechet_distance
from ..experts import GridExpert, LayerExpert, SegmenterExpert, SourceExpert, load_expert
from ..training import Card, save_weights
from ..translation import Bench, Translator, cross_grid, score_grid
from ..translation.bench import See, unchanged
from .choice_training import PEOPLE, SCORED, train_baseline, train_flow
from .recipe import Job

__all__ = [
    "WARP_STRENGTH",
    "save_layers",
    "train_argmax",
    "train_argmax_mlp",
    "train_class_logits",
    "train_class_logits_mlp",
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
    "train_shape_appearance",
]

WARP_STRENGTH = 3.0
"""Three times the released code's. At 1 an emoji keeps its coarse outline, the flow trusts the condition for it, and
crossed pictures have the condition's silhouette (measured: 82 % of them; only the inside followed the residual)."""

_CROSSED = 24
"""Pictures that are crossed with each other."""


def _layer(job: Job, name: str) -> tuple[SourceExpert, See, str]:
    expert = LayerExpert(load_expert("avatar-classifier", job.profile.device), name)
    return expert, unchanged, f"layer {name!r} of avatar-classifier"


def train_layer(job: Job, layer: str) -> Card:
    """One layer of the classifier → grid autoencoder of people."""
    steps = job.profile.pick(quick=60, cpu=3000, gpu=40000)
    return train_flow(job, f"layer-{layer}", *_layer(job, layer), steps=steps, world=PEOPLE)


def train_layer_mlp(job: Job, layer: str) -> Card:
    """The baseline of that layer."""
    steps = job.profile.pick(quick=60, cpu=1500, gpu=20000)
    return train_baseline(job, f"layer-{layer}", *_layer(job, layer), steps=steps, world=PEOPLE)


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


def train_shape_appearance(job: Job) -> Card:
    """Flat autoencoder of a warped copy → grid autoencoder: shape in the residual, appearance in the condition.

    The source is the flat one because its numbers speak of the whole picture: a cell of the grid would say *where* a
    colour is, and that is the shape.
    """
    generator = torch.Generator().manual_seed(job.seed)

    def bend(x: torch.Tensor) -> torch.Tensor:
        """A copy under another warp each time."""
        return random_warp(x, generator, WARP_STRENGTH)

    expert = load_expert("autoencoder64", job.profile.device)
    words = "the flat autoencoder's latent of a copy under a random thin-plate spline (course_lib.data.warp)"
    more, primary = _score_crossings, f"frechet of crossings on {SCORED} of val"
    return train_flow(
        job,
        "shape-appearance",
        expert,
        bend,
        words,
        more=more,
        primary=primary,
        warp_strength=WARP_STRENGTH,
    )


def _score_crossings(bench: Bench, translator: Translator) -> dict[str, float]:
    """Every one of some held-out pictures with the appearance of every other, told as a mildly warped copy."""
    chosen = torch.randperm(len(bench.real), generator=torch.Generator().manual_seed(0))[:_CROSSED]
    warped = random_warp(bench.real[chosen].cpu(), torch.Generator().manual_seed(0), 1.0).to(bench.device)
    latent = bench.held_latents.mean[chosen]
    crossed = cross_grid(translator, latent, translator.source.encode(warped)).cpu()
    follows = score_grid(crossed, bench.decode(latent))
    others = crossed[~torch.eye(_CROSSED, dtype=torch.bool)]
    return {
        "frechet of crossings": frechet_distance(bench.features, bench.judge.features(others)),
        "silhouette follows the residual": follows.silhouette,
        "colour follows the condition": follows.colour,
    }


def train_argmax(job: Job) -> Card:
    """Label maps → grid autoencoder."""
    return _train_segmenter(job, "argmax")


def train_logits(job: Job) -> Card:
    """Logits of the segmenter → grid autoencoder."""
    return _train_segmenter(job, "logits")


def train_early(job: Job) -> Card:
    """First layer of the segmenter → grid autoencoder."""
    return _train_segmenter(job, "early")


def train_middle(job: Job) -> Card:
    """Its middle layer → grid autoencoder."""
    return _train_segmenter(job, "middle")


def _train_segmenter(job: Job, layer: str) -> Card:
    return train_flow(job, f"segmenter-{layer}", *_segmenter(job, layer))


def _segmenter(job: Job, layer: str) -> tuple[SourceExpert, See, str]:
    expert = SegmenterExpert(load_expert("segmenter", job.profile.device), layer)
    return expert, unchanged, f"the segmenter's {layer}"


def train_class_logits(job: Job) -> Card:
    """Logits of the shape-biased classifier → grid autoencoder. What throws most away takes most steps."""
    steps = job.profile.pick(quick=60, cpu=12000, gpu=40000)
    return train_flow(job, "classifier-logits", *_classifier(job), steps=steps)


def _classifier(job: Job) -> tuple[SourceExpert, See, str]:
    expert = LayerExpert(load_expert("classifier-shape", job.profile.device), "logits")
    return expert, unchanged, "the logits of classifier-shape"


def train_early_mlp(job: Job) -> Card:
    """The baseline of the first layer."""
    return train_baseline(job, "segmenter-early", *_segmenter(job, "early"))


def train_middle_mlp(job: Job) -> Card:
    """The baseline of the middle layer."""
    return train_baseline(job, "segmenter-middle", *_segmenter(job, "middle"))


def train_argmax_mlp(job: Job) -> Card:
    """The baseline of the label maps."""
    return train_baseline(job, "segmenter-argmax", *_segmenter(job, "argmax"))


def train_class_logits_mlp(job: Job) -> Card:
    """The baseline of the classifier's logits."""
    return train_baseline(job, "classifier-logits", *_classifier(job))


def train_colourisation(job: Job) -> Card:
    """Grid autoencoder of a grey copy → grid autoencoder of the picture."""
    return _train_spoiled(job, "colourisation", grey, "a grey copy")


def train_inpainting(job: Job) -> Card:
    """Grid autoencoder of a copy with a hole → grid autoencoder of the picture."""
    return _train_spoiled(job, "inpainting", grey_square, "a copy with a grey square in the middle")


def _train_spoiled(job: Job, name: str, see: See, words: str) -> Card:
    expert = GridExpert(load_expert("autoencoder-grid64", job.profile.device))
    return train_flow(job, name, expert, see, f"the grid autoencoder's latent of {words}")


def train_edges_shape(job: Job) -> Card:
    """A layer of the shape-biased classifier → grid autoencoder; learned on plain pictures, scored on edges as well."""
    return _train_edges(job, "shape")


def train_edges_texture(job: Job) -> Card:
    """The same layer of the texture-biased classifier → grid autoencoder."""
    return _train_edges(job, "texture")


def _train_edges(job: Job, kind: str) -> Card:
    expert = LayerExpert(load_expert(f"classifier-{kind}", job.profile.device), "middle")
    words = f"the middle layer of classifier-{kind}, of plain pictures; scores on edges: it is shown line drawings"
    return train_flow(job, f"edges-{kind}", expert, unchanged, words, {"edges": edges})
