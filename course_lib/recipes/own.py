"""Recipes on another data set: ``course train NAME -p dataset=folder:PATH -p size=128``. Results lie in ``runs/own``,
unless ``out=`` says otherwise, under the names of the shipped checkpoints."""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.image_set import ImageSet, grey, grey_square
from ..data.published import check_dataset, check_size, own_pictures
from ..errors import CourseError
from ..experts.conditions import LabelExpert, SentenceExpert
from ..experts.networks import ClassifierConfig, GridAutoencoder, GridAutoencoderConfig, GridExpert
from ..experts.protocol import SourceExpert, load_expert
from ..profiles import CHECKPOINTS
from ..training.runs import Card, History, load_card
from ..translation import translator as net2net
from ..translation.domains import DomainTranslator, LabelMethod, encode_labelled, label_flow, reconstruction_psnr
from ..translation.shipped import load_flow
from ..translation.translator import LATENT_NOISE, FlowMethod, Pairs, Translator, encode_pairs
from .experts import AutoencoderMethod, ClassifierMethod, accuracy, measured, shifted, with_mean
from .recipe import Job, on_held_out, publish
from .translators import TRANSLATORS

_AUTOENCODER = "avatar-autoencoder"
_SCORED = 300  # most pictures of a part that scores are computed on


def own_job(job: Job) -> Job:
    """The job with folders that belong to its data set and size; ``out=`` is never that of the shipped checkpoints."""
    if job.out != CHECKPOINTS and job.out.resolve() == CHECKPOINTS.resolve():
        raise CourseError("out= is the folder of the shipped checkpoints, which dataset= never replaces: leave it.")
    if job.out != CHECKPOINTS:
        return replace(job, work=job.work / "own")
    # Two folders may be called alike: their paths tell them apart.
    kind, _, path = job.dataset.partition(":")
    where = str(Path(path).expanduser().resolve()) if path else ""
    words = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{Path(where).name}".lower()).strip("-")
    mark = hashlib.sha256(where.encode()).hexdigest()[:6]
    home = job.work.parent / "own" / f"{words}-{mark}-{job.size}"
    return replace(job, out=home, work=home / "work")


def own_source(name: str, target: GridAutoencoder) -> SourceExpert:
    """Source expert of a translator: few pixels (an eighth or a quarter of the side), or a changed picture's latent."""
    if name.startswith("superresolution-"):
        return net2net.LowResolution(int(name.rpartition("-")[2]) * target.config.size // 64)
    return net2net.TransformedExpert(GridExpert(target), {"colourisation": grey, "inpainting": grey_square}[name])


def _labels_of(data: ImageSet) -> dict[str, list[str]]:
    """Labels that tell pictures apart, the domain or class first: those with two values or more, each once."""
    found: dict[str, list[str]] = {}
    for name in sorted(data.classes, key=lambda one: one != "domain"):
        twice = any(torch.equal(data.labels[name], data.labels[other]) for other in found)
        if len(data.classes[name]) > 1 and not twice:
            found[name] = data.classes[name]
    if not found:
        raise CourseError(f"{data.name!r} has one class only: put the pictures into one folder a class.")
    return found


def _parts(data: ImageSet) -> dict[str, ImageSet]:
    """All of the training part, evenly spaced pictures of the others."""
    parts = {name: data.part(name) for name in ("train", "val", "test")}
    for name in ("val", "test"):
        count = len(parts[name])
        parts[name] = parts[name].subset(torch.linspace(0, count - 1, min(count, _SCORED)).long())
    return parts


def _publish_own(
    job: Job, card: Card, network: nn.Module, history: History, data: ImageSet, primary: str, higher: bool = False
) -> Card:
    card.data = {"name": job.dataset.partition(":")[0] + f":{data.name}", "sha256": data.content_hash()}
    card.notes = f"Trained on {data.name} at {job.size} pixels, not on the course's pictures."
    card = publish(job, card, network.state_dict(), history, primary, higher, bits=16)
    print(f"its folder: {job.out}")
    return card


class _OwnAutoencoderMethod(AutoencoderMethod):
    """From the shipped weights, for pictures of another side: cells of 8 pixels stay, so their number grows. Margins
    repeat the edge, since photographs have no white ground; half are mirrored."""

    def __init__(self, data: ImageSet, size: int):
        shipped = GridAutoencoderConfig(**load_card(_AUTOENCODER).config)
        super().__init__(data, replace(shipped, size=size, centre=(), scale=()))
        net = self.modules["autoencoder"]
        net.load_state_dict(net.state_dict() | load_expert(_AUTOENCODER).state_dict())
        nn.init.constant_(net.log_scale, math.log(0.1))

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        images = self.data.batch(index, flip=torch.rand(len(index), generator=generator) < 0.5)
        return shifted(images, generator, 2, "replicate")


def _train_own_autoencoder(job: Job, name: str, data: ImageSet) -> Card:
    parts = _parts(data)
    method = _OwnAutoencoderMethod(parts["train"], job.size)
    start = reconstruction_psnr(method.modules["autoencoder"].eval(), parts["val"])
    steps = job.profile.pick(quick=60, cpu=6000, gpu=60000)
    history = job.run(name, method, 16, steps, last=True, precision="bf16-mixed")
    net = measured(history.averaged["autoencoder"], [parts["train"]]).to(job.profile.device)
    card = Card(name, "grid autoencoder", vars(net.config), {"batch_size": 16, "start": "the shipped one"})
    card.metrics = on_held_out(lambda part: {"PSNR (dB)": reconstruction_psnr(net, parts[part])})
    card.metrics["PSNR (dB) of the start on val"] = start
    return _publish_own(job, card, net, history, data, "PSNR (dB) on val", higher=True)


def _train_own_classifier(job: Job, name: str, data: ImageSet) -> Card:
    classes = _labels_of(data)
    config = ClassifierConfig({label: len(values) for label, values in classes.items()}, 24)
    method = ClassifierMethod(data.part("train"), config, mirrored=True)
    history = job.run(name, method, 64, job.profile.pick(quick=60, cpu=2500, gpu=20000), True, precision="bf16-mixed")
    net = history.averaged["classifier"].eval()
    card = Card(name, "classifier", vars(config), {"batch_size": 64, "classes": classes})
    card.metrics = on_held_out(lambda part: with_mean(accuracy(net, data.part(part))))
    return _publish_own(job, card, net, history, data, "mean accuracy on val", higher=True)


def _own_autoencoder(job: Job) -> GridAutoencoder:
    """Trained on the same data before."""
    try:
        return load_expert(_AUTOENCODER, job.profile.device, job.out)
    except CourseError as error:
        if (job.out / f"{_AUTOENCODER}.safetensors").exists():
            raise
        size = f" -p size={job.size}" if job.size != 64 else ""
        first = f"first run `course train {_AUTOENCODER} -p dataset={job.dataset}{size}`"
        raise CourseError(f"a translator needs the autoencoder of its pictures: {first}.") from error


def _fit(job: Job, card: Card, data: ImageSet, method: FlowMethod, steps: int, pairs: dict[str, Pairs]) -> Card:
    """Trains the flow of ``method``, scores its translator, and publishes the flow."""
    every, primary = max(100, steps // 40), "nats per picture"
    method.held, method.held_every = pairs["val"], every
    history = job.run(card.name, method, 64, steps, last=True, log_every=every, precision="bf16-mixed")
    flow = history.averaged["flow"].eval()
    if "classes" in card.recipe:  # labels; maps have too many numbers for the fit
        method.fit_residual_shift(flow)
    translator = _translator(card, flow, _own_autoencoder(job), job.profile.device)

    def score(part: str) -> dict[str, float]:
        held, pictures = pairs[part], _parts(data)[part]
        real = pictures.batch(torch.arange(len(pictures))).to(held.mean.device)
        latents = (flow.sample(held.condition, 1.0, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        one, other = (translator.decode(latent) for latent in latents)
        found = {primary: net2net.held_out_nats(flow, held)}
        found["PSNR (dB)"] = (10 * (4.0 / (one - real).square().mean().clamp_min(1e-10)).log10()).item()
        found["spread of two answers"] = (one - other).square().mean().sqrt().item()
        if card.name in TRANSLATORS:  # their sources look at pictures
            again = translator.source.encode(one)
            found["consistency"] = net2net.explained(held.condition.flatten(1), again.flatten(1))
        return found

    card.config, card.metrics = flow.config.to_dict(), on_held_out(score)
    card.recipe |= {"batch_size": 64, "noise": LATENT_NOISE}
    return _publish_own(job, card, flow, history, data, f"{primary} on val")


def _train_own_translator(job: Job, name: str, data: ImageSet) -> Card:
    spec, target = TRANSLATORS[name], _own_autoencoder(job)
    source = own_source(name, target)
    pairs = {part: encode_pairs(one, source.encode, target, LATENT_NOISE) for part, one in _parts(data).items()}
    flow = net2net.choice_flow(pairs["train"], target, job.seed, spec.ridge, **spec.sizes)
    method = FlowMethod(pairs["train"], flow, spec.rate, spec.weight_decay)
    return _fit(job, Card(name, "grid flow", {}), data, method, job.profile.pick(*spec.steps), pairs)


def _train_own_labels(job: Job, name: str, data: ImageSet) -> Card:
    """Unpaired translation: the first label is the domain."""
    classes, target = _labels_of(data), _own_autoencoder(job)
    expert = LabelExpert({label: len(values) for label, values in classes.items()})
    pairs = {part: encode_labelled(one, target, expert, LATENT_NOISE) for part, one in _parts(data).items()}
    flow = label_flow(pairs["train"], target, expert, job.seed, hidden_dim=64, blocks=8, embedding_dim=16)
    method, steps = LabelMethod(pairs["train"], flow, expert, 2e-3, 0.02), job.profile.pick(60, 16000, 80000)
    return _fit(job, Card(name, "grid flow", {}, {"classes": classes}), data, method, steps, pairs)


def _train_own_text(job: Job, name: str, data: ImageSet) -> Card:
    """Captions to pictures: the condition is the embedding of one caption a picture, drawn once."""
    if not data.captions:
        raise CourseError(f"{data.name!r} has no captions: take coco:PATH, or another recipe.")
    target, memory = _own_autoencoder(job), SentenceExpert(device=job.profile.device)
    draws = torch.Generator().manual_seed(job.seed)
    texts = [several[int(torch.randint(len(several), (), generator=draws))] for several in data.captions]
    memory.learn(texts)
    pairs = {}
    for part, one in _parts(replace(data, captions=[[text] for text in texts])).items():
        encoded = encode_pairs(one, lambda images: images.new_zeros(len(images), 1), target, LATENT_NOISE)
        condition = memory.encode([text for (text,) in one.captions])
        pairs[part] = replace(encoded, condition=condition.to(encoded.mean))
    flow = net2net.choice_flow(pairs["train"], target, job.seed, 1e-2, hidden_dim=64, blocks=8, embedding_dim=48)
    method, steps = FlowMethod(pairs["train"], flow, 2e-3, 0.05), job.profile.pick(60, 16000, 80000)
    return _fit(job, Card(name, "grid flow", {}), data, method, steps, pairs)


def _translator(card: Card, flow: nn.Module, target: GridAutoencoder, device: str) -> Translator:
    """Around the flow that the card is about."""
    if classes := card.recipe.get("classes"):
        expert = LabelExpert({label: len(values) for label, values in classes.items()})
        return DomainTranslator(classes, flow, target, expert)
    source = SentenceExpert(device=device) if card.name == "text-to-people" else own_source(card.name, target)
    return Translator(source, flow, target)


def load_own_translator(name: str, folder: Path, device: str = "cpu") -> Translator:
    """What the recipe ``name`` trained on another set, with the autoencoder beside it in the ``folder`` it printed."""
    target, flow = load_expert(_AUTOENCODER, device, folder), load_flow(name, device, folder)
    return _translator(load_card(name, folder), flow, target, device)


OWN_RECIPES: dict[str, Callable[[Job, str, ImageSet], Card]] = {
    _AUTOENCODER: _train_own_autoencoder,
    "avatar-classifier": _train_own_classifier,
    **dict.fromkeys(("superresolution-8", "superresolution-16", "colourisation", "inpainting"), _train_own_translator),
    "people-labels": _train_own_labels,
    "text-to-people": _train_own_text,
}
"""Recipes that take ``dataset=``."""


def check_own(job: Job, name: str) -> None:
    """Before any picture is opened: a CourseError says if name, size, files or a translator's autoencoder are wrong."""
    if not job.dataset:
        raise CourseError("size= goes with dataset=: the bundled pictures have 64 pixels.")
    if name not in OWN_RECIPES:
        raise CourseError(f"{name} trains on the bundled pictures only; dataset= is for {', '.join(OWN_RECIPES)}.")
    check_size(job.dataset, job.size)
    check_dataset(job.dataset)
    job = own_job(job)
    if OWN_RECIPES[name] not in (_train_own_autoencoder, _train_own_classifier):
        _own_autoencoder(job)


def train_own(job: Job, name: str) -> Card:
    """Trains a key of :data:`OWN_RECIPES`, checked before, on ``job.dataset`` at ``job.size`` pixels."""
    data = own_pictures(job.dataset, job.size, colour=name == "colourisation")
    return OWN_RECIPES[name](own_job(job), name, data)
