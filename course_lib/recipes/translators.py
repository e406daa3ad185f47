"""Training of the translators that a minute is not enough for."""

from dataclasses import dataclass

import torch

from ..cinn import FINE_WEIGHTS, ConditionalFlow, FlowConfig
from ..data import ImageSet, load_emoji
from ..evaluation import Judge
from ..experts import Autoencoder, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import (
    FlowMethod,
    LowResolution,
    Pairs,
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


@dataclass(frozen=True)
class _Task:
    """Experts, encoded pairs and held-out parts of one translation."""

    data: ImageSet
    source: LowResolution
    target: Autoencoder
    pairs: Pairs
    held: dict[str, Pairs]
    variants: int
    judge: Judge

    @classmethod
    def load(cls, job: Job) -> "_Task":
        data, device = load_emoji(), job.profile.device
        source, target = LowResolution(load_expert("autoencoder16", device)), load_expert("autoencoder64", device)
        # A thousand base emoji are few: without many variants the held-out likelihood turns soon.
        variants = job.profile.pick(quick=1, cpu=8, gpu=64)
        pairs = encode_pairs(data.part("train"), source.encode, target, variants, job.seed)
        held = {part: encode_pairs(data.part(part), source.encode, target) for part in ("val", "test")}
        return cls(data, source, target, pairs, held, variants, Judge.load().to(device))


def _flow_config(task: _Task) -> FlowConfig:
    """Shallow networks and a linear head start: both let the condition through from the first step.

    With torch's default weights a signal loses most of its variance at every layer of a deep embedder.
    """
    sizes = {"embedding_dim": 64, "hidden_dim": 160, "hidden_depth": 1, "embedder_depth": 0, "condition_shift": True}
    return FlowConfig.quick(task.target.latent_dim, task.source.condition_shape, **sizes)


def train_superresolution(job: Job) -> Card:
    """The flow of notebooks 00 and 03, 16-pixel → 64-pixel autoencoder, and the regressor it is compared with.

    Both see the same pairs for the same number of steps and start from the same least-squares map; the regressor is
    published as ``superresolution-mlp``.
    """
    seed_everything(job.seed)
    task = _Task.load(job)
    config = _flow_config(task)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    flow.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu())
    steps = job.profile.pick(quick=100, cpu=8000, gpu=60000)
    recipe = {"batch_size": 256, "variants": task.variants, "rate": 2e-3, "weight_decay": 0.05}
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], task.held["val"])
    history = job.run("superresolution", method, recipe["batch_size"], steps)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, encoded in task.held.items():
        metrics[f"nats per picture on {part}"] = held_out_nats(averaged, encoded)
        scores, _ = score_translator(translator, task.data.part(part), task.judge, seed=job.seed)
        metrics |= {f"{name} on {part}": value for name, value in vars(scores).items()}
    card = Card(
        "superresolution", "conditional flow", config.to_dict(), recipe, data=data_hash(task.data), notes=_NOTES
    )
    card.metrics = metrics
    published = publish(
        job, card, averaged.state_dict(), history, "frechet on val", higher=False, bits=8, fine=FINE_WEIGHTS
    )
    _train_regressor(job, task, config, history.steps)
    return published


def _train_regressor(job: Job, task: _Task, config: FlowConfig, steps: int) -> Card:
    regressor = Regressor(config)
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu())
    recipe = {"batch_size": 256, "variants": task.variants, "rate": 1e-3, "weight_decay": 0.05}
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], task.held["val"])
    history = job.run("superresolution-mlp", method, recipe["batch_size"], steps)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, encoded in task.held.items():
        real = torch.cat(list(task.data.part(part).batches(250))).to(encoded.mean.device)
        with torch.no_grad():
            pictures = torch.cat([task.target.decode(averaged(c)) for c in encoded.condition.split(250)])
        scores = score_pictures(pictures[:, None], real, task.source, task.judge)
        metrics |= {f"{name} on {part}": value for name, value in vars(scores).items()}
    recipe |= {"width": regressor.width, "depth": regressor.depth, "shift": regressor.shift is not None}
    card = Card("superresolution-mlp", "regressor", config.to_dict(), recipe, data=data_hash(task.data), notes=_NOTES)
    card.metrics = metrics
    return publish(job, card, averaged.state_dict(), history, "frechet on val", higher=False, bits=8, fine=FINE_WEIGHTS)
