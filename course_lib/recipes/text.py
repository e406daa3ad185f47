"""Training of the text translators: captions to the autoencoder, and to the class-conditional BigGAN."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cinn import FINE_WEIGHTS, ConditionalFlow, FlowConfig
from ..data import ImageSet, load_emoji
from ..errors import CourseError
from ..evaluation import Judge
from ..evaluation.retrieval import Gallery
from ..experts import SentenceMemory, load_expert
from ..profiles import seed_everything
from ..training import Card, load_card
from ..training.loop import History
from ..translation import Translator, encode_pairs, held_out_nats
from ..translation.caption_stage import CaptionStage
from ..translation.dequantise import DequantiserMethod, nearest_class, start_dequantiser
from ..translation.gan_target import GanMethod, GanTarget, generate_pairs
from ..translation.text import CaptionMethod, CaptionSource, CaptionTable, first_pictures, held_out, with_subgroups
from ..translation.text_scores import score_captions
from ..translation.text_shipped import KIND, text_tensors
from .recipe import Job, data_hash, publish

__all__ = ["train_text_to_autoencoder", "train_text_to_biggan"]

_NOTES = "Judge's verdict, one sample for every caption of every emoji; R-precision among 99 emoji of other bases."
_DIRECTIONS = {"components": 96, "discriminants": 48}
_LINEAR_START = {"embedder_depth": 0, "condition_shift": True}


@dataclass(frozen=True)
class _Captions:
    """The training part's emoji: their captions as conditions, and how many relatives each has."""

    data: ImageSet
    source: CaptionSource
    table: CaptionTable
    relatives: Tensor
    owner: Tensor

    @classmethod
    def load(cls, job: Job) -> "_Captions":
        data = load_emoji()
        memory = SentenceMemory(device=job.profile.device)
        memory.learn([caption for i in first_pictures(data).tolist() for caption in data.captions[i]])
        train = data.part("train")
        first = first_pictures(train)
        captions = [train.captions[i] for i in first.tolist()]
        embeddings = memory.encode([caption for names in captions for caption in names])
        subgroup = train.labels["subgroup"][first].repeat_interleave(torch.tensor([len(names) for names in captions]))
        source = CaptionSource.fit(memory, embeddings, **_DIRECTIONS, labels=subgroup.to(embeddings.device))
        base = train.labels["base"][first]
        owner = train.labels["emoji"].unique(return_inverse=True)[1]
        return cls(data, source, CaptionTable.of(captions, source), base.bincount()[base], owner)


def _metrics(translator: Translator, galleries: dict[str, Gallery], judge: Judge, seed: int) -> dict[str, float]:
    metrics = {}
    for part, gallery in galleries.items():
        scores = score_captions(translator, gallery, judge, seed=seed)
        names = {
            "accuracy": "subgroup accuracy",
            "balanced": "balanced subgroup accuracy",
            "r_precision": "R-precision",
        }
        metrics |= {f"{names[name]} on {part}": value for name, value in vars(scores).items() if name in names}
    return metrics


def _publish(job: Job, name: str, flow: ConditionalFlow, captions: _Captions, history: History, **card: dict) -> Card:
    made = Card(name, KIND, flow.config.to_dict(), data=data_hash(captions.data), notes=_NOTES, **card)
    primary = "balanced subgroup accuracy on val"
    return publish(
        job, made, text_tensors(flow, captions.source), history, primary, higher=True, bits=8, fine=FINE_WEIGHTS
    )


def train_text_to_autoencoder(job: Job) -> Card:
    """Captions → autoencoder64. Selected by what the judge sees on val, not by likelihood; notebook 04 says why."""
    seed_everything(job.seed)
    recipe = _DIRECTIONS | {"noise": 0.2, "batch_size": 256, "rate": 2e-3, "weight_decay": 0.05}
    captions, device = _Captions.load(job), job.profile.device
    target, judge = load_expert("autoencoder64", device), Judge.load().to(device)
    parts = {part: captions.data.part(part) for part in ("train", "val", "test")}
    latents = {
        part: encode_pairs(data, lambda x: x.new_zeros(len(x), 1), target, 2 if part == "train" else 1)
        for part, data in parts.items()
    }
    held = {part: held_out(parts[part], latents[part], captions.source) for part in ("val", "test")}
    sizes = {"embedding_dim": 48, "hidden_dim": 120, "hidden_depth": 1} | _LINEAR_START
    config = FlowConfig.quick(target.latent_dim, captions.source.condition_shape, **sizes)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    owner = captions.owner.repeat(2)  # pictures and their mirror images
    names = captions.table.condition[owner, 0]
    flow.shift.fit(latents["train"].mean.cpu(), names.cpu(), ridge=1.0)
    method = CaptionMethod(
        latents["train"],
        owner,
        captions.table,
        captions.relatives,
        flow,
        recipe["noise"],
        recipe["rate"],
        recipe["weight_decay"],
        held["val"],
    )
    steps = job.profile.pick(quick=50, cpu=6000, gpu=6000)
    history = job.run("text-to-autoencoder", method, recipe["batch_size"], steps)
    averaged = history.averaged["flow"].eval()
    metrics = {f"nats per picture on {part}": held_out_nats(averaged, pairs) for part, pairs in held.items()}
    galleries = {part: Gallery.of(parts[part], judge) for part in ("val", "test")}
    metrics |= _metrics(Translator(captions.source, averaged, target), galleries, judge, job.seed)
    return _publish(job, "text-to-autoencoder", averaged, captions, history, recipe=recipe, metrics=metrics)


def _for_this_generator(job: Job, name: str, digest: str) -> Job:
    """A translator into an older generator is worth nothing, however well it scored: it gives way in any case.

    For the same reason the names of working folders carry the digest: a run must not resume one for another generator.
    """
    try:
        outdated = load_card(name, job.out).recipe.get("generator") != digest
    except CourseError:
        outdated = False
    return replace(job, force=job.force or outdated)


def _train_dequantiser(job: Job, target: GanTarget, digest: str) -> tuple[Card, torch.nn.Module]:
    recipe = {"spread": 0.3, "rate": 1e-3, "batch_size": 256, "generator": digest}
    network = start_dequantiser(target.classes, recipe["spread"])
    method = DequantiserMethod(target.classes.cpu(), network, recipe["spread"], recipe["rate"])
    history = job.run(
        f"dequantiser-{digest[:8]}", method, recipe["batch_size"], job.profile.pick(quick=100, cpu=1000, gpu=20000)
    )
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
    card = Card(
        "dequantiser", "dequantiser", vars(frozen.config), recipe, data=data_hash(load_emoji()), metrics=metrics
    )
    publish(job, card, frozen.state_dict(), history, "bound (nats)", higher=False, bits=8)
    return card, frozen


def train_text_to_biggan(job: Job) -> Card:
    """Captions → noise and class embedding of ``biggan32``; also publishes the ``dequantiser`` that it needs."""
    seed_everything(job.seed)
    device, generator = job.profile.device, load_card("biggan32")
    digest = generator.sha256
    recipe = _DIRECTIONS | {"noise": 0.2, "batch_size": 256, "rate": 2e-3, "weight_decay": 0.05}
    recipe |= {"pairs": job.profile.pick(quick=500, cpu=15000, gpu=200000), "generator": digest}
    captions, target = _Captions.load(job), GanTarget(load_expert("biggan32", device))
    _, dequantiser = _train_dequantiser(_for_this_generator(job, "dequantiser", digest), target, digest)
    train = captions.data.part("train")
    stage = CaptionStage(load_expert("classifier", device), train, target.size)
    known = captions.data.classes["subgroup"]
    counts = train.labels["subgroup"].bincount(minlength=len(known))
    # As the generator was trained: chance ∝ √(pictures).
    subgroups = torch.tensor([known.index(name) for name in generator.recipe["classes"]])
    pairs, _ = generate_pairs(
        target, stage, recipe["pairs"] + 500, counts[subgroups].float().sqrt(), job.seed, subgroups
    )
    held, pairs = pairs.subset(torch.arange(500)), pairs.subset(torch.arange(500, len(pairs)))
    sizes = {"embedding_dim": 48, "hidden_dim": 72, "hidden_depth": 1} | _LINEAR_START
    config = FlowConfig.quick(target.latent_dim, captions.source.condition_shape, blocks=6, **sizes)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(job.seed))
    method = GanMethod(
        pairs, target, dequantiser, captions.table, flow, recipe["noise"], recipe["rate"], recipe["weight_decay"], held
    )
    flow.shift.fit(method.pairs.mean.cpu(), captions.table.condition[pairs.thing, 0].cpu(), ridge=1.0)
    steps = job.profile.pick(quick=50, cpu=4000, gpu=10000)
    history = job.run(f"text-to-biggan-{digest[:8]}", method, recipe["batch_size"], steps)
    averaged, judge = history.averaged["flow"].eval(), Judge.load().to(device)
    galleries = {
        part: Gallery.of(with_subgroups(captions.data.part(part), generator.recipe["classes"]), judge, target.size)
        for part in ("val", "test")
    }
    metrics = _metrics(Translator(captions.source, averaged, target), galleries, judge, job.seed)
    job = _for_this_generator(job, "text-to-biggan", digest)
    return _publish(job, "text-to-biggan", averaged, captions, history, recipe=recipe, metrics=metrics)
