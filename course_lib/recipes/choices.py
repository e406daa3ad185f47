"""Training of the translators of notebook 06 that a few seconds are not enough for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..cinn import FINE_WEIGHTS, GridFlowConfig
from ..data import ImageSet, load_emoji
from ..data.degrade import edges, grey, grey_square
from ..data.warp import random_warp
from ..evaluation import Judge, frechet_distance
from ..experts import GridAutoencoder, GridExpert, LayerExpert, SegmenterExpert, SourceExpert, load_expert
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
    cross_grid,
    encode_pairs,
    regressor_answers,
    score_grid,
    use_translator,
)
from ..translation.bench import See, unchanged
from ..translation.choice import GRID_RIDGE, choice_flow, grid_side
from .recipe import Job, data_hash, publish

__all__ = [
    "WARP_STRENGTH",
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
    "train_logits",
    "train_middle",
    "train_middle_mlp",
    "train_shape_appearance",
]

WARP_STRENGTH = 3.0
"""Three times the released code's. At 1 an emoji keeps its coarse outline, the flow trusts the condition for it, and
crossed pictures have the condition's silhouette (measured: 82 % of them; only the inside followed the residual)."""

_SCORED = 300
"""Held-out pictures of each part that scores are computed on."""

_CROSSED = 24
"""Pictures that are crossed with each other."""

_RECIPE = {"rate": 2e-3, "weight_decay": 0.05, "batch_size": 64}


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
    more, primary = _score_crossings, "frechet of crossings on val"
    return _train_grid(
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
    return _train_grid(job, f"segmenter-{layer}", *_segmenter(job, layer))


def _segmenter(job: Job, layer: str) -> tuple[SourceExpert, See, str]:
    expert = SegmenterExpert(load_expert("segmenter", job.profile.device), layer)
    return expert, unchanged, f"the segmenter's {layer}"


def train_class_logits(job: Job) -> Card:
    """Logits of the shape-biased classifier → grid autoencoder. What throws most away takes most steps."""
    steps = job.profile.pick(quick=60, cpu=12000, gpu=40000)
    return _train_grid(job, "classifier-logits", *_classifier(job), steps=steps)


def _classifier(job: Job) -> tuple[SourceExpert, See, str]:
    expert = LayerExpert(load_expert("classifier-shape", job.profile.device), "logits")
    return expert, unchanged, "the logits of classifier-shape"


def train_early_mlp(job: Job) -> Card:
    """The baseline of the first layer."""
    return _train_baseline(job, "segmenter-early", *_segmenter(job, "early"))


def train_middle_mlp(job: Job) -> Card:
    """The baseline of the middle layer."""
    return _train_baseline(job, "segmenter-middle", *_segmenter(job, "middle"))


def train_argmax_mlp(job: Job) -> Card:
    """The baseline of the label maps."""
    return _train_baseline(job, "segmenter-argmax", *_segmenter(job, "argmax"))


def train_class_logits_mlp(job: Job) -> Card:
    """The baseline of the classifier's logits."""
    return _train_baseline(job, "classifier-logits", *_classifier(job))


def train_colourisation(job: Job) -> Card:
    """Grid autoencoder of a grey copy → grid autoencoder of the picture."""
    return _train_spoiled(job, "colourisation", grey, "a grey copy")


def train_inpainting(job: Job) -> Card:
    """Grid autoencoder of a copy with a hole → grid autoencoder of the picture."""
    return _train_spoiled(job, "inpainting", grey_square, "a copy with a grey square in the middle")


def _train_spoiled(job: Job, name: str, see: See, words: str) -> Card:
    expert = GridExpert(load_expert("autoencoder-grid64", job.profile.device))
    return _train_grid(job, name, expert, see, f"the grid autoencoder's latent of {words}")


def train_edges_shape(job: Job) -> Card:
    """A layer of the shape-biased classifier → grid autoencoder; learned on plain pictures, scored on edges as well."""
    return _train_edges(job, "shape")


def train_edges_texture(job: Job) -> Card:
    """The same layer of the texture-biased classifier → grid autoencoder."""
    return _train_edges(job, "texture")


def _train_edges(job: Job, kind: str) -> Card:
    expert = LayerExpert(load_expert(f"classifier-{kind}", job.profile.device), "middle")
    words = f"the middle layer of classifier-{kind}, of plain pictures; scores on edges: it is shown line drawings"
    return _train_grid(job, f"edges-{kind}", expert, unchanged, words, {"edges": edges})


def _train_grid(
    job: Job,
    name: str,
    expert: SourceExpert,
    see: See,
    words: str,
    foreign: Mapping[str, See] | None = None,
    steps: int | None = None,
    more: Callable[[Bench, Translator], dict[str, float]] | None = None,
    primary: str = f"nats on {_SCORED} of val",
    **recorded: Any,
) -> Card:
    """Trains and publishes one flow.

    Args:
        see: what the source is shown, in training and in tests.
        words: say what the source is.
        foreign: what it is shown in further tests, by name; such scores are called after it.
        steps: of the profile; those of most flows by default.
        more: further scores of val and test.
        primary: the score that decides whether the flow is published; lower is better.
        recorded: goes into the card's recipe.
    """
    task = _Task.prepare(job, expert, see)
    # A long training finds by itself what ``Whitening`` gives a short one; added to it, the held-out likelihood falls.
    flow = choice_flow(task.pairs, task.target, job.seed, whitened=0)
    recipe = _RECIPE | {"variants": task.variants} | recorded
    steps = steps or job.profile.pick(quick=60, cpu=8000, gpu=40000)
    every = max(100, steps // 20)
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], task.held, every)
    history = job.run(name, method, recipe["batch_size"], steps, log_every=every)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, bench in task.benches.items():
        for named, shown in {"": see, **(foreign or {})}.items():
            scores = use_translator(bench, translator, see=shown, seed=job.seed).scores
            named = f" ({named})" if named else ""
            metrics |= {f"{key}{named} on {_SCORED} of {part}": value for key, value in vars(scores).items()}
        if more:
            metrics |= {f"{key} on {part}": value for key, value in more(bench, translator).items()}
    data = data_hash(load_emoji())
    card = Card(name, "choice", flow.config.to_dict(), recipe, data=data, metrics=metrics, notes=f"Source: {words}.")
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in task.source.state().items()}
    return publish(job, card, tensors, history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def _train_baseline(job: Job, flow: str, expert: SourceExpert, see: See, words: str) -> Card:
    """Trains and publishes the regressor that the flow called ``flow`` is compared with; arguments as there."""
    task = _Task.prepare(job, expert, see)
    shape = task.pairs.condition.shape[1:]
    regressor = GridRegressor(GridFlowConfig(task.target.config.channels, task.target.config.side, shape))
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu(), GRID_RIDGE)
    recipe = _RECIPE | {"rate": 1e-3, "variants": task.variants, "width": regressor.width}
    steps = job.profile.pick(quick=60, cpu=4000, gpu=20000)
    every = max(100, steps // 20)
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], task.held, every)
    history = job.run(f"{flow}-mlp", method, recipe["batch_size"], steps, log_every=every)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, bench in task.benches.items():
        told = task.source.standardise(bench.outputs(expert, see, held=True))
        with torch.no_grad():
            error = (bench.held_latents.mean - averaged(told)).square().sum(1).mean().item()
        metrics[f"error on {_SCORED} of {part}"] = error
        _, metrics[f"frechet on {_SCORED} of {part}"] = regressor_answers(bench, averaged, told)
    notes = f"Source: {words}. Error: squared, of the latent, a picture."
    config, data = regressor.config.to_dict(), data_hash(load_emoji())
    card = Card(f"{flow}-mlp", "grid regressor", config, recipe, data=data, metrics=metrics, notes=notes)
    primary = f"error on {_SCORED} of val"
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
    def prepare(cls, job: Job, expert: SourceExpert, see: See) -> "_Task":
        seed_everything(job.seed)
        data, judge = load_emoji(), Judge.load().to(job.profile.device)
        target, training = load_expert("autoencoder-grid64", job.profile.device), data.part("train")
        # With two, label maps ended 110 nats apart on training and held-out pictures; with six, 46.
        variants = job.profile.pick(quick=1, cpu=6, gpu=16)
        # Pooled batch by batch: the maps of all variants in full would need ten gigabytes.
        first = training.batch(torch.arange(2)).to(job.profile.device)
        small = PooledSource(expert, expert.encode(see(first)), grid=grid_side(target))
        pairs = encode_pairs(training, lambda x: small.pool(expert.encode(see(x))), target, variants, job.seed)
        source = PooledSource(expert, pairs.condition, grid=grid_side(target))
        pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.deviation)
        few = training.subset(range(_SCORED))
        benches = {part: Bench.prepare(target, judge, few, _some(data.part(part))) for part in ("val", "test")}
        val = benches["val"]
        told = source.standardise(val.outputs(expert, see, held=True))
        held = Pairs(told, val.held_latents.mean, val.held_latents.deviation)
        return cls(target, source, pairs, held, variants, benches)


def _some(data: ImageSet) -> ImageSet:
    return data.subset(torch.linspace(0, len(data) - 1, _SCORED).long())
