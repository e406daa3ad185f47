"""Training of super-resolution: 8 and 16 pixels to the grid autoencoder, and the regressors to compare with."""

from dataclasses import dataclass, replace

import torch

from ..cinn import FINE_WEIGHTS, GridFlow, GridFlowConfig
from ..data import ImageSet, fresh_people, load_people
from ..evaluation import Judge
from ..experts import Autoencoder, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import (
    FlowMethod,
    GridRegressor,
    LowResolution,
    Pairs,
    RegressorMethod,
    Translator,
    encode_pairs,
    held_out_nats,
    score_pictures,
    score_translator,
)
from .recipe import Job, data_hash, publish

__all__ = [
    "train_superresolution8",
    "train_superresolution8_mlp",
    "train_superresolution16",
]

_NOTES = (
    "Fréchet distance and diversity use judge features; consistency is the share of the condition's variance that is "
    "kept when the answer is shrunk again."
)


NOISE = 0.2
"""On the latents of training, whose own standard deviations are 1 to 2. The decoder hardly shows it (34 dB with it, 37
without); without it a probe read 42 % of the skins from v after 4,800 steps."""


@dataclass(frozen=True)
class _Task:
    """Experts, encoded pairs and held-out parts of one translation."""

    data: ImageSet
    source: LowResolution
    target: Autoencoder
    pairs: Pairs
    held: dict[str, Pairs]
    judge: Judge

    @classmethod
    def load(cls, job: Job, size: int) -> "_Task":
        data, device = load_people(), job.profile.device
        source, target = LowResolution(size), load_expert("avatar-autoencoder", device)
        sets = [data.part("train")]
        each = job.profile.pick(quick=0, cpu=2, gpu=20)
        if each:
            sets.append(fresh_people(each))
        parts = [encode_pairs(one, source.encode, target, noise=NOISE) for one in sets]
        pairs = Pairs(*(torch.cat([getattr(p, f) for p in parts]) for f in ("condition", "mean", "std")))
        held = {part: encode_pairs(data.part(part), source.encode, target, noise=NOISE) for part in ("val", "test")}
        return cls(data, source, target, pairs, held, Judge.load().to(device))

    def config(self, **sizes: int) -> GridFlowConfig:
        """Of a flow between these experts."""
        target = self.target.config
        return GridFlowConfig(target.channels, target.side, self.source.condition_shape, **sizes)


def _train_flow(job: Job, size: int, steps: int, hidden_dim: int, blocks: int) -> Card:
    """The flow from ``size`` pixels, published as ``superresolution-SIZE``."""
    seed_everything(job.seed)
    task, name = _Task.load(job, size), f"superresolution-{size}"
    config = task.config(hidden_dim=hidden_dim, blocks=blocks, embedding_dim=16)
    flow = GridFlow(config, torch.Generator().manual_seed(job.seed))
    flow.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu())
    recipe = {"batch_size": 64, "pairs": len(task.pairs), "rate": 2e-3, "weight_decay": 0.02, "noise": NOISE}
    every = max(100, steps // 40)
    method = FlowMethod(task.pairs, flow, recipe["rate"], recipe["weight_decay"], task.held["val"], every)
    job = replace(job, precision="bf16-mixed")
    history = job.run(name, method, recipe["batch_size"], steps, log_every=every, last=True)
    averaged = history.averaged["flow"].eval()
    metrics, translator = {}, Translator(task.source, averaged, task.target)
    for part, encoded in task.held.items():
        metrics[f"nats per picture on {part}"] = held_out_nats(averaged, encoded)
        scores, _ = score_translator(translator, task.data.part(part), task.judge, seed=job.seed)
        metrics |= {f"{key} on {part}": value for key, value in vars(scores).items()}
    card = Card(name, "grid flow", config.to_dict(), recipe, data=data_hash(task.data), notes=_NOTES, metrics=metrics)
    primary = "nats per picture on val"
    return publish(job, card, averaged.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def _train_regressor(job: Job, size: int, steps: int) -> Card:
    """The regressor that sees the same pairs and starts from the same least-squares map."""
    seed_everything(job.seed)
    task, name = _Task.load(job, size), f"superresolution-{size}-mlp"
    regressor = GridRegressor(task.config(), width=96)
    regressor.fit_shift(task.pairs.mean.cpu(), task.pairs.condition.cpu())
    recipe = {"batch_size": 64, "pairs": len(task.pairs), "rate": 1e-3, "weight_decay": 0.02, "width": regressor.width}
    method = RegressorMethod(task.pairs, regressor, recipe["rate"], recipe["weight_decay"], task.held["val"])
    history = job.run(name, method, recipe["batch_size"], steps, last=True)
    averaged, metrics = history.averaged["regressor"].eval(), {}
    for part, encoded in task.held.items():
        real = torch.cat(list(task.data.part(part).batches(250))).to(encoded.mean.device)
        with torch.no_grad():
            pictures = torch.cat([task.target.decode(averaged(c)) for c in encoded.condition.split(250)])
        scores = score_pictures(pictures[:, None], real, task.source, task.judge)
        metrics |= {f"{key} on {part}": value for key, value in vars(scores).items()}
    config = regressor.config.to_dict()
    card = Card(name, "grid regressor", config, recipe, data=data_hash(task.data), notes=_NOTES, metrics=metrics)
    return publish(job, card, averaged.state_dict(), history, "psnr on val", higher=True, bits=8, fine=FINE_WEIGHTS)


def train_superresolution8(job: Job) -> Card:
    """The flow of notebooks 00 and 03: 8 pixels → people at 64."""
    return _train_flow(job, 8, job.profile.pick(quick=60, cpu=16000, gpu=80000), hidden_dim=64, blocks=10)


def train_superresolution8_mlp(job: Job) -> Card:
    """The baseline of 8 pixels."""
    return _train_regressor(job, 8, job.profile.pick(quick=60, cpu=4000, gpu=30000))


def train_superresolution16(job: Job) -> Card:
    """The flow of notebook 03 from 16 pixels."""
    return _train_flow(job, 16, job.profile.pick(quick=60, cpu=3000, gpu=60000), hidden_dim=24, blocks=6)
