"""Training of the translator of notebook 06 that a few seconds are not enough for."""

import torch
from torch import Tensor

from ..cinn import ConditionalFlow
from ..data import load_emoji
from ..data.warp import random_warp
from ..evaluation import Judge
from ..experts import load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import Bench, FlowMethod, Pairs, PooledSource, Translator, encode_pairs, use_translator
from ..translation.choice import RIDGE, flow_config
from .recipe import Job, data_hash, publish

__all__ = ["train_shape_appearance"]


def train_shape_appearance(job: Job) -> Card:
    """Autoencoder of a warped copy → autoencoder of the picture: notebook 06's shape and appearance."""
    seed_everything(job.seed)
    data, device = load_emoji(), job.profile.device
    target = load_expert("autoencoder64", device)
    generator = torch.Generator().manual_seed(job.seed)

    def see(images: Tensor) -> Tensor:
        return random_warp(images, generator)

    variants = job.profile.pick(quick=1, cpu=2, gpu=32)
    pairs = encode_pairs(data.part("train"), lambda x: target.encode(see(x)), target, variants, job.seed)
    source = PooledSource(target, pairs.condition)
    pairs = Pairs(source.standardise(pairs.condition), pairs.mean, pairs.deviation)
    config = flow_config(target.latent_dim, source.condition_shape)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), RIDGE)
    few = data.part("train").subset(range(500))
    val, test = (Bench.prepare(target, Judge.load().to(device), few, data.part(part)) for part in ("val", "test"))
    told = source.standardise(val.outputs(target, see, held=True))
    held = Pairs(told, val.held_latents.mean, val.held_latents.deviation)
    recipe = {"batch_size": 256, "variants": variants, "rate": 2e-3, "weight_decay": 0.05, "ridge": RIDGE}
    method = FlowMethod(pairs, flow, recipe["rate"], recipe["weight_decay"], held)
    history = job.run("shape-appearance", method, 256, job.profile.pick(quick=50, cpu=1000, gpu=40000))
    averaged = history.averaged["flow"].eval()
    metrics = {}
    for part, bench in (("val", val), ("test", test)):
        scores = use_translator(bench, Translator(source, averaged, target), see=see, seed=job.seed).scores
        metrics |= {f"{key} on {part}": value for key, value in vars(scores).items()}
    card = Card("shape-appearance", "choice", config.to_dict(), recipe, data=data_hash(data), metrics=metrics)
    card.notes = "Source: the autoencoder's latent of a copy under a random thin-plate spline (course_lib.data.warp)."
    tensors = averaged.state_dict() | {f"source.{key}": value for key, value in source.state().items()}
    return publish(job, card, tensors, history, "nats on val", higher=False)
