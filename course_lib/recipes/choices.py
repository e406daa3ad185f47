"""Training of the translators of notebook 06 that a few seconds are not enough for."""

from collections.abc import Mapping

import torch

from ..cinn import FINE_WEIGHTS
from ..data import ImageSet, load_emoji
from ..data.degrade import edges, grey, grey_square
from ..data.warp import random_warp
from ..evaluation import Judge
from ..experts import Autoencoder, GridExpert, LayerExpert, SegmenterExpert, SourceExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import Bench, FlowMethod, Pairs, PooledSource, Translator, encode_pairs, use_translator
from ..translation.bench import See, unchanged
from ..translation.choice import choice_flow, grid_side
from .recipe import Job, data_hash, publish

__all__ = [
    "WARP_STRENGTH",
    "train_argmax",
    "train_colourisation",
    "train_edges_shape",
    "train_edges_texture",
    "train_inpainting",
    "train_logits",
    "train_shape_appearance",
]

WARP_STRENGTH = 3.0
"""Three times the released code's. At 1 an emoji keeps its coarse outline, the flow trusts the condition for it, and
crossed pictures have the condition's silhouette (measured: 82 % of them; only the inside followed the residual)."""

_SCORED = 300
"""Held-out pictures of each part that scores are computed on."""


_GRID = {"whitened": 0}
"""A long training finds by itself what ``Whitening`` gives a short one; added to it, the held-out likelihood falls."""


def train_shape_appearance(job: Job) -> Card:
    """Autoencoder of a warped copy → autoencoder of the picture: shape in the residual, appearance in the condition."""
    generator = torch.Generator().manual_seed(job.seed)
    target = load_expert("autoencoder64", job.profile.device)
    notes = "Source: the autoencoder's latent of a copy under a random thin-plate spline (course_lib.data.warp)."
    recipe = {"variants": job.profile.pick(quick=1, cpu=2, gpu=32), "warp_strength": WARP_STRENGTH, "batch_size": 256}
    steps = job.profile.pick(quick=50, cpu=1000, gpu=10000)

    def bend(x: torch.Tensor) -> torch.Tensor:
        """A copy under another warp each time."""
        return random_warp(x, generator, WARP_STRENGTH)

    return _train(job, "shape-appearance", target, target, bend, steps, recipe, notes)


def train_argmax(job: Job) -> Card:
    """Label maps → grid autoencoder."""
    return _train_segmenter(job, "argmax")


def train_logits(job: Job) -> Card:
    """Logits of the segmenter → grid autoencoder."""
    return _train_segmenter(job, "logits")


def _train_segmenter(job: Job, layer: str) -> Card:
    expert = SegmenterExpert(load_expert("segmenter", job.profile.device), layer)
    return _train_grid(job, f"segmenter-{layer}", expert, unchanged, f"the segmenter's {layer}")


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
    job: Job, name: str, expert: SourceExpert, see: See, words: str, foreign: Mapping[str, See] | None = None
) -> Card:
    target = load_expert("autoencoder-grid64", job.profile.device)
    recipe = {"variants": job.profile.pick(quick=1, cpu=2, gpu=8), "batch_size": 64}
    steps = job.profile.pick(quick=60, cpu=4000, gpu=20000)
    return _train(job, name, target, expert, see, steps, recipe, f"Source: {words}.", foreign, **_GRID)


def _train(
    job: Job,
    name: str,
    target: Autoencoder,
    expert: SourceExpert,
    see: See,
    steps: int,
    recipe: dict,
    notes: str,
    foreign: Mapping[str, See] | None = None,
    **sizes: int,
) -> Card:
    """Trains and publishes one flow.

    Args:
        see: what the source is shown, in training and in tests.
        foreign: what it is shown in further tests, by name; such scores are called after it.
    """
    seed_everything(job.seed)
    data, judge = load_emoji(), Judge.load().to(job.profile.device)
    training = data.part("train")
    pairs = encode_pairs(training, lambda x: expert.encode(see(x)), target, recipe["variants"], job.seed)
    source = PooledSource(expert, pairs.condition, grid=grid_side(target))
    pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.deviation)
    flow = choice_flow(pairs, target, job.seed, **sizes)
    few = training.subset(range(_SCORED))
    benches = {part: Bench.prepare(target, judge, few, _some(data.part(part))) for part in ("val", "test")}
    val = benches["val"]
    told = source.standardise(val.outputs(expert, see, held=True))
    held = Pairs(told, val.held_latents.mean, val.held_latents.deviation)
    recipe = {"rate": 2e-3, "weight_decay": 0.05, **recipe}
    every = max(100, steps // 20)
    method = FlowMethod(pairs, flow, recipe["rate"], recipe["weight_decay"], held, every)
    history = job.run(name, method, recipe["batch_size"], steps, log_every=every)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(source, averaged, target)
    for part, bench in benches.items():
        for words, shown in {"": see, **(foreign or {})}.items():
            scores = use_translator(bench, translator, see=shown, seed=job.seed).scores
            named = f" ({words})" if words else ""
            metrics |= {f"{key}{named} on {_SCORED} of {part}": value for key, value in vars(scores).items()}
    card = Card(name, "choice", flow.config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in source.state().items()}
    return publish(job, card, tensors, history, f"nats on {_SCORED} of val", higher=False, bits=8, fine=FINE_WEIGHTS)


def _some(data: ImageSet) -> ImageSet:
    return data.subset(torch.linspace(0, len(data) - 1, _SCORED).long())
