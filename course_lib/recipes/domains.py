"""Training of the unpaired translators: one flow for the five styles, one for attributes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet, load_emoji
from ..evaluation import Judge
from ..evaluation.domain_scores import Gallery, directions, mean_score
from ..evaluation.neighbours import retrieval_accuracy
from ..experts import LabelExpert, load_expert
from ..profiles import seed_everything
from ..training import Card
from ..training.budget import History
from ..translation import Pairs
from ..translation.domains import DomainMethod, DomainTranslator, encode_labelled, label_flow
from ..translation.edits import EDITED, editable
from ..translation.partners import content_features, pseudo_pairs
from ..translation.picture_critic import FeatureCritic, PictureDomainMethod, Viewer
from ..translation.training import held_out_nats
from .recipe import Job, data_hash, publish

__all__ = ["plain_retrieval", "style_metrics", "train_attributes", "train_styles"]

_RECIPE = {"target": "autoencoder-grid64", "batch_size": 96, "rate": 2e-3, "weight_decay": 0.05}
_LOOK = {
    "batch_size": 64,
    "viewer": "classifier",
    "pictures": {"content": 600.0, "style": 20.0, "critic": 300.0},
    "look": "bfloat16",
}
"""Decoder and classifier, most of a step, compute in half precision; the flow that trains stays in single precision."""


def _fit(
    job: Job,
    name: str,
    expert: LabelExpert,
    labels: Callable[[ImageSet], Any],
    partners: Callable[[ImageSet], tuple[Tensor, Tensor]] | None,
    recipe: dict[str, Any],
    steps: int,
) -> tuple[Card, History]:
    """Encodes the pictures, trains the flow and starts its card.

    Args:
        labels: of a part, as the expert takes them.
        partners: of the training part, to be pulled together.
        steps: of the profile.
    """
    seed_everything(job.seed)
    data, target = load_emoji(), load_expert(recipe["target"], job.profile.device)
    recipe = recipe | {"variants": job.profile.pick(quick=2, cpu=4, gpu=16)}

    def encode(key: str, variants: int = 1) -> Pairs:
        part = data.part(key)
        return encode_labelled(part, target, expert, labels(part), variants, job.seed)

    pairs, held = encode("train", recipe["variants"]), {key: encode(key) for key in ("val", "test")}
    part, both = data.part("train"), None
    if partners:
        first, second = (side.cpu() for side in partners(part))
        both = torch.cat([first, first + len(part)]), torch.cat([second, second + len(part)])  # plain, and mirrored
    flow = label_flow(pairs, target, job.seed, hidden_dim=32, blocks=8)
    options = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"], "held": held["val"]}
    options |= {"weight": recipe.get("alignment", 0.0)}
    kind = DomainMethod
    if "pictures" in recipe:
        kind, viewer, domains = PictureDomainMethod, _viewer(job, part, recipe), expert.condition_shape[0]
        critic = FeatureCritic(viewer.scales, domains).to(job.profile.device)
        options |= {"viewer": viewer, "critic": critic, "weights": recipe["pictures"]}
    method = kind(pairs, flow, both, **options)
    history = job.run(name, method, recipe["batch_size"], steps)
    flow = history.averaged["flow"].eval()
    card = Card(name, "grid flow", flow.config.to_dict(), recipe, data=data_hash(data))
    card.metrics = {f"nats per picture on {key}": held_out_nats(flow, one) for key, one in held.items()}
    return card, history


def train_styles(job: Job) -> Card:
    """The flow of notebook 05 for all five styles; published if its Fréchet distance is lower."""
    data = load_emoji()
    names = data.classes["style"]
    card, history = _fit(
        job,
        "domain-styles",
        LabelExpert(len(names)),
        lambda part: part.labels["style"],
        None,
        _RECIPE | _LOOK,
        job.profile.pick(quick=60, cpu=8000, gpu=40000),
    )
    card.notes = "Condition: one-hot style. Retrieval, style accuracy and Fréchet distance use judge features."
    flow = history.averaged["flow"].eval()
    translator = DomainTranslator(names, flow, load_expert(card.recipe["target"], job.profile.device))
    card.metrics |= style_metrics(translator, data)
    return publish(job, card, flow.state_dict(), history, "frechet on val", higher=False, bits=8)


def _viewer(job: Job, part: ImageSet, recipe: dict[str, Any]) -> Viewer:
    target, device = load_expert(recipe["target"], job.profile.device), job.profile.device
    classifier, precision = load_expert(recipe["viewer"], device), getattr(torch, recipe["look"])
    return Viewer.of(target, classifier, part, seed=job.seed, precision=precision)


def style_metrics(translator: DomainTranslator, data: ImageSet) -> dict[str, float]:
    """Retrieval, style accuracy and Fréchet distance of all pictures in every direction."""
    judge, metrics = Judge.load().to(next(translator.flow.parameters()).device), {}
    for part in ("val", "test"):
        gallery = Gallery.of(data.part(part), judge)
        scores = [
            gallery.score(_translate(translator, translator.move, gallery.pictures(s), s, t), s, t)
            for s, t in directions(len(translator.names))
        ]
        metrics |= {f"{key} on {part}": value for key, value in vars(mean_score(scores)).items()}
        if part == "test":
            metrics |= {f"{key} on test": value for key, value in plain_retrieval(translator, gallery).items()}
    return metrics


def plain_retrieval(translator: DomainTranslator, gallery: Gallery) -> dict[str, float]:
    """Retrieval of the true counterpart by pixels and by latents (cosine), for translations and for the untranslated
    pictures: no network has learned there to see through a style, as the judge has from true pairs."""
    device, count = next(translator.flow.parameters()).device, len(translator.names)
    spaces: dict[str, Callable[[Tensor], Tensor]] = {
        "pixels": lambda x: x.flatten(1),
        "latents": lambda x: translator.target.encode(x.to(device)).cpu(),
    }
    real = [gallery.pictures(k) for k in range(count)]
    seen = {name: [see(x) for x in real] for name, see in spaces.items()}
    truth, found = torch.arange(len(real[0])), {}
    for own, other in directions(count):
        moved = _translate(translator, translator.move, real[own], own, other).cpu()
        for name, see in spaces.items():
            for words, queries in (("", see(moved)), (" (untranslated)", seen[name][own])):
                for k in (1, 5):
                    share = retrieval_accuracy(queries, seen[name][other], truth, truth, k)
                    found.setdefault(f"top{k} by {name}{words}", []).append(share)
    return {key: sum(shares) / len(shares) for key, shares in found.items()}


def _translate(translator: DomainTranslator, move: Callable, pictures: Tensor, own: int, other: int) -> Tensor:
    labels, device = torch.full((len(pictures),), own), next(translator.flow.parameters()).device
    moved = move(translator.target.encode(pictures.to(device)), labels, torch.full_like(labels, other))
    return torch.cat([translator.target.decode(part) for part in moved.split(128)])


def train_attributes(job: Job) -> Card:
    """The flow of notebook 05 whose condition is a vector of skin tone, gender, age and hair."""
    data = load_emoji()
    classifier = load_expert("classifier", job.profile.device)

    def partners(part: ImageSet) -> tuple[Tensor, Tensor]:
        """Of two values of one attribute, for every attribute."""
        features, sides = content_features(classifier, part), ([], [])
        for name in EDITED:
            where = editable(part, name)
            for side, found in zip(sides, pseudo_pairs(features[where], part.labels[name][where]), strict=True):
                side.append(where[found.cpu()])
        return torch.cat(sides[0]), torch.cat(sides[1])

    card, history = _fit(
        job,
        "domain-attributes",
        LabelExpert({name: len(data.classes[name]) for name in EDITED}),
        lambda part: {name: part.labels[name] for name in EDITED},
        partners,
        _RECIPE | {"alignment": 2.0},  # looking at pictures needs one-hot domains, which attributes are not
        job.profile.pick(quick=60, cpu=1200, gpu=10000),
    )
    card.notes = "Condition: one-hot vectors of skin tone, gender, age and hair, joined."
    flow = history.averaged["flow"].eval()
    return publish(job, card, flow.state_dict(), history, "nats per picture on val", higher=False, bits=8)
