"""Recipes on another data set: ``course train NAME -p dataset=folder:PATH -p size=128``.

CelebA with its attributes, FFHQ, AFHQ, COCO with its captions or a folder of one's own train the same networks by the
same losses and amounts as the shipped checkpoints. One place opens the data, :func:`course_lib.data.own_pictures`; one
sizes the networks, :func:`own_config` and :func:`own_source`. Results lie in a folder of their own in ``runs/own``,
unless ``out=`` says otherwise, under the names of the shipped checkpoints, which stay as they are.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cinn.embedder import FINE_WEIGHTS
from ..data.changes import grey, grey_square
from ..data.image_set import ImageSet
from ..data.own import check_size, own_pictures
from ..data.published import check_dataset
from ..errors import CourseError
from ..experts.autoencoder import GridAutoencoder, GridAutoencoderConfig, GridExpert, measure_latents
from ..experts.classifier import ClassifierConfig
from ..experts.conditions import LabelExpert, SentenceExpert
from ..experts.protocol import SourceExpert, load_expert
from ..paths import CHECKPOINTS
from ..profiles import seed_everything
from ..training.files import Card, load_card
from ..translation.domains import DomainTranslator, LabelMethod, encode_labelled, label_flow, reconstruction_psnr
from ..translation.scores import explained
from ..translation.shipped import load_flow
from ..translation.training import LATENT_NOISE, FlowMethod, Pairs, choice_flow, encode_pairs, held_out_nats
from ..translation.translator import LowResolution, TransformedExpert, Translator
from .experts import AutoencoderMethod, ClassifierMethod, accuracy
from .recipe import Job, on_held_out, publish
from .translators import TRANSLATORS

__all__ = ["OWN_RECIPES", "check_own", "load_own_translator", "own_config", "own_job", "own_source", "train_own"]

_AUTOENCODER = "avatar-autoencoder"
_SCORED = 300
"""Most pictures of a part that scores are computed on."""


def own_job(job: Job) -> Job:
    """The job with folders that belong to its data set and size.

    Raises:
        CourseError: ``out=`` is the folder of the shipped checkpoints.
    """
    if job.out != CHECKPOINTS:
        if job.out.resolve() == CHECKPOINTS.resolve():
            raise CourseError("out= is the folder of the shipped checkpoints, which dataset= never replaces: leave it.")
        return replace(job, work=job.work / "own")
    # Two folders may be called alike: their paths tell them apart.
    kind, _, path = job.dataset.partition(":")
    where = str(Path(path).expanduser().resolve()) if path else ""
    words = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{Path(where).name}".lower()).strip("-")
    mark = hashlib.sha256(where.encode()).hexdigest()[:6]
    home = job.work.parent / "own" / f"{words}-{mark}-{job.size}"
    return replace(job, out=home, work=home / "work")


def own_config(size: int) -> GridAutoencoderConfig:
    """Sizes of the shipped autoencoder for pictures of another side: cells of 8 pixels stay, so their number grows."""
    config = GridAutoencoderConfig(**load_card(_AUTOENCODER).config)
    return replace(config, size=size, centre=(), scale=())


def own_source(name: str, target: GridAutoencoder) -> SourceExpert:
    """Source expert of a translator: few pixels (an eighth or a quarter of the side), or a changed picture's latent."""
    if name.startswith("superresolution-"):
        return LowResolution(int(name.rpartition("-")[2]) * target.config.size // 64)
    return TransformedExpert(GridExpert(target), {"colourisation": grey, "inpainting": grey_square}[name])


def _labels_of(data: ImageSet) -> dict[str, list[str]]:
    """Labels that tell pictures apart, the domain or class first: those with two values or more, each once.

    Raises:
        CourseError: there is none.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(data.classes, key=lambda one: one != "domain"):
        values = data.labels[name]
        twice = any(torch.equal(values, data.labels[other]) for other in found)
        if len(data.classes[name]) > 1 and not twice:
            found[name] = data.classes[name]
    if not found:
        raise CourseError(
            f"{data.name!r} has one class only, so there is nothing to tell apart: put the pictures into one folder a "
            "class."
        )
    return found


def _no_captions(data: ImageSet) -> None:
    if not data.captions:
        raise CourseError(f"{data.name!r} has no captions: take coco:PATH, or another recipe.")


# --- experts ----------------------------------------------------------------------------------------------------------


class _OwnAutoencoderMethod(AutoencoderMethod):
    """From the shipped weights; margins repeat the edge, since photographs have no white ground; half are mirrored."""

    def __init__(self, data: ImageSet, config: GridAutoencoderConfig):
        super().__init__(data, config)
        net = self.modules["autoencoder"]
        net.load_state_dict(net.state_dict() | load_expert(_AUTOENCODER).state_dict())
        nn.init.constant_(net.log_scale, math.log(0.1))

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        images = self.data.batch(index, flip=torch.rand(len(index), generator=generator) < 0.5)
        dx, dy = torch.randint(0, 5, (2,), generator=generator).tolist()
        wide, size = F.pad(images, (2,) * 4, mode="replicate"), self.config.size
        return wide[:, :, dy : dy + size, dx : dx + size].contiguous(memory_format=torch.channels_last)


def _train_own_autoencoder(job: Job, name: str, data: ImageSet) -> Card:
    train, config = data.part("train"), own_config(job.size)
    method = _OwnAutoencoderMethod(train, config)
    start = reconstruction_psnr(method.modules["autoencoder"].eval(), _some(data.part("val")))
    steps = job.profile.pick(quick=60, cpu=6000, gpu=60000)
    history = job.run(name, method, 16, steps, last=True, precision="bf16-mixed")
    state = {key: one for key, one in history.averaged["autoencoder"].state_dict().items() if key != "log_scale"}
    net = GridAutoencoder(config).to(next(iter(state.values())).device)
    net.load_state_dict(state)
    some = train.batch(torch.arange(0, len(train), max(1, len(train) // 250)))
    centre, scale = measure_latents(net.eval(), some)
    net.config = replace(config, centre=centre, scale=scale)
    card = Card(name, "grid autoencoder", vars(net.config), {"batch_size": 16, "start": "the shipped one"})
    card.metrics = on_held_out(lambda part: {"PSNR (dB)": reconstruction_psnr(net, _some(data.part(part)))})
    card.metrics["PSNR (dB) of the start on val"] = start
    return _publish_own(job, card, net.state_dict(), history, data, "PSNR (dB) on val", higher=True)


def _train_own_classifier(job: Job, name: str, data: ImageSet) -> Card:
    config = ClassifierConfig({label: len(values) for label, values in _labels_of(data).items()}, 24)
    method = ClassifierMethod(data.part("train"), config, mirrored=True)
    history = job.run(name, method, 64, job.profile.pick(quick=60, cpu=2500, gpu=20000), True, precision="bf16-mixed")
    net = history.averaged["classifier"].eval()

    def score(part: str) -> dict[str, float]:
        found = accuracy(net, data.part(part))
        return {f"{head} accuracy": value for head, value in found.items()} | {
            "mean accuracy": sum(found.values()) / len(found)
        }

    card = Card(name, "classifier", vars(config), {"batch_size": 64, "classes": _labels_of(data)})
    card.metrics = on_held_out(score)
    return _publish_own(job, card, net.state_dict(), history, data, "mean accuracy on val", higher=True)


# --- translators ------------------------------------------------------------------------------------------------------


def _own_autoencoder(job: Job) -> GridAutoencoder:
    """Trained on the same data before.

    Raises:
        CourseError: it was not.
    """
    try:
        return load_expert(_AUTOENCODER, job.profile.device, job.out)
    except CourseError as error:
        if (job.out / f"{_AUTOENCODER}.safetensors").exists():
            raise
        size = f" -p size={job.size}" if job.size != 64 else ""
        raise CourseError(
            "a translator needs the autoencoder of its pictures: first run "
            f"`course train {_AUTOENCODER} -p dataset={job.dataset}{size}`."
        ) from error


def _fit_flow(job: Job, name: str, method: FlowMethod, steps: int) -> tuple[nn.Module, object]:
    every = max(100, steps // 40)
    history = job.run(name, method, 64, steps, last=True, log_every=every, precision="bf16-mixed")
    return history.averaged["flow"].eval(), history


def _own_metrics(translator: Translator, held: Pairs, data: ImageSet, again: bool) -> dict[str, float]:
    """Scores of a part. Consistency needs a source that takes pictures (``again``)."""
    real = data.batch(torch.arange(len(data))).to(held.mean.device)
    drawn = []
    for seed in (0, 1):
        draws = torch.Generator().manual_seed(seed)
        drawn.append(translator.decode(translator.flow.sample(held.condition, 1.0, draws)))
    found = {
        "nats per picture": held_out_nats(translator.flow, held),
        "PSNR (dB)": (10 * (4.0 / (drawn[0] - real).square().mean().clamp_min(1e-10)).log10()).item(),
        "spread of two answers": (drawn[0] - drawn[1]).square().mean().sqrt().item(),
    }
    if again:
        found["consistency"] = explained(held.condition.flatten(1), translator.source.encode(drawn[0]).flatten(1))
    return found


def _train_own_translator(job: Job, name: str, data: ImageSet) -> Card:
    spec, target = TRANSLATORS[name], _own_autoencoder(job)
    source = own_source(name, target)

    def pairs_of(part: ImageSet) -> Pairs:
        return encode_pairs(part, source.encode, target, LATENT_NOISE)

    pairs, parts = pairs_of(data.part("train")), {part: _some(data.part(part)) for part in ("val", "test")}
    held = {part: pairs_of(one) for part, one in parts.items()}
    flow = choice_flow(pairs, target, job.seed, spec.ridge, **spec.sizes)
    method = FlowMethod(
        pairs, flow, 2e-3, spec.weight_decay, held["val"], max(100, job.profile.pick(*spec.steps) // 40)
    )
    flow, history = _fit_flow(job, name, method, job.profile.pick(*spec.steps))
    translator = Translator(source, flow, target)
    card = Card(name, "grid flow", flow.config.to_dict(), {"batch_size": 64, "noise": LATENT_NOISE})
    card.metrics = on_held_out(lambda part: _own_metrics(translator, held[part], parts[part], True))
    return _publish_own(job, card, flow.state_dict(), history, data, "nats per picture on val", fine=FINE_WEIGHTS)


def _train_own_labels(job: Job, name: str, data: ImageSet) -> Card:
    """Unpaired translation: the first label is the domain."""
    classes, target = _labels_of(data), _own_autoencoder(job)
    expert = LabelExpert({label: len(values) for label, values in classes.items()})
    parts = {part: _some(data.part(part)) for part in ("val", "test")}
    pairs = encode_labelled(data.part("train"), target, expert, LATENT_NOISE)
    held = {part: encode_labelled(one, target, expert, LATENT_NOISE) for part, one in parts.items()}
    flow = label_flow(pairs, target, expert, job.seed, hidden_dim=64, blocks=8, embedding_dim=16)
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    rates = {"rate": 2e-3, "weight_decay": 0.02, "held": held["val"], "held_every": max(100, steps // 40)}
    flow, history = _fit_flow(job, name, LabelMethod(pairs, flow, expert, **rates), steps)
    translator = DomainTranslator(classes, flow, target, expert)
    card = Card(name, "grid flow", flow.config.to_dict(), {"batch_size": 64, "noise": LATENT_NOISE, "classes": classes})
    card.metrics = on_held_out(lambda part: _own_metrics(translator, held[part], parts[part], False))
    return _publish_own(job, card, flow.state_dict(), history, data, "nats per picture on val", fine=FINE_WEIGHTS)


def _train_own_text(job: Job, name: str, data: ImageSet) -> Card:
    """Captions to pictures: the condition is the embedding of one caption a picture, drawn once."""
    _no_captions(data)
    target, memory = _own_autoencoder(job), SentenceExpert(device=job.profile.device)
    draws = torch.Generator().manual_seed(job.seed)
    texts = [several[int(torch.randint(len(several), (), generator=draws))] for several in data.captions]
    embeddings = memory.learn(texts)

    def pairs_of(part: ImageSet, condition: Tensor) -> Pairs:
        encoded = encode_pairs(part, lambda images: images.new_zeros(len(images), 1), target, LATENT_NOISE)
        return replace(encoded, condition=condition.to(encoded.mean))

    numbers = {part: (data.split == k).nonzero()[:, 0] for k, part in enumerate(("train", "val", "test"))}
    numbers |= {part: numbers[part][_spread(len(numbers[part]))] for part in ("val", "test")}
    parts = {part: data.subset(rows) for part, rows in numbers.items()}
    pairs = {part: pairs_of(one, embeddings[numbers[part].to(embeddings.device)]) for part, one in parts.items()}
    sizes = {"hidden_dim": 64, "blocks": 8, "embedding_dim": 48}
    flow = choice_flow(pairs["train"], target, job.seed, 1e-2, **sizes)
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    method = FlowMethod(pairs["train"], flow, 2e-3, 0.05, pairs["val"], max(100, steps // 40))
    flow, history = _fit_flow(job, name, method, steps)
    translator = Translator(memory, flow, target)
    card = Card(name, "grid flow", flow.config.to_dict(), {"batch_size": 64, "noise": LATENT_NOISE})
    card.metrics = on_held_out(lambda part: _own_metrics(translator, pairs[part], parts[part], False))
    return _publish_own(job, card, flow.state_dict(), history, data, "nats per picture on val", fine=FINE_WEIGHTS)


def load_own_translator(name: str, folder: Path, device: str | torch.device = "cpu") -> Translator:
    """A translator that a recipe trained on another data set, with the autoencoder beside it.

    Args:
        name: of the recipe.
        folder: where it wrote, which it prints.
        device: where to put the networks.

    Raises:
        CourseError: missing or damaged files.
    """
    target, flow = load_expert(_AUTOENCODER, device, folder), load_flow(name, device, folder)
    if name == "people-labels":
        classes = load_card(name, folder).recipe["classes"]
        expert = LabelExpert({label: len(values) for label, values in classes.items()})
        return DomainTranslator(classes, flow, target, expert)
    source = SentenceExpert(device=device) if name == "text-to-people" else own_source(name, target)
    return Translator(source, flow, target)


# --- what they share --------------------------------------------------------------------------------------------------

OWN_RECIPES: dict[str, Callable[[Job, str, ImageSet], Card]] = {
    _AUTOENCODER: _train_own_autoencoder,
    "avatar-classifier": _train_own_classifier,
    **dict.fromkeys(("superresolution-8", "superresolution-16", "colourisation", "inpainting"), _train_own_translator),
    "people-labels": _train_own_labels,
    "text-to-people": _train_own_text,
}
"""Recipes that take ``dataset=``."""


def check_own(job: Job, name: str) -> None:
    """What can be known before any picture is opened: name, size, files, folders, the autoencoder of a translator.

    Raises:
        CourseError: one of them is wrong; the sentence says which.
    """
    if not job.dataset:
        if job.size != 64:
            raise CourseError("size= goes with dataset=: the bundled pictures have 64 pixels.")
        return
    if name not in OWN_RECIPES:
        raise CourseError(f"{name} trains on the bundled pictures only; dataset= is for {', '.join(OWN_RECIPES)}.")
    check_size(job.dataset, job.size)
    check_dataset(job.dataset)
    job = own_job(job)
    if OWN_RECIPES[name] not in (_train_own_autoencoder, _train_own_classifier):
        _own_autoencoder(job)


def train_own(job: Job, name: str) -> Card:
    """Trains a key of :data:`OWN_RECIPES` on ``job.dataset`` at ``job.size`` pixels; returns its card.

    Raises:
        CourseError: see :func:`check_own` and :func:`course_lib.data.own_pictures`.
    """
    check_own(job, name)
    data = own_pictures(job.dataset, job.size, colour=name == "colourisation")
    seed_everything(job.seed)
    return OWN_RECIPES[name](own_job(job), name, data)


def _spread(count: int) -> Tensor:
    """Up to :data:`_SCORED` numbers below ``count``, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, _SCORED)).long()


def _some(data: ImageSet) -> ImageSet:
    return data.subset(_spread(len(data)))


def _publish_own(
    job: Job,
    card: Card,
    tensors: dict[str, Tensor],
    history: object,
    data: ImageSet,
    primary: str,
    higher: bool = False,
    fine: tuple[str, ...] = (),
) -> Card:
    card.data = {"name": job.dataset.partition(":")[0] + f":{data.name}", "sha256": data.content_hash()}
    card.notes = f"Trained on {data.name} at {job.size} pixels, not on the course's pictures."
    card = publish(job, card, tensors, history, primary, higher, bits=16, fine=fine)
    print(f"its folder: {job.out}")
    return card
