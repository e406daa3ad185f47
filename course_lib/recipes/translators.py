"""Training of the translators: a specification each, one trainer and one baseline.

Super-resolution (notebooks 00 and 03), layers of a classifier (03), other sources (06), labels (05), sentences (04).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn import FINE_WEIGHTS, ConditionalFlow, FlowConfig, GridFlowConfig
from ..data import ImageSet, fresh_people, load_kinds, load_people
from ..data.changes import edges
from ..data.people import ATTRIBUTES, STYLES
from ..errors import CourseError
from ..evaluation import Judge, frechet_distance
from ..evaluation.domain_scores import PairedPictures
from ..experts import GridAutoencoder, LayerExpert, SentenceMemory, SourceExpert, freeze, load_expert
from ..profiles import seed_everything
from ..training import Card, load_card, save_weights
from ..translation import encode_pairs, gan_target, held_out_nats
from ..translation import text as sentences
from ..translation.domains import DomainTranslator, LabelMethod, LinearStart, encode_labelled, label_flow, people_expert
from ..translation.scores import ExperimentData, inherited, read_as_asked, score_choice, score_regressor
from ..translation.shipped import load_flow, text_tensors
from ..translation.training import LATENT_NOISE, FlowMethod, GridRegressor, Pairs, RegressorMethod, choice_flow
from ..translation.translator import SOURCES, WARP_STRENGTH, LowResolution, PooledSource, Translator, cross_grid
from .recipe import Job, data_hash, on_held_out, publish

__all__ = ["LAYERS", "TRANSLATORS", "TranslatorSpec", "train_baseline", "train_labels", "train_layers"]
__all__ += ["train_text_to_biggan", "train_text_to_people", "train_translator"]

Amounts = tuple[int, int, int]
"""For the profiles quick, cpu and gpu."""

LAYERS = ("low", "middle", "features", "logits")
"""Layers of the classifier of avatars that notebook 03 compares."""

_CROSSED = 24
"""Pictures that are crossed with each other."""


@dataclass(frozen=True)
class TranslatorSpec:
    """A flow from one source, and the regressor that it is compared with.

    Attributes:
        source, description: device → source expert, and what the card says of it.
        pooled: average and standardise its output, see :class:`PooledSource`; the card is then a "choice".
        sizes, width: of the flow, see :class:`GridFlowConfig`, and of the regressor.
        steps, baseline_steps: of training.
        weight_decay, ridge: of both, and of their linear start.
        fresh: new people of every combination to train on, besides the training part.
        style: train and score on people in this style alone.
        scored: pictures of val and of test that scores are computed on; None takes all.
        more, recorded: further scores; what goes into the card's recipe.
    """

    source: Callable[[str], SourceExpert]
    description: str
    pooled: bool = True
    sizes: Mapping[str, int] = field(default_factory=dict)
    width: int = 64
    steps: Amounts = (60, 5000, 40000)
    baseline_steps: Amounts = (60, 4000, 20000)
    weight_decay: float = 0.05
    ridge: float = 0.01
    fresh: Amounts = (0, 0, 0)
    style: str | None = None
    scored: int | None = 300
    more: Callable[[ExperimentData, Translator], dict[str, float]] | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def named(self, metrics: Mapping[str, float], part: str) -> dict[str, float]:
        """Metrics under the names that the cards have."""
        where = f"{self.scored} of {part}" if self.scored else part
        names = {} if self.pooled else {"nats": "nats per picture"}
        return {f"{names.get(key, key)} on {where}": value for key, value in metrics.items()}


def _score_edges(data: ExperimentData, translator: Translator) -> dict[str, float]:
    drawn = Translator(translator.source.transformed(edges), translator.flow, translator.target)
    return {f"{key} (edges)": value for key, value in score_choice(data, drawn)[1].items()}


def _score_crossings(data: ExperimentData, translator: Translator) -> dict[str, float]:
    """Every one of some held-out pictures with the appearance of every other."""
    chosen = torch.randperm(len(data.real), generator=torch.Generator().manual_seed(0))[:_CROSSED]
    latent = data.latents.mean[chosen]
    crossed = cross_grid(translator, latent, translator.source.encode(data.real[chosen])).cpu()
    labels = {name: data.held.labels[name][chosen] for name in ATTRIBUTES}
    others = crossed[~torch.eye(_CROSSED, dtype=torch.bool)]
    metrics = {"frechet of crossings": frechet_distance(data.features, data.judge.features(others))}
    for name, shares in inherited(data.judge, crossed, labels).items():
        metrics |= {f"{name} from the {giver}": x for giver, x in zip(("residual", "condition"), shares, strict=True)}
    return metrics


def _superresolution(size: int, steps: Amounts, **sizes: int) -> TranslatorSpec:
    return TranslatorSpec(
        lambda device: LowResolution(size),
        f"pictures of {size} pixels",
        pooled=False,
        sizes=sizes,
        width=96,
        steps=steps,
        baseline_steps=(60, 4000, 30000),
        weight_decay=0.02,
        ridge=1e-3,
        fresh=(0, 2, 20),
        scored=None,
    )


def _layer(layer: str) -> TranslatorSpec:
    return TranslatorSpec(
        lambda device: LayerExpert(load_expert("avatar-classifier", device), layer),
        f"layer {layer!r} of avatar-classifier",
        steps=(60, 3000, 40000),
        baseline_steps=(60, 1500, 20000),
    )


def _choice(name: str, **options: Any) -> TranslatorSpec:
    return TranslatorSpec(SOURCES[name], f"course_lib.translation.translator.SOURCES[{name!r}]", **options)


_MORE_BLOCKS = {"blocks": 6}

TRANSLATORS = {
    "superresolution-8": _superresolution(8, (60, 16000, 80000), hidden_dim=64, blocks=10),
    "superresolution-16": _superresolution(16, (60, 3000, 60000), hidden_dim=24, blocks=6),
    **{f"layer-{layer}": _layer(layer) for layer in LAYERS},
    "colourisation": _choice("colourisation", sizes=_MORE_BLOCKS),
    "inpainting": _choice("inpainting", sizes=_MORE_BLOCKS),
    # What leaves most open gets the largest flow.
    "segmenter-argmax": _choice("segmenter-argmax", sizes={"blocks": 6, "hidden_dim": 32}),
    "segmenter-logits": _choice("segmenter-logits", sizes=_MORE_BLOCKS),
    "segmenter-early": _choice("segmenter-early"),
    "segmenter-middle": _choice("segmenter-middle"),
    # Trained on plain pictures, scored on their edges as well.
    "edges-shape": _choice("edges-shape", more=_score_edges),
    "edges-texture": _choice("edges-texture", more=_score_edges),
    # In one style: the colours give the style away, and a residual of one style under the condition of another had no
    # meaning (measured with statistics of a layer of the classifier as the source: ghosts, Fréchet distance 34).
    "shape-appearance": _choice(
        "shape-appearance",
        sizes=_MORE_BLOCKS,
        fresh=(1, 8, 20),
        style="micah",
        more=_score_crossings,
        recorded={"warp_strength": WARP_STRENGTH},
    ),
}
"""Name of a checkpoint → how it is trained."""


def _encode(job: Job, spec: TranslatorSpec) -> tuple[GridAutoencoder, SourceExpert, Pairs, dict[str, ExperimentData]]:
    """What a flow and its baseline share: autoencoder of people, source, pairs, and pictures of val and test."""
    seed_everything(job.seed)
    device = job.profile.device
    people, judge, source = load_people(), Judge.load().to(device), spec.source(device)
    target, fresh = load_expert("avatar-autoencoder", device), job.profile.pick(*spec.fresh)
    if spec.style:
        people = people.where(style=spec.style)
    sets = [people.part("train")]
    if fresh:
        sets.append(fresh_people(fresh, styles=[spec.style] if spec.style else tuple(STYLES)))

    def pairs_of(encode: Callable[[Tensor], Tensor]) -> Pairs:
        return Pairs.join([encode_pairs(one, encode, target, LATENT_NOISE) for one in sets])

    if spec.pooled:
        # Pooled batch by batch: maps in full would need gigabytes.
        first = source.encode(sets[0].batch(torch.arange(2)).to(device))
        pairs = pairs_of(PooledSource.fit(source, first, target.config.side).pooled)
        source = PooledSource.fit(source, pairs.condition, target.config.side)
        pairs = replace(pairs, condition=source.standardise(pairs.condition))
    else:
        pairs = pairs_of(source.encode)
    scored = {}
    for part in ("val", "test"):
        data = people.part(part)
        if spec.scored:
            data = data.subset(torch.linspace(0, len(data) - 1, spec.scored).long())
        scored[part] = ExperimentData.prepare(target, judge, data)
    return target, source, pairs, scored


def train_translator(job: Job, name: str, last: bool = True) -> Card:
    """Trains and publishes the flow called ``name``, a key of :data:`TRANSLATORS`; ``last`` as for :meth:`Job.run`."""
    spec = TRANSLATORS[name]
    target, source, pairs, scored = _encode(job, spec)
    flow = choice_flow(pairs, target, job.seed, spec.ridge, **spec.sizes)
    recipe = {"rate": 2e-3, "weight_decay": spec.weight_decay, "batch_size": 64, "noise": LATENT_NOISE}
    recipe |= {"pairs": len(pairs)} | ({"style": spec.style} if spec.style else {}) | dict(spec.recorded)
    steps = job.profile.pick(*spec.steps)
    every = max(100, steps // 40)
    method = FlowMethod(pairs, flow, recipe["rate"], spec.weight_decay, scored["val"].pairs(source), every)
    history = job.run(name, method, recipe["batch_size"], steps, last, log_every=every, precision="bf16-mixed")
    averaged = history.averaged["flow"].eval()
    translator = Translator(source, averaged, target)

    def score(part: str) -> dict[str, float]:
        _, found = score_choice(scored[part], translator, seed=job.seed)
        return spec.named(found | (spec.more(scored[part], translator) if spec.more else {}), part)

    kind, tensors = "choice" if spec.pooled else "grid flow", averaged.state_dict()
    if spec.pooled:
        tensors |= {f"source.{key}": value for key, value in source.state().items()}
    card = Card(name, kind, flow.config.to_dict(), recipe, data=data_hash(load_people()))
    card.metrics = score("val") | score("test")
    card.notes = f"Source: {spec.description}. Fréchet distance, accuracy and diversity use the judge."
    (primary,) = spec.named({"nats": 0.0}, "val")
    return publish(job, card, tensors, history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def train_baseline(job: Job, flow: str, last: bool = True) -> Card:
    """Trains and publishes ``FLOW-mlp``, the regressor that sees the pairs of ``flow`` and its linear start."""
    spec = TRANSLATORS[flow]
    target, source, pairs, scored = _encode(job, spec)
    config = GridFlowConfig(target.config.channels, target.config.side, pairs.condition.shape[1:])
    regressor = GridRegressor(config, spec.width)
    regressor.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), spec.ridge)
    recipe = {"rate": 1e-3, "weight_decay": spec.weight_decay, "batch_size": 64, "noise": LATENT_NOISE}
    recipe |= {"pairs": len(pairs), "width": regressor.width}
    steps = job.profile.pick(*spec.baseline_steps)
    every = max(100, steps // 20)
    method = RegressorMethod(pairs, regressor, recipe["rate"], spec.weight_decay, scored["val"].pairs(source), every)
    history = job.run(f"{flow}-mlp", method, recipe["batch_size"], steps, last, log_every=every)
    averaged = history.averaged["regressor"].eval()

    def score(part: str) -> dict[str, float]:
        return spec.named(score_regressor(scored[part], averaged, source)[1], part)

    card = Card(f"{flow}-mlp", "grid regressor", config.to_dict(), recipe, data=data_hash(load_people()))
    card.metrics = score("val") | score("test")
    card.notes = f"Source: {spec.description}. Error: squared, of the latent, a picture."
    primary, higher = ("error", False) if spec.pooled else ("psnr", True)
    (primary,) = spec.named({primary: 0.0}, "val")
    return publish(job, card, averaged.state_dict(), history, primary, higher, bits=8, fine=FINE_WEIGHTS)


def train_layers(job: Job) -> Card:
    """A flow and its baseline from each of :data:`LAYERS`: one card with their scores, the networks stay behind."""
    place = replace(job, out=job.work / "layers", force=True)
    cards = {}
    for layer in LAYERS:
        for name, trainer in (("flow", train_translator), ("MLP", train_baseline)):
            cards[f"{layer}, {name}"] = trainer(place, f"layer-{layer}", False)
    flow, mlp = (cards[f"{LAYERS[0]}, {name}"] for name in ("flow", "MLP"))
    card = Card("layer-comparison", "comparison", {}, flow.recipe | {"steps of the MLP": mlp.steps}, data=flow.data)
    card.steps, card.seconds = flow.steps, sum(one.seconds for one in cards.values())
    card.seed, card.device = flow.seed, flow.device
    card.metrics = {f"{name}: {key}": value for name, one in cards.items() for key, value in one.metrics.items()}
    card.notes = "Source: layers of avatar-classifier. Steps: of the first flow; seconds: of all."
    save_weights({}, card, job.out)
    return card


# --- labels -----------------------------------------------------------------------------------------------------------


def train_labels(job: Job) -> Card:
    """The flow between labels of people (style, skin, hair, cut, glasses and mouth), published as ``people-labels``."""
    seed_everything(job.seed)
    data, device = load_people(), job.profile.device
    target, expert = load_expert("avatar-autoencoder", device), people_expert(data.classes)
    fresh = job.profile.pick(quick=0, cpu=2, gpu=20)
    sets = [data.part("train")] + ([fresh_people(fresh)] if fresh else [])
    pairs = Pairs.join([encode_labelled(one, target, expert, LATENT_NOISE) for one in sets])
    held = encode_labelled(data.part("val"), target, expert, LATENT_NOISE)
    held = replace(held, condition=expert.cross(held.condition))
    flow = label_flow(pairs, target, expert, job.seed, hidden_dim=64, blocks=8, embedding_dim=16)
    recipe = {"batch_size": 64, "pairs": len(pairs), "rate": 2e-3, "weight_decay": 0.02, "noise": LATENT_NOISE}
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    every = max(100, steps // 40)
    rates = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"], "held": held, "held_every": every}
    method = LabelMethod(pairs, flow, expert, **rates)
    options = {"log_every": every, "precision": "bf16-mixed"}
    history = job.run("people-labels", method, recipe["batch_size"], steps, last=True, **options)
    flow = history.averaged["flow"].eval()
    card = Card("people-labels", "grid flow", flow.config.to_dict(), recipe, data=data_hash(data))
    primary = "nats per picture on val"
    card.metrics = {primary: held_out_nats(flow, held)}
    classifier, judge, test = load_expert("avatar-classifier", device), Judge.load().to(device), data.part("test")
    paired = PairedPictures(test, judge, target.encode, most=150)
    alone = DomainTranslator(data.classes, flow, target, expert)
    for words, translator in (
        ("", DomainTranslator(data.classes, flow, target, expert, classifier)),
        (", style alone", alone),
        (", linear start", DomainTranslator(data.classes, LinearStart(flow), target, expert, classifier)),
    ):
        found = _translation_metrics(translator, paired)
        card.metrics |= {f"{key}{words} on test": value for key, value in found.items()}
    # One picture drawn for the labels of each.
    latent = flow.sample(
        alone.code({name: test.labels[name] for name in alone.classes}), 1.0, torch.Generator().manual_seed(0)
    )
    pictures = alone.decode(latent).cpu()
    for name in ATTRIBUTES:
        right = (judge.predict(pictures, name) == test.labels[name]).float().mean().item()
        card.metrics[f"{name} read in samples on test"] = right
    card.notes = (
        "Condition: labels and their products with the style. Attributes of a picture are read by avatar-classifier."
    )
    return publish(job, card, flow.state_dict(), history, primary, higher=False, bits=8, fine=FINE_WEIGHTS)


def _translation_metrics(translator: DomainTranslator, paired: PairedPictures) -> dict[str, float]:
    """Every picture into every other style."""
    device = next(translator.flow.parameters()).device

    def translate(pictures: Tensor, own: int, other: int) -> Tensor:
        domain = torch.full((len(pictures),), own, device=device)
        return translator.edit(pictures.to(device), domain, {translator.domain: torch.full_like(domain, other)})

    return paired.score_all(translate)


# --- sentences --------------------------------------------------------------------------------------------------------

_TEXT_NOTES = (
    "Sentences in wordings, and about combinations of attributes, that were never trained on; the judge reads."
)


def train_text_to_people(job: Job) -> Card:
    """The reading of sentences, which makes conditions of the flow ``people-labels``: fitted in closed form.

    Decided readings are labels, so that flow serves as it is. The card holds the scores of both together.
    """
    seed_everything(job.seed)
    data, device, started = load_people(), job.profile.device, time.perf_counter()
    memory, draws = SentenceMemory(device=device), torch.Generator().manual_seed(job.seed)
    # Sentences of each combination that name some attributes only, beside the six complete ones.
    partial = job.profile.pick(quick=1, cpu=6, gpu=6)
    people, _ = sentences.combinations_of(data.part("train"))
    made = [sentences.training_captions(values, partial, draws) for values in people]
    embeddings = memory.learn([text for texts, _ in made for text in texts])
    targets = sentences.belief_targets([one for _, named in made for one in named]).to(embeddings)
    expert, styles = people_expert(data.classes), data.classes["style"]
    source = sentences.CaptionSource.fit(memory, embeddings, targets, expert, styles)
    seconds = time.perf_counter() - started
    flow, target = load_flow("people-labels", device, job.out), load_expert("avatar-autoencoder", device)
    translator, judge = Translator(source, flow, target), Judge.load().to(device)

    def score(part: str) -> dict[str, float]:
        seeds = [score_text(translator, data.part(part), judge, job.seed + k) for k in range(3)]
        columns = {name: [one[name] for one in seeds] for name in seeds[0]}
        means = {name: sum(values) / 3 for name, values in columns.items()}
        return means | {f"{name}, least of three seeds": min(values) for name, values in columns.items()}

    recipe = {"captions": len(embeddings), "flow": "people-labels"}
    card = Card("text-to-people", "sentence reader", {}, recipe, data=data_hash(data), notes=_TEXT_NOTES)
    card.metrics = on_held_out(score)
    card.seconds, card.seed, card.device = round(seconds, 1), job.seed, device
    save_weights(source.tensors(), card, job.out)
    found = {key: round(value, 3) for key, value in card.metrics.items() if key.endswith("on test")}
    print("wrote text-to-people", found)
    return card


def score_text(translator: Translator, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Shares of pictures read as asked: four new sentences for every combination of ``data``, in a random style."""
    generator = torch.Generator().manual_seed(seed)
    made = [sentences.new_captions(values, 2, generator) for values in sentences.combinations_of(data)[0]]
    texts, named = ([one for part in made for one in part[k]] for k in (0, 1))
    styles = torch.randint(len(STYLES), (len(texts),), generator=generator).tolist()
    condition = translator.source.encode([(text, list(STYLES)[k]) for text, k in zip(texts, styles, strict=True)])
    pictures = translator.decode(translator.flow.sample(condition, 1.0, generator)).cpu()
    return {f"{name} read as asked": share for name, share in read_as_asked(pictures, named, judge).items()}


def _for_this_generator(job: Job, name: str, digest: str) -> Job:
    """A translator into an older generator is worth nothing, however well it scored: it gives way in any case.

    For the same reason the names of working folders carry the digest: a run must not resume one for another generator.
    """
    try:
        outdated = load_card(name, job.out).recipe.get("generator") != digest
    except CourseError:
        outdated = False
    return replace(job, force=job.force or outdated)


def _train_dequantiser(job: Job, target: gan_target.GanTarget, digest: str) -> nn.Module:
    recipe = {"spread": 0.3, "rate": 1e-3, "batch_size": 256, "generator": digest}
    network = gan_target.start_dequantiser(target.classes, recipe["spread"])
    method = gan_target.DequantiserMethod(target.classes.cpu(), network, recipe["spread"], recipe["rate"])
    # Trained much longer, the decoder learns the few points by heart and the neighbours shrink onto them (0.42 after
    # 1,000 steps, 0.05 after 240 s), so a time budget is not for it.
    alone, steps = replace(job, seconds=None, steps=None), job.profile.pick(quick=100, cpu=1000, gpu=1000)
    history = alone.run(f"dequantiser-{digest[:8]}", method, recipe["batch_size"], steps)
    frozen = freeze(history.averaged["dequantiser"])
    classes = target.classes.to(next(frozen.parameters()).device)
    many = classes.repeat(200, 1)
    found = frozen(many, torch.Generator().manual_seed(job.seed))
    label = torch.arange(len(classes), device=classes.device).repeat(200)
    card = Card("dequantiser", "dequantiser", vars(frozen.config), recipe, data=data_hash(load_kinds()))
    right = gan_target.nearest_class(found, classes) == label
    card.metrics = {
        "bound (nats)": history.curve["loss/dequantiser"][-1],
        "nearest embedding is the right class": right.float().mean().item(),
        "distance to the embedding": (found - many).norm(dim=1).mean().item(),
    }
    publish(job, card, frozen.state_dict(), history, "bound (nats)", higher=False, bits=8)
    return frozen


def train_text_to_biggan(job: Job) -> Card:
    """Sentences → noise and class embedding of ``avatar-biggan``; also publishes the ``dequantiser`` that it needs."""
    seed_everything(job.seed)
    device, generator = job.profile.device, load_card("avatar-biggan")
    digest, kinds = generator.sha256, load_kinds().classes["kind"]
    target = gan_target.GanTarget.load("avatar-biggan", device)
    dequantiser = _train_dequantiser(_for_this_generator(job, "dequantiser", digest), target, digest)
    known = generator.recipe["classes"]
    stage = sentences.CaptionStage(load_expert("avatar-classifier", device), kinds, known)
    recipe: dict[str, Any] = {"batch_size": 256, "rate": 2e-3, "weight_decay": 0.05, "generator": digest}
    recipe["pairs"] = job.profile.pick(quick=2500, cpu=12000, gpu=200000)
    # Each style of people three times as often as another kind: there is more to say about them.
    weights = torch.tensor([3.0 if name in STYLES else 1.0 for name in known])
    pairs, _ = gan_target.generate_pairs(target, stage, recipe["pairs"] + 500, weights, job.seed)
    draws, memory = torch.Generator().manual_seed(job.seed), SentenceMemory(device=device)
    made = [[stage.caption(thing, draws) for _ in range(8)] for thing in pairs.things]
    texts = [text for several in made for text, _ in several]
    targets = stage.beliefs([named for several in made for _, named in several])
    embeddings = memory.learn(texts)
    source = sentences.CaptionSource.fit(memory, embeddings, targets.to(embeddings), stage.labels)
    table = source.read(texts).view(len(made), 8, -1)
    held, pairs = pairs.subset(torch.arange(500)), pairs.subset(torch.arange(500, len(pairs)))
    sizes = {"embedding_dim": 48, "hidden_dim": 64, "hidden_depth": 1, "embedder_depth": 0, "condition_shift": True}
    config = FlowConfig(target.latent_dim, source.condition_shape, blocks=8, **sizes)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    rates = {"rate": recipe["rate"], "weight_decay": recipe["weight_decay"]}
    method = gan_target.GanMethod(pairs, target, dequantiser, table, source, flow, held=held, **rates)
    flow.fit_shift(method.pairs.mean.cpu(), method.pairs.condition.cpu(), ridge=1e-2)
    steps = job.profile.pick(quick=50, cpu=8000, gpu=20000)
    history = job.run(f"text-to-biggan-{digest[:8]}", method, recipe["batch_size"], steps, last=True)
    flow, judge = history.averaged["flow"].eval(), Judge.load().to(device)
    translator, primary = Translator(source, flow, target), "nats per picture on held-out pairs"
    card = Card("text-to-biggan", "text flow", flow.config.to_dict(), recipe, data=data_hash(load_kinds()))
    card.metrics = {primary: held_out_nats(flow, method.held)}
    card.metrics |= on_held_out(lambda part: score_biggan(translator, load_people().part(part), stage, judge))
    card.notes, fine = _TEXT_NOTES, tuple(f"flow.{weight}" for weight in FINE_WEIGHTS)
    job = _for_this_generator(job, "text-to-biggan", digest)
    return publish(job, card, text_tensors(flow, source), history, primary, higher=False, bits=8, fine=fine)


def score_biggan(
    translator: Translator, data: ImageSet, stage: sentences.CaptionStage, judge: Judge, seed: int = 0
) -> dict[str, float]:
    """Shares read as asked: a complete new sentence a combination of ``data``, ten times a kind's new phrase."""
    draws = torch.Generator().manual_seed(seed)
    styles = list(STYLES)
    asked = [values | {"kind": styles[k % 6]} for k, values in enumerate(sentences.combinations_of(data)[0])]
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
