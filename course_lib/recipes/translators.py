"""Training of the translators that a minute is not enough for."""

import torch

from ..cinn import ConditionalFlow, FlowConfig
from ..data import load_emoji
from ..evaluation import Judge
from ..experts import load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import FlowMethod, Translator, encode_pairs
from ..translation.superresolution import LowResolution, score_translator
from .recipe import Job, data_hash, publish

__all__ = ["train_superresolution"]


def train_superresolution(job: Job) -> Card:
    """The flow of notebooks 00 and 03: 16-pixel autoencoder → 64-pixel autoencoder."""
    data, device = load_emoji(), job.profile.device
    source = LowResolution(load_expert("autoencoder16", device))
    target = load_expert("autoencoder64", device)
    seed_everything(job.seed)
    variants = job.profile.pick(quick=1, cpu=8, gpu=32)
    pairs = encode_pairs(data.part("train"), source.encode, target, variants, job.seed)
    config = FlowConfig.quick(target.latent_dim, source.condition_shape, embedding_dim=64)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    steps = job.profile.pick(quick=100, cpu=8000, gpu=60000)
    history = job.run("superresolution", FlowMethod(pairs, flow), 256, steps)
    averaged = history.averaged["flow"].eval()
    metrics = {}
    judge = Judge.load().to(device)
    translator = Translator(source, averaged, target)
    for part in ("val", "test"):
        held = data.part(part)
        pairs = encode_pairs(held, source.encode, target)
        with torch.no_grad():
            metrics[f"nats per picture on {part}"] = -averaged.log_prob(pairs.mean, pairs.condition).mean().item()
        scores, _ = score_translator(translator, held, judge, seed=job.seed)
        metrics |= {f"{name} on {part}": value for name, value in vars(scores).items()}
    card = Card(
        "superresolution",
        "conditional flow",
        config.to_dict(),
        {"batch_size": 256, "variants": variants},
        data=data_hash(data),
        metrics=metrics,
        notes="Fréchet distance and diversity use judge features; consistency is the explained share of the 16-pixel latent.",
    )
    return publish(job, card, averaged.state_dict(), history, "frechet on val", higher=False)
