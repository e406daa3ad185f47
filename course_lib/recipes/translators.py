"""Training of the translators that a minute is not enough for."""

import torch

from ..cinn import ConditionalFlow, FlowConfig
from ..data import load_emoji
from ..evaluation import Judge
from ..experts import load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import (
    FlowMethod,
    LowResolution,
    Regressor,
    RegressorMethod,
    Translator,
    encode_pairs,
    held_out_nats,
    score_pictures,
    score_translator,
)
from .recipe import Job, data_hash, publish

__all__ = ["train_superresolution"]

_NOTES = "Fréchet distance and diversity use judge features; consistency is the explained share of the 16-pixel latent."


def train_superresolution(job: Job) -> Card:
    """The flow of notebooks 00 and 03, 16-pixel → 64-pixel autoencoder, and the regressor it is compared with.

    Both see the same pairs for the same number of steps; the regressor is published as ``superresolution-mlp``.
    """
    data, device = load_emoji(), job.profile.device
    source = LowResolution(load_expert("autoencoder16", device))
    target = load_expert("autoencoder64", device)
    seed_everything(job.seed)
    variants = job.profile.pick(quick=1, cpu=8, gpu=64)
    pairs = encode_pairs(data.part("train"), source.encode, target, variants, job.seed)
    held = {part: encode_pairs(data.part(part), source.encode, target) for part in ("val", "test")}
    config = FlowConfig.quick(
        target.latent_dim,
        source.condition_shape,
        embedding_dim=64,
        hidden_dim=160,
        hidden_depth=1,
        embedder_depth=0,
        condition_shift=True,
    )
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    flow.fit_shift(pairs.mean, pairs.condition)
    regressor = Regressor(config)
    steps = job.profile.pick(quick=100, cpu=8000, gpu=60000)
    # A thousand base emoji are few: without many variants and decay the held-out likelihood turns soon. Shallow
    # networks let the condition through: torch's default weights shrink a signal's variance to a sixth at every layer.
    recipe = {"batch_size": 256, "variants": variants, "rate": 2e-3, "weight_decay": 0.05}
    method = FlowMethod(pairs, flow, recipe["rate"], recipe["weight_decay"], held["val"])
    history = job.run("superresolution", method, recipe["batch_size"], steps)
    averaged = history.averaged["flow"].eval()
    judge, metrics = Judge.load().to(device), {}
    translator = Translator(source, averaged, target)
    for part, encoded in held.items():
        metrics[f"nats per picture on {part}"] = held_out_nats(averaged, encoded)
        scores, _ = score_translator(translator, data.part(part), judge, seed=job.seed)
        metrics |= {f"{name} on {part}": value for name, value in vars(scores).items()}
    card = Card("superresolution", "conditional flow", config.to_dict(), recipe, data=data_hash(data), notes=_NOTES)
    card.metrics = metrics
    published = publish(job, card, averaged.state_dict(), history, "frechet on val", higher=False)

    method = RegressorMethod(pairs, regressor, 1e-3, recipe["weight_decay"], held["val"])
    history = job.run("superresolution-mlp", method, recipe["batch_size"], history.steps)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, encoded in held.items():
        real = torch.cat(list(data.part(part).batches(250))).to(device)
        with torch.no_grad():
            pictures = torch.cat([target.decode(averaged(c)) for c in encoded.condition.split(250)])
        scores = score_pictures(pictures[:, None], real, source, judge)
        metrics |= {f"{name} on {part}": value for name, value in vars(scores).items()}
    recipe = {**recipe, "rate": 1e-3, "width": regressor.width, "depth": regressor.depth}
    card = Card("superresolution-mlp", "regressor", config.to_dict(), recipe, data=data_hash(data), notes=_NOTES)
    card.metrics = metrics
    publish(job, card, averaged.state_dict(), history, "frechet on val", higher=False)
    return published
