"""Training of the unpaired translators: one flow for the five styles, one for attributes."""

import torch

from ..data import load_emoji
from ..evaluation import Judge
from ..evaluation.domain_scores import Gallery, directions, mean_score
from ..experts import LabelExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..translation.domains import DomainMethod, DomainTranslator, encode_labelled, label_flow
from ..translation.edits import EDITED, editable
from ..translation.partners import pseudo_pairs
from ..translation.training import held_out_nats
from .recipe import Job, data_hash, publish

__all__ = ["train_attributes", "train_styles"]

_RECIPE = {"batch_size": 512, "rate": 2e-3, "weight_decay": 0.1, "variants": 8}


def train_styles(job: Job) -> Card:
    """The flow of notebook 05 for all five styles; published if its Fréchet distance is lower."""
    seed_everything(job.seed)
    data, device = load_emoji(), job.profile.device
    target = load_expert("autoencoder64", device)
    names = data.classes["style"]
    expert, recipe = LabelExpert(len(names)), _RECIPE | {"alignment": 3.0}
    variants = recipe["variants"] = job.profile.pick(quick=2, cpu=8, gpu=32)
    part = data.part("train")
    pairs = encode_labelled(part, target, expert, part.labels["style"], variants, job.seed)
    held = {
        name: encode_labelled(data.part(name), target, expert, data.part(name).labels["style"])
        for name in ("val", "test")
    }
    first, second = pseudo_pairs(pairs.mean[: len(part)], part.labels["style"])
    partners = torch.cat([first, first + len(part)]), torch.cat([second, second + len(part)])
    flow = label_flow(pairs, job.seed)
    method = DomainMethod(
        pairs, flow, partners, recipe["alignment"], rate=recipe["rate"], weight_decay=recipe["weight_decay"],
        held=held["val"],
    )  # fmt: skip
    steps = job.profile.pick(quick=100, cpu=1500, gpu=10000)
    history = job.run("domain-styles", method, recipe["batch_size"], steps)
    averaged = history.averaged["flow"].eval()
    card = Card(
        "domain-styles",
        "conditional flow",
        averaged.config.to_dict(),
        recipe,
        data=data_hash(data),
        notes="Condition: one-hot style. Retrieval, style accuracy and Fréchet distance use judge features.",
    )
    judge = Judge.load().to(device)
    translator = DomainTranslator(names, averaged, target)
    for name, encoded in held.items():
        card.metrics[f"nats per picture on {name}"] = held_out_nats(averaged, encoded)
    gallery = Gallery.of(data.part("val"), judge)
    scores = [
        gallery.score(translator.translate_to(gallery.pictures(s), *_labels(gallery, s, t)), s, t)
        for s, t in directions(len(names))
    ]
    card.metrics |= {f"{key} on val": value for key, value in vars(mean_score(scores)).items()}
    return publish(job, card, averaged.state_dict(), history, "frechet on val", higher=False, bits=8)


def _labels(gallery: Gallery, own: int, other: int) -> tuple[torch.Tensor, torch.Tensor]:
    count = len(gallery.positions[own])
    return torch.full((count,), own), torch.full((count,), other)


def train_attributes(job: Job) -> Card:
    """The flow of notebook 05 whose condition is a vector of skin tone, gender, age and hair."""
    seed_everything(job.seed)
    data, device = load_emoji(), job.profile.device
    target = load_expert("autoencoder64", device)
    expert = LabelExpert({name: len(data.classes[name]) for name in EDITED})
    recipe = _RECIPE | {"weight_decay": 0.5, "alignment": 4.0}
    variants = recipe["variants"] = job.profile.pick(quick=2, cpu=8, gpu=32)

    def encode(name: str, count: int = 1):
        part = data.part(name)
        return encode_labelled(part, target, expert, {key: part.labels[key] for key in EDITED}, count, job.seed)

    pairs, held = encode("train", variants), {name: encode(name) for name in ("val", "test")}
    part = data.part("train")
    sides: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for name in EDITED:
        where = editable(part, name)
        for side, found in zip(sides, pseudo_pairs(pairs.mean[where], part.labels[name][where]), strict=True):
            side += [where[found.cpu()], where[found.cpu()] + len(part)]  # as they are, and both mirrored
    flow = label_flow(pairs, job.seed, hidden_dim=96, blocks=6)
    method = DomainMethod(
        pairs, flow, (torch.cat(sides[0]), torch.cat(sides[1])), recipe["alignment"], rate=recipe["rate"],
        weight_decay=recipe["weight_decay"], held=held["val"],
    )  # fmt: skip
    steps = job.profile.pick(quick=100, cpu=900, gpu=4000)
    history = job.run("domain-attributes", method, recipe["batch_size"], steps)
    averaged = history.averaged["flow"].eval()
    card = Card(
        "domain-attributes",
        "conditional flow",
        averaged.config.to_dict(),
        recipe,
        data=data_hash(data),
        metrics={f"nats per picture on {name}": held_out_nats(averaged, one) for name, one in held.items()},
        notes="Condition: one-hot vectors of skin tone, gender, age and hair, joined.",
    )
    return publish(job, card, averaged.state_dict(), history, "nats per picture on val", higher=False, bits=8)
