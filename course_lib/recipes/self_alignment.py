"""Self-alignment as published, on the shipped StyleGAN: what notebook 07 compares its own start with."""

import torch

from ..experts import load_expert
from ..hypermod import HyperGenerator
from ..hypermod.aligned import WatchedAlignment, class_modulation, picture_distance, to_tensors
from ..hypermod.dissect import modulate
from ..hypermod.self_alignment import alignment_losses
from ..profiles import seed_everything
from ..training import Card
from .recipe import Job, publish

__all__ = ["train_self_aligned32"]


@torch.no_grad()
def _scores(hyper: HyperGenerator, samples: int, seed: int) -> dict[str, float]:
    """On samples that the training has not drawn: the loss, and the distance of pictures."""
    z, noise = WatchedAlignment(hyper).batch(torch.arange(samples), torch.Generator().manual_seed(seed))
    found = modulate(hyper, class_modulation(hyper))
    return {
        "sum of feature distances on new samples": float(sum(alignment_losses(hyper, z, noise))),
        "distance of pictures on new samples": picture_distance(hyper, found, z, noise),
    }


def train_self_aligned32(job: Job) -> Card:
    """Random heads learn to imitate ``stylegan32``: full heads, one class, rates as published (10,000 steps of 32)."""
    seed_everything(job.seed)
    device = job.profile.device
    hyper = HyperGenerator(load_expert("stylegan32", device), 1, start="random").to(device)
    every = 50
    method = WatchedAlignment(hyper, every)
    steps, batch = job.profile.pick(quick=(4, 2), cpu=(2000, 16), gpu=(10_000, 32))
    recipe = {"batch_size": batch, "heads": "full", "rate": 2e-3, "class rate": 2e-5}
    before = {f"{name}, before": value for name, value in _scores(hyper, 200, job.seed + 1).items()}
    history = job.run("self-aligned32", method, batch, steps, log_every=every)
    metrics = before | _scores(hyper, 200, job.seed + 1)
    config = {"source": "stylegan32", "heads": sum(p.numel() for p in hyper.heads.parameters())}
    notes = "γ, β and δ of the one class that self-alignment knows; the hypernetwork itself is not kept."
    card = Card("self-aligned32", "self-aligned modulation", config, recipe, metrics=metrics, notes=notes)
    primary = "distance of pictures on new samples"
    return publish(job, card, to_tensors(class_modulation(hyper)), history, primary, higher=False, bits=8)
