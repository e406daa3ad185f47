"""Training of the text translators: sentences to people, and to the class-conditional BigGAN (notebook 04)."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn import FINE_WEIGHTS, ConditionalFlow, FlowConfig
from ..data import ImageSet, load_kinds, load_people
from ..data.people import STYLES
from ..errors import CourseError
from ..evaluation import Judge
from ..experts import SentenceMemory, load_expert
from ..profiles import seed_everything
from ..training import Card, load_card, save_weights
from ..translation import Translator, held_out_nats, load_flow
from ..translation.domains import people_expert
from ..translation.gan_target import (
    DequantiserMethod,
    GanMethod,
    GanTarget,
    generate_pairs,
    nearest_class,
    start_dequantiser,
)
from ..translation.scores import read_as_asked
from ..translation.shipped import text_tensors
from ..translation.text import (
    CaptionSource,
    CaptionStage,
    belief_targets,
    combinations_of,
    new_captions,
    training_captions,
)
from .recipe import Job, data_hash, publish

__all__ = ["train_text_to_biggan", "train_text_to_people"]

PARTIAL = 6
"""Sentences of each combination that name some attributes only, beside the six complete ones."""

_NOTES = "Sentences in wordings, and about combinations of attributes, that were never trained on; the judge reads."


def _read_captions(
    data: ImageSet, memory: SentenceMemory, classes: Mapping[str, list[str]], partial: int, seed: int
) -> tuple[CaptionSource, Tensor]:
    """The reader of sentences, fitted on captions of the combinations in ``data``; their beliefs ``(E, C, T)``."""
    generator = torch.Generator().manual_seed(seed)
    made = [training_captions(values, partial, generator) for values in combinations_of(data)[0]]
    texts = [text for several, _ in made for text in several]
    named = [one for _, several in made for one in several]
    embeddings = memory.learn(texts)
    targets = belief_targets(named).to(embeddings)
    source = CaptionSource.fit(memory, embeddings, targets, people_expert(classes), classes["style"])
    return source, source.read(texts).view(len(made), -1, targets.shape[1])


def score_text(translator: Translator, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Shares of pictures read as asked: four new sentences for every combination of ``data``, in a random style."""
    generator = torch.Generator().manual_seed(seed)
    made = [new_captions(values, 2, generator) for values in combinations_of(data)[0]]
    texts, named = ([one for part in made for one in part[k]] for k in (0, 1))
    styles = torch.randint(len(STYLES), (len(texts),), generator=generator).tolist()
    condition = translator.source.encode([(text, list(STYLES)[k]) for text, k in zip(texts, styles, strict=True)])
    latent = translator.flow.sample(condition, 1.0, generator)
    pictures = translator.decode(latent).cpu()
    return {f"{name} read as asked": share for name, share in read_as_asked(pictures, named, judge).items()}


def train_text_to_people(job: Job) -> Card:
    """The reading of sentences, which makes conditions of the flow ``people-labels``: fitted in closed form.

    Decided readings are labels, so that flow serves as it is. The card holds the scores of both together.
    """
    seed_everything(job.seed)
    data, device, started = load_people(), job.profile.device, time.perf_counter()
    memory = SentenceMemory(device=device)
    partial = job.profile.pick(quick=1, cpu=PARTIAL, gpu=PARTIAL)
    source, table = _read_captions(data.part("train"), memory, data.classes, partial, job.seed)
    seconds = time.perf_counter() - started
    flow, target = load_flow("people-labels", device, job.out), load_expert("avatar-autoencoder", device)
    translator, judge = Translator(source, flow, target), Judge.load().to(device)
    metrics = {}
    for part in ("val", "test"):
        seeds = [score_text(translator, data.part(part), judge, job.seed + k) for k in range(3)]
        for name in seeds[0]:
            values = [one[name] for one in seeds]
            metrics |= {f"{name} on {part}": sum(values) / 3, f"{name}, least of three seeds on {part}": min(values)}
    recipe = {"captions": table.shape[0] * table.shape[1], "flow": "people-labels"}
    card = Card("text-to-people", "sentence reader", {}, recipe, data=data_hash(data), metrics=metrics, notes=_NOTES)
    card.seconds, card.seed, card.device = round(seconds, 1), job.seed, device
    save_weights(source.tensors(), card, job.out)
    print("wrote text-to-people", {key: round(value, 3) for key, value in metrics.items() if key.endswith("on test")})
    return card


def _for_this_generator(job: Job, name: str, digest: str) -> Job:
    """A translator into an older generator is worth nothing, however well it scored: it gives way in any case.

    For the same reason the names of working folders carry the digest: a run must not resume one for another generator.
    """
    try:
        outdated = load_card(name, job.out).recipe.get("generator") != digest
    except CourseError:
        outdated = False
    return replace(job, force=job.force or outdated)


def _train_dequantiser(job: Job, target: GanTarget, digest: str) -> tuple[Card, nn.Module]:
    recipe = {"spread": 0.3, "rate": 1e-3, "batch_size": 256, "generator": digest}
    network = start_dequantiser(target.classes, recipe["spread"])
    method = DequantiserMethod(target.classes.cpu(), network, recipe["spread"], recipe["rate"])
    # Trained much longer, the decoder learns the few points by heart and the neighbours shrink onto them (0.42 after
    # 1,000 steps, 0.05 after 240 s), so a time budget is not for it.
    steps = job.profile.pick(quick=100, cpu=1000, gpu=1000)
    alone = replace(job, seconds=None, steps=None)
    history = alone.run(f"dequantiser-{digest[:8]}", method, recipe["batch_size"], steps)
    frozen = history.averaged["dequantiser"].frozen()
    classes = target.classes.to(next(frozen.parameters()).device)
    many = classes.repeat(200, 1)
    found = frozen(many, torch.Generator().manual_seed(job.seed))
    label = torch.arange(len(classes), device=classes.device).repeat(200)
    metrics = {
        "bound (nats)": history.curve["loss/dequantiser"][-1],
        "nearest embedding is the right class": (nearest_class(found, classes) == label).float().mean().item(),
        "distance to the embedding": (found - many).norm(dim=1).mean().item(),
    }
    config = vars(frozen.config)
    card = Card("dequantiser", "dequantiser", config, recipe, data=data_hash(load_kinds()), metrics=metrics)
    publish(job, card, frozen.state_dict(), history, "bound (nats)", higher=False, bits=8)
    return card, frozen


def train_text_to_biggan(job: Job) -> Card:
    """Sentences → noise and class embedding of ``avatar-biggan``; also publishes the ``dequantiser`` that it needs."""
    seed_everything(job.seed)
    device, generator = job.profile.device, load_card("avatar-biggan")
    digest, kinds = generator.sha256, load_kinds().classes["kind"]
    target = GanTarget.load("avatar-biggan", device)
    _, dequantiser = _train_dequantiser(_for_this_generator(job, "dequantiser", digest), target, digest)
    known = generator.recipe["classes"]
    stage = CaptionStage(load_expert("avatar-classifier", device), kinds, known)
    recipe: dict[str, Any] = {"batch_size": 256, "rate": 2e-3, "weight_decay": 0.05, "generator": digest}
    recipe["pairs"] = job.profile.pick(quick=2500, cpu=12000, gpu=200000)
    # Each style of people three times as often as another kind: there is more to say about them.
    weights = torch.tensor([3.0 if name in STYLES else 1.0 for name in known])
    pairs, _ = generate_pairs(target, stage, recipe["pairs"] + 500, weights, job.seed)
    draws, memory = torch.Generator().manual_seed(job.seed), SentenceMemory(device=device)
    made = [[stage.caption(thing, draws) for _ in range(8)] for thing in pairs.things]
    texts = [text for several in made for text, _ in several]
    targets = stage.beliefs([named for several in made for _, named in several])
    embeddings = memory.learn(texts)
    source = CaptionSource.fit(memory, embeddings, targets.to(embeddings), stage.labels)
    table = source.read(texts).view(len(made), 8, -1)
    held, pairs = pairs.subset(torch.arange(500)), pairs.subset(torch.arange(500, len(pairs)))
    sizes = {"embedding_dim": 48, "hidden_dim": 64, "hidden_depth": 1, "embedder_depth": 0, "condition_shift": True}
    config = FlowConfig(target.latent_dim, source.condition_shape, blocks=8, **sizes)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    rates = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"]}
    method = GanMethod(pairs, target, dequantiser, table, source, flow, held=held, **rates)
    flow.fit_shift(method.pairs.mean.cpu(), method.pairs.condition.cpu(), ridge=1e-2)
    steps = job.profile.pick(quick=50, cpu=8000, gpu=20000)
    history = job.run(f"text-to-biggan-{digest[:8]}", method, recipe["batch_size"], steps, last=True)
    flow, judge = history.averaged["flow"].eval(), Judge.load().to(device)
    metrics = {"nats per picture on held-out pairs": held_out_nats(flow, method.held)}
    for part in ("val", "test"):
        scores = score_biggan(Translator(source, flow, target), load_people().part(part), stage, judge)
        metrics |= {f"{key} on {part}": value for key, value in scores.items()}
    job = _for_this_generator(job, "text-to-biggan", digest)
    card = Card("text-to-biggan", "text flow", flow.config.to_dict(), recipe, data=data_hash(load_kinds()))
    card.metrics, card.notes = metrics, _NOTES
    primary, fine = "nats per picture on held-out pairs", tuple(f"flow.{weight}" for weight in FINE_WEIGHTS)
    return publish(job, card, text_tensors(flow, source), history, primary, higher=False, bits=8, fine=fine)


def score_biggan(
    translator: Translator, data: ImageSet, stage: CaptionStage, judge: Judge, seed: int = 0
) -> dict[str, float]:
    """Shares read as asked: a complete new sentence a combination of ``data``, ten times a kind's new phrase."""
    draws = torch.Generator().manual_seed(seed)
    styles = list(STYLES)
    asked = [values | {"kind": styles[k % 6]} for k, values in enumerate(combinations_of(data)[0])]
    made = [stage.caption(one, draws, new=True) for one in asked]
    texts, named = ([one[k] for one in made] for k in (0, 1))
    things = [name for name in stage.known if name not in STYLES] * 10
    texts += [stage.caption({"kind": name}, draws, new=True)[0] for name in things]
    latent = translator.flow.sample(translator.source.encode(texts), 1.0, draws)
    pictures = translator.decode(latent).cpu()
    named = [{name: value for name, value in one.items() if name != "kind"} for one in named]
    people, others = pictures[: len(named)], pictures[len(named) :]
    scores = {f"{name} read as asked": share for name, share in read_as_asked(people, named, judge).items()}
    kinds, seen = stage.kinds, judge.predict(others, "kind")
    right = [kinds[k] == name for k, name in zip(seen.tolist(), things, strict=True)]
    style = [kinds[k] == one["kind"] for k, one in zip(judge.predict(people, "kind").tolist(), asked, strict=True)]
    return scores | {
        "kind read as asked": sum(right) / len(right),
        "style of people read as asked": sum(style) / len(style),
    }
