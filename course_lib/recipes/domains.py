"""Training of the translator between labels of people: style, skin, hair, cut, glasses and mouth (notebook 05)."""

from dataclasses import replace

import torch
from torch import Tensor

from ..cinn import FINE_WEIGHTS
from ..data import ImageSet, fresh_people, load_people
from ..data.people import ATTRIBUTES
from ..evaluation import Judge
from ..evaluation.domain_scores import PairedPictures
from ..experts import GridAutoencoder, LabelExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation import Pairs, held_out_nats
from ..translation.domains import DomainTranslator, LabelMethod, LinearStart, encode_labelled, label_flow, people_expert
from .recipe import Job, data_hash, publish

__all__ = ["LABEL_FLOW", "label_pairs", "train_labels", "translation_metrics"]

LABEL_FLOW = {"hidden_dim": 64, "blocks": 8, "embedding_dim": 16}
"""Sizes of the flows from labels and from sentences; the second starts from the first."""

SCORED = 150
"""Test people that are translated in all thirty directions."""

NOISE = 0.2
"""On the latents of training, as for super-resolution."""


def label_pairs(job: Job, data: ImageSet, target: GridAutoencoder, expert: LabelExpert) -> tuple[Pairs, Pairs]:
    """Joined one-hots and latents: of the training part and of fresh people, and of the val part."""
    sets = [data.part("train")]
    each = job.profile.pick(quick=0, cpu=2, gpu=20)
    if each:
        sets.append(fresh_people(each))
    parts = [encode_labelled(one, target, expert, NOISE) for one in sets]
    pairs = Pairs(*(torch.cat([getattr(p, f) for p in parts]) for f in ("condition", "mean", "std")))
    return pairs, encode_labelled(data.part("val"), target, expert, NOISE)


def train_labels(job: Job) -> Card:
    """The flow between labels of people, published as ``people-labels``."""
    seed_everything(job.seed)
    data, device = load_people(), job.profile.device
    target, expert = load_expert("avatar-autoencoder", device), people_expert(data.classes)
    pairs, held = label_pairs(job, data, target, expert)
    held = Pairs(expert.cross(held.condition), held.mean, held.std)
    flow = label_flow(pairs, target, expert, job.seed, **LABEL_FLOW)
    recipe = {"batch_size": 64, "pairs": len(pairs), "rate": 2e-3, "weight_decay": 0.02, "noise": NOISE}
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    every = max(100, steps // 40)
    rates = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"], "held": held, "held_every": every}
    method = LabelMethod(pairs, flow, expert, **rates)
    job = replace(job, precision="bf16-mixed")
    history = job.run("people-labels", method, recipe["batch_size"], steps, log_every=every, last=True)
    flow = history.averaged["flow"].eval()
    metrics = {"nats per picture on val": held_out_nats(flow, held)}
    classifier, judge = load_expert("avatar-classifier", device), Judge.load().to(device)
    test = data.part("test")
    paired = PairedPictures(test, judge, target.encode, most=SCORED)
    for words, translator in (
        ("", DomainTranslator(data.classes, flow, target, expert, classifier)),
        (", style alone", DomainTranslator(data.classes, flow, target, expert)),
        (", linear start", DomainTranslator(data.classes, LinearStart(flow), target, expert, classifier)),
    ):
        scores = translation_metrics(translator, paired)
        metrics |= {f"{key}{words} on test": value for key, value in scores.items()}
    translator = DomainTranslator(data.classes, flow, target, expert)
    metrics |= {f"{key} on test": value for key, value in sample_metrics(translator, test, judge).items()}
    notes = (
        "Condition: labels and their products with the style. Attributes of a picture are read by avatar-classifier."
    )
    card = Card("people-labels", "grid flow", flow.config.to_dict(), recipe, data=data_hash(data), metrics=metrics)
    card.notes = notes
    primary = "nats per picture on val"
    return publish(job, card, flow.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def translation_metrics(translator: DomainTranslator, paired: PairedPictures) -> dict[str, float]:
    """Every picture into every other style."""
    device = next(translator.flow.parameters()).device

    def translate(pictures: Tensor, own: int, other: int) -> Tensor:
        domain = torch.full((len(pictures),), own, device=device)
        return translator.edit(pictures.to(device), domain, {translator.domain: torch.full_like(domain, other)})

    return paired.score_all(translate).flat()


def sample_metrics(translator: DomainTranslator, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Share of pictures, one drawn for the labels of each, of which the judge reads what was asked."""
    condition = translator.code({name: data.labels[name] for name in translator.classes})
    latent = translator.flow.sample(condition, 1.0, torch.Generator().manual_seed(seed))
    pictures = torch.cat([translator.target.decode(z).cpu() for z in latent.split(250)])
    return {
        f"{name} read in samples": (judge.predict(pictures, name) == data.labels[name]).float().mean().item()
        for name in ATTRIBUTES
    }
