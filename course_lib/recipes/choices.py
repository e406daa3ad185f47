"""Training of the two translators of notebook 06 that a few seconds are not enough for."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..cinn import ConditionalFlow
from ..data import load_emoji
from ..data.warp import random_warp
from ..evaluation import Judge
from ..experts import SegmenterExpert, SourceExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import Bench, FlowMethod, Pairs, PooledSource, Translator, encode_pairs, use_translator
from ..translation.bench import unchanged
from ..translation.choice import RIDGE, flow_config
from .recipe import Job, data_hash, publish

__all__ = ["train_label_maps", "train_shape_appearance"]


def _train(job: Job, name: str, expert: SourceExpert, see: Callable[[Tensor], Tensor], notes: str) -> Card:
    seed_everything(job.seed)
    data, device = load_emoji(), job.profile.device
    target = load_expert("autoencoder64", device)
    variants = job.profile.pick(quick=1, cpu=2, gpu=32)
    pairs = encode_pairs(data.part("train"), lambda x: expert.encode(see(x)), target, variants, job.seed)
    source = PooledSource(expert, pairs.condition)
    pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.deviation)
    config = flow_config(target.latent_dim, source.condition_shape)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), RIDGE)
    few = data.part("train").subset(range(500))
    val, test = (Bench.prepare(target, Judge.load().to(device), few, data.part(part)) for part in ("val", "test"))
    held = Pairs(
        source.standardise(val.outputs(expert, see, held=True)), val.held_latents.mean, val.held_latents.deviation
    )
    recipe = {"batch_size": 256, "variants": variants, "rate": 2e-3, "weight_decay": 0.05, "ridge": RIDGE}
    method = FlowMethod(pairs, flow, recipe["rate"], recipe["weight_decay"], held)
    history = job.run(name, method, recipe["batch_size"], job.profile.pick(quick=50, cpu=1000, gpu=40000))
    averaged = history.averaged["flow"].eval()
    metrics = {}
    for part, bench in (("val", val), ("test", test)):
        scores = use_translator(bench, Translator(source, averaged, target), see=see, seed=job.seed).scores
        metrics |= {f"{key} on {part}": value for key, value in vars(scores).items()}
    card = Card(name, "choice", config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in source.state().items()}
    return publish(job, card, tensors, history, "nats on val", higher=False)


def train_label_maps(job: Job) -> Card:
    """Argmax of the segmenter → autoencoder: notebook 06's label maps and exemplars."""
    expert = SegmenterExpert(load_expert("segmenter", job.profile.device), "argmax")
    return _train(job, "segmenter-argmax", expert, unchanged, "Source: the segmenter's argmax, pooled to 8×8.")


def train_shape_appearance(job: Job) -> Card:
    """Autoencoder of a warped copy → autoencoder of the picture: notebook 06's shape and appearance."""
    generator = torch.Generator().manual_seed(job.seed)
    expert = load_expert("autoencoder64", job.profile.device)
    notes = "Source: the autoencoder's latent of a copy under a random thin-plate spline (course_lib.data.warp)."
    return _train(job, "shape-appearance", expert, lambda x: random_warp(x, generator), notes)
