"""Training of the flows between labels and people (notebook 05), and of those that draw what a sentence says (04)."""

import time
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor, nn

from ..cinn.flow import ConditionalFlow, FlowConfig
from ..cinn.layers import FINE_WEIGHTS
from ..data.avatars import fresh_people, load_kinds, load_people
from ..data.image_set import ImageSet
from ..data.people import ATTRIBUTES, STYLES
from ..errors import CourseError
from ..evaluation.domain_scores import PairedPictures
from ..evaluation.scores import Judge, LinearProbe, balanced_accuracy
from ..experts.conditions import SentenceExpert
from ..experts.protocol import freeze, load_expert
from ..training.runs import Card, load_card, save_weights
from ..translation import text as sentences
from ..translation.domains import DomainTranslator, LabelMethod, LinearStart, encode_labelled, label_flow, people_expert
from ..translation.shipped import load_flow, text_tensors
from ..translation.translator import LATENT_NOISE, Pairs, Translator, held_out_nats, read_as_asked, residuals
from .recipe import Job, data_hash, on_held_out, publish


def train_labels(job: Job) -> Card:
    """The flow between labels of people (style, skin, hair, cut, glasses and mouth), published as ``people-labels``."""
    data, device = load_people(), job.profile.device
    target, expert = load_expert("avatar-autoencoder", device), people_expert(data.classes)
    fresh = job.profile.pick(quick=0, cpu=2, gpu=20)
    sets = [data.part("train")] + ([fresh_people(fresh)] if fresh else [])
    pairs = Pairs.join([encode_labelled(one, target, expert, LATENT_NOISE) for one in sets])
    held = encode_labelled(data.part("val"), target, expert, LATENT_NOISE)
    held = replace(held, condition=expert.cross(held.condition))
    flow = label_flow(pairs, target, expert, job.seed, hidden_dim=64, blocks=8, embedding_dim=16)
    recipe = {"batch_size": 64, "pairs": len(pairs), "rate": 5e-3, "weight_decay": 0.02, "noise": LATENT_NOISE}
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    every = max(100, steps // 40)
    method = LabelMethod(pairs, flow, expert, recipe["rate"], recipe["weight_decay"], held)
    method.held_every = every
    options = {"log_every": every, "precision": "bf16-mixed"}
    history = job.run("people-labels", method, recipe["batch_size"], steps, last=True, **options)
    flow = history.averaged["flow"].eval()
    method.fit_residual_shift(flow)
    card = Card("people-labels", "grid flow", flow.config.to_dict(), recipe, data=data_hash(data))
    primary = "nats per picture on val"
    card.metrics = {primary: held_out_nats(flow, held)}
    classifier, judge, test = load_expert("avatar-classifier", device), Judge.load().to(device), data.part("test")
    paired = PairedPictures(test, judge, target.encode, most=150)
    alone = DomainTranslator(data.classes, flow, target, expert)
    translators = {"": DomainTranslator(data.classes, flow, target, expert, classifier), ", style alone": alone}
    translators[", linear start"] = DomainTranslator(data.classes, LinearStart(flow), target, expert, classifier)
    for words, translator in translators.items():

        def translate(pictures: Tensor, own: int, other: int, translator: DomainTranslator = translator) -> Tensor:
            domain = torch.full((len(pictures),), own, device=device)
            return translator.edit(pictures.to(device), domain, {translator.domain: torch.full_like(domain, other)})

        card.metrics |= {f"{key}{words} on test": value for key, value in paired.score_all(translate).items()}
    # One picture drawn for the labels of each.
    code = alone.code({name: test.labels[name] for name in alone.classes})
    pictures = alone.decode(flow.sample(code, 1.0, torch.Generator().manual_seed(0))).cpu()
    for name in ATTRIBUTES:
        right = (judge.predict(pictures, name) == test.labels[name]).float().mean().item()
        card.metrics[f"{name} read in samples on test"] = right
    # Does a linear probe read a label off v? Fitted on all that was trained on.
    both = pairs, encode_labelled(test, target, expert, LATENT_NOISE)
    v = [residuals(flow, replace(one, condition=expert.cross(one.condition))).cpu() for one in both]
    for name, part in expert.slices.items():
        labels = [one.condition[:, part].argmax(1).cpu() for one in both]
        read = LinearProbe(v[0], labels[0]).predict(v[1])
        card.metrics[f"{name} read from v on test"] = balanced_accuracy(read, labels[1])
    read = "Read from v by a linear probe: balanced accuracy."
    card.notes = f"Condition: labels and their products with the style. {read}"
    return publish(job, card, flow.state_dict(), history, primary, fine=FINE_WEIGHTS)


_TEXT_NOTES = "Sentences in wordings, and about combinations of attributes, never trained on; the judge reads."


def train_text_to_people(job: Job) -> Card:
    """The reading of sentences, fitted in closed form; scored together with ``people-labels``, which draws readings."""
    data, device, started = load_people(), job.profile.device, time.perf_counter()
    memory, draws = SentenceExpert(device=device), torch.Generator().manual_seed(job.seed)
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
        means = {name: fmean(one[name] for one in seeds) for name in seeds[0]}
        return means | {f"{name}, least of three seeds": min(one[name] for one in seeds) for name in means}

    recipe = {"captions": len(embeddings), "flow": "people-labels"}
    card = Card("text-to-people", "sentence reader", {}, recipe, 0, round(seconds, 1), device, job.seed)
    card.data, card.metrics, card.notes = data_hash(data), on_held_out(score), _TEXT_NOTES
    save_weights(source.tensors(), card, job.out)
    found = {key: round(value, 3) for key, value in card.metrics.items() if key.endswith("on test")}
    print("wrote text-to-people", found)
    return card


def score_text(translator: Translator, data: ImageSet, judge: Judge, seed: int) -> dict[str, float]:
    """Shares of pictures read as asked: four new sentences for every combination of ``data``, in a random style."""
    generator = torch.Generator().manual_seed(seed)
    made = [sentences.new_captions(values, 2, generator) for values in sentences.combinations_of(data)[0]]
    texts, named = ([one for part in made for one in part[k]] for k in (0, 1))
    styles = torch.randint(len(STYLES), (len(texts),), generator=generator).tolist()
    condition = translator.source.encode([(text, list(STYLES)[k]) for text, k in zip(texts, styles, strict=True)])
    pictures = translator.decode(translator.flow.sample(condition, 1.0, generator)).cpu()
    return {f"{name} read as asked": share for name, share in read_as_asked(pictures, named, judge).items()}


def _for_this_generator(job: Job, name: str, digest: str) -> Job:
    """A translator into an older generator gives way in any case; names of working folders carry the digest, too."""
    try:
        outdated = load_card(name, job.out).recipe.get("generator") != digest
    except CourseError:
        outdated = False
    return replace(job, force=job.force or outdated)


def _train_dequantiser(job: Job, target: sentences.GanTarget, digest: str) -> nn.Module:
    recipe = {"spread": 0.3, "rate": 1e-3, "batch_size": 256, "generator": digest}
    network = sentences.start_dequantiser(target.classes, recipe["spread"])
    method = sentences.DequantiserMethod(target.classes.cpu(), network, recipe["spread"], recipe["rate"])
    # Trained longer, the decoder learns the few points by heart and the neighbours shrink onto them: no time budget.
    alone, steps = replace(job, seconds=None, steps=None), job.profile.pick(quick=100, cpu=1000, gpu=1000)
    history = alone.run(f"dequantiser-{digest[:8]}", method, recipe["batch_size"], steps)
    frozen = freeze(history.averaged["dequantiser"])
    classes = target.classes.to(next(frozen.parameters()).device)
    many = classes.repeat(200, 1)
    found = frozen(many, torch.Generator().manual_seed(job.seed))
    right = sentences.nearest_class(found, classes).cpu() == torch.arange(len(classes)).repeat(200)
    card = Card("dequantiser", "dequantiser", vars(frozen.config), recipe, data=data_hash(load_kinds()))
    card.metrics = {"bound (nats)": history.curve["loss/dequantiser"][-1]}
    card.metrics["nearest embedding is the right class"] = right.float().mean().item()
    card.metrics["distance to the embedding"] = (found - many).norm(dim=1).mean().item()
    publish(job, card, frozen.state_dict(), history, "bound (nats)")
    return frozen


def _captions_of(stage: sentences.CaptionStage, kind: str, count: int, draws: torch.Generator) -> list[tuple]:
    """``count`` captions of things of one kind, people with random attributes, and what each names."""
    known = {name: list(values) for name, values in ATTRIBUTES.items()} if kind in STYLES else {}
    picked = [{k: v[int(torch.randint(len(v), (), generator=draws))] for k, v in known.items()} for _ in range(count)]
    return [stage.caption({"kind": kind} | one, draws) for one in picked]


def train_text_to_biggan(job: Job) -> Card:
    """Sentences → noise and class embedding of ``avatar-biggan``; also publishes the ``dequantiser`` that it needs."""
    device, generator = job.profile.device, load_card("avatar-biggan")
    digest, kinds = generator.sha256, load_kinds().classes["kind"]
    target = sentences.GanTarget.load("avatar-biggan", device)
    dequantiser = _train_dequantiser(_for_this_generator(job, "dequantiser", digest), target, digest)
    known = generator.recipe["classes"]
    stage = sentences.CaptionStage(load_expert("avatar-classifier", device), kinds, known)
    recipe = {"batch_size": 256, "rate": 4e-3, "weight_decay": 0.05, "generator": digest}
    recipe["pairs"] = job.profile.pick(quick=2500, cpu=40000, gpu=200000)
    # Each style of people three times as often as another kind: there is more to say about them.
    weights = torch.tensor([3.0 if name in STYLES else 1.0 for name in known])
    pairs, _ = sentences.generate_pairs(target, stage, recipe["pairs"] + 500, weights, job.seed)
    draws, memory = torch.Generator().manual_seed(job.seed), SentenceExpert(device=device)
    # The map reads sentences, as many of each kind; the flow learns from what captions name, without their words.
    each = job.profile.pick(quick=60, cpu=300, gpu=300)
    made = [one for name in known for one in _captions_of(stage, name, each, draws)]
    texts, named = zip(*made, strict=True)
    embeddings = memory.learn(texts)
    targets = stage.beliefs(named).to(embeddings)
    source = sentences.CaptionSource.fit(memory, embeddings, targets, stage.labels, (), "kind", ridge=3e-2)
    named = [stage.caption(thing, draws)[1] for thing in pairs.things for _ in range(8)]
    table = stage.beliefs(named).view(len(pairs.things), 8, -1).to(device)
    held, pairs = pairs.subset(torch.arange(500)), pairs.subset(torch.arange(500, len(pairs)))
    sizes = {"embedding_dim": 64, "hidden_dim": 128, "hidden_depth": 1, "embedder_depth": 0, "condition_shift": True}
    config = FlowConfig(target.latent_dim, source.condition_shape, blocks=8, **sizes)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    options = {"held": held, "rate": recipe["rate"], "weight_decay": recipe["weight_decay"]}
    method = sentences.GanMethod(pairs, target, dequantiser, table, source, flow, **options)
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
    return publish(job, card, text_tensors(flow, source), history, primary, fine=fine)


def score_biggan(
    translator: Translator, data: ImageSet, stage: sentences.CaptionStage, judge: Judge
) -> dict[str, float]:
    """Shares read as asked: a complete new sentence a combination of ``data``, ten times a kind's new phrase."""
    draws, styles = torch.Generator().manual_seed(0), list(STYLES)
    asked = [values | {"kind": styles[k % 6]} for k, values in enumerate(sentences.combinations_of(data)[0])]
    texts, named = map(list, zip(*(stage.caption(one, draws, new=True) for one in asked), strict=True))
    things = [name for name in stage.known if name not in STYLES] * 10
    texts += [stage.caption({"kind": name}, draws, new=True)[0] for name in things]
    pictures = translator.decode(translator.flow.sample(translator.source.encode(texts), 1.0, draws)).cpu()
    named = [{name: value for name, value in one.items() if name != "kind"} for one in named]
    people, others = pictures[: len(named)], pictures[len(named) :]
    scores = {f"{name} read as asked": share for name, share in read_as_asked(people, named, judge).items()}
    for what, drawn, wanted in (("kind", others, things), ("style of people", people, [one["kind"] for one in asked])):
        seen = [stage.kinds[k] for k in judge.predict(drawn, "kind").tolist()]
        scores[f"{what} read as asked"] = fmean(a == b for a, b in zip(seen, wanted, strict=True))
    return scores
