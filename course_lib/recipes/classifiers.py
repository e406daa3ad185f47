"""Training of the classifier of avatars, of their judge, of two biased classifiers, and of the segmenter.

The classifier is an expert, the judge only ever scores, the biased ones belong to notebook 06, and the segmenter
classifies cells.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, load_kinds, load_people, people_parts
from ..data.changes import affine, edges, shuffle_patches, stylise
from ..data.people import ATTRIBUTES, PARTS, STYLES
from ..evaluation.probes import measure_bias
from ..experts import Classifier, ClassifierConfig, Segmenter, SegmenterConfig
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, Method
from .recipe import Job, data_hash, publish

__all__ = [
    "BiasedClassifierMethod",
    "ClassifierMethod",
    "SegmenterMethod",
    "accuracy",
    "label_cells",
    "segmentation_scores",
    "train_biased",
    "train_classifier",
    "train_judge",
    "train_segmenter",
]


def _shift(images: Tensor, generator: torch.Generator, pixels: int = 4) -> Tensor:
    """Moves the whole batch by up to ``pixels`` in each direction; the margin is white, as in the pictures."""
    dx, dy = torch.randint(0, 2 * pixels + 1, (2,), generator=generator).tolist()
    size = images.shape[-1]
    padded = F.pad(images, (pixels,) * 4, value=1.0)
    return padded[:, :, dy : dy + size, dx : dx + size]


class ClassifierMethod(Method):
    """Cross-entropy over all heads; with a projection head also a contrastive loss between two styles of one picture.

    The contrastive term (InfoNCE, van den Oord et al. 2018) makes the judge's features agree on what is shown whatever
    the style, which retrieval across styles needs and class labels alone do not give.

    Args:
        data: training pictures with a label ``style``, ordered style by style if there is a projection.
        config: sizes. Heads whose label a picture lacks learn nothing from it.
        rate: AdamW's largest learning rate.
        temperature: of the contrastive term.
        others: pictures of other things; half as many as of ``data`` join each batch.
        mirrored: mirror half of the pictures.
    """

    def __init__(
        self,
        data: ImageSet,
        config: ClassifierConfig,
        rate: float = 2e-3,
        temperature: float = 0.1,
        others: ImageSet | None = None,
        mirrored: bool = True,
    ):
        super().__init__()
        self.data, self.config, self.temperature = data, config, temperature
        self.others, self.mirrored = others, mirrored
        self.labels = self._labels(data)
        net = Classifier(config).to(memory_format=torch.channels_last)
        self.modules = {"classifier": net}
        self.optimizers = {"classifier": torch.optim.AdamW(net.parameters(), rate, weight_decay=0.02, fused=True)}
        self.ema = {"classifier": 0.995}
        self.styles = len(data.classes["style"])
        self.count = len(data) // self.styles
        # A contrastive batch draws pictures and shows each in two styles; a plain one draws images.
        self.length = self.count if config.projection else len(data)

    def _labels(self, data: ImageSet) -> Tensor:
        """``int64 (N, heads)``, −1 where the set lacks the label."""
        missing = torch.full((len(data),), -1)
        return torch.stack([data.labels.get(name, missing) for name in self.config.heads], 1)

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.data, self.labels = self.data.to(device), self.labels.to(device)
        self.others = self.others.to(device) if self.others is not None else None

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        if self.config.projection:
            order = torch.rand(len(index), self.styles, generator=generator).argsort(1)[:, :2]
            index = torch.cat([index + self.count * order[:, 0], index + self.count * order[:, 1]])
        images, labels = self.data.batch(index), self.labels[index.to(self.labels.device)]
        if self.others is not None:
            index = torch.randint(len(self.others), (len(index) // 2,), generator=generator)
            images = torch.cat([images, self.others.batch(index)])
            labels = torch.cat([labels, self._labels(self.others)[index].to(labels.device)])
        if self.mirrored:
            flip = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(flip.to(images.device)[:, None, None, None], images.flip(-1), images)
        return _shift(images, generator).contiguous(memory_format=torch.channels_last), labels

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        outputs = self.modules["classifier"](images)
        parts = self.parts(outputs, labels)
        if self.config.projection:
            paired = len(images) if self.others is None else len(images) * 2 // 3
            first, second = outputs["projection"][:paired].float().chunk(2)
            similarity = first @ second.T / self.temperature
            target = torch.arange(len(first), device=similarity.device)
            parts["contrastive"] = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        yield Loss("classifier", sum(parts.values()), {f"loss/{name}": value for name, value in parts.items()})

    def parts(self, outputs: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of each head with ``labels (B, heads)``; −1 is no label."""
        return {
            name: F.cross_entropy(outputs[name].float(), labels[:, k], ignore_index=-1, label_smoothing=0.05)
            for k, name in enumerate(self.config.heads)
        }

    def learning_rate(self, progress: float) -> float:
        return min(1.0, progress / 0.05 + 0.02) * (0.5 + 0.5 * math.cos(math.pi * progress))


class _JudgeMethod(ClassifierMethod):
    """The judge learns from turned, stretched and noisy pictures as well, so that it reads generated ones calmly."""

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        images, labels = super().batch(index, generator)
        images = affine(images.contiguous(), generator, 0.3)
        strength = 0.1 * torch.rand(len(images), 1, 1, 1, generator=generator)
        images = images + (strength * torch.randn(images.shape, generator=generator)).to(images)
        return images.contiguous(memory_format=torch.channels_last), labels


@torch.no_grad()
def accuracy(net: Classifier, data: ImageSet, batch_size: int = 250) -> dict[str, float]:
    """Share of right answers of each head whose label ``data`` has."""
    device = next(net.parameters()).device
    outputs = [net(batch.to(device)) for batch in data.batches(batch_size)]
    return {
        name: (torch.cat([o[name] for o in outputs]).argmax(1).cpu() == data.labels[name]).float().mean().item()
        for name in net.config.heads
        if name in data.labels
    }


def _sets() -> tuple[ImageSet, ImageSet]:
    """People, whose style is also their kind, and the thirty other kinds."""
    people, kinds = load_people(), load_kinds()
    kind = {"kind": people.labels["style"]}
    people = people.relabelled(people.labels | kind, people.classes | {"kind": kinds.classes["kind"]})
    return people, kinds.subset(kinds.labels["kind"] >= len(STYLES))


def _train(job: Job, name: str, method: type[ClassifierMethod], width: int, projection: int, notes: str) -> Card:
    people, kinds = _sets()
    heads = {"kind": len(kinds.classes["kind"])} | {key: len(values) for key, values in ATTRIBUTES.items()}
    config = ClassifierConfig(heads, width, projection)
    seed_everything(job.seed + (1000 if projection else 0))
    training = method(people.part("train"), config, others=kinds.part("train"), mirrored=False)
    size = 32 if projection else 64
    job = replace(job, precision="bf16-mixed")
    history = job.run(name, training, size, job.profile.pick(quick=60, cpu=2500, gpu=20000), last=True)
    net = history.averaged["classifier"].eval()
    metrics = {}
    for part in ("val", "test"):
        found = accuracy(net, people.part(part))
        found["kind"] = (found["kind"] + accuracy(net, kinds.part(part))["kind"]) / 2
        metrics |= {f"{head} accuracy on {part}": value for head, value in found.items()}
        metrics[f"mean accuracy on {part}"] = sum(found.values()) / len(found)
    card = Card(
        name, "classifier", config.to_dict(), {"batch_size": size}, data=data_hash(people), metrics=metrics, notes=notes
    )
    return publish(job, card, net.state_dict(), history, "mean accuracy on val", higher=True, bits=8)


def train_classifier(job: Job) -> Card:
    """The classifier of avatars: kind, skin, hair, cut, glasses and mouth."""
    return _train(job, "avatar-classifier", ClassifierMethod, 24, 0, "Expert; never used for scores.")


def train_judge(job: Job) -> Card:
    """The judge: other seed, width and augmentation, and a retrieval embedding. No taught method ever sees it."""
    notes = "Features for all distances, attributes for all scores of avatars. Kind: mean over people and other kinds."
    return _train(job, "avatar-judge", _JudgeMethod, 28, 128, notes)


# --- biased classifiers ---------------------------------------------------------------------------------------------


class BiasedClassifierMethod(ClassifierMethod):
    """A classifier of kinds that is trained on changed pictures only.

    Args:
        data: training pictures.
        config: sizes.
        change: float pictures ``(B, 3, S, S)`` and a CPU generator → changed pictures.
    """

    def __init__(
        self, data: ImageSet, config: ClassifierConfig, change: Callable[[Tensor, torch.Generator], Tensor]
    ) -> None:
        super().__init__(data, config)
        self.change = change

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        images, labels = super().batch(index, generator)
        changed = self.change(images.contiguous(), generator)
        return changed.contiguous(memory_format=torch.channels_last), labels


def _stylised_or_drawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures stylised, the others as edges."""
    drawn = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(drawn.to(images.device)[:, None, None, None], edges(images), stylise(images, generator))


BIASES: dict[str, tuple[Callable[[Tensor, torch.Generator], Tensor], str, str]] = {
    "classifier-shape": (
        _stylised_or_drawn,
        "edges on val",
        "Trained on stylised pictures (course_lib.data.changes.stylise) and edges (.edges), half and half.",
    ),
    "classifier-texture": (
        shuffle_patches,
        "shuffled on val",
        "Trained on pictures cut into shuffled 8-pixel patches only (course_lib.data.changes.shuffle_patches).",
    ),
}
"""Name → how training pictures are changed, the score that decides, notes. Of stylised pictures and line drawings only
shape tells the class: colours and textures are random or missing. Of shuffled patches only those tell it."""


def train_biased(job: Job, name: str) -> Card:
    """A key of :data:`BIASES`. Same network, same first weights, same order of pictures, same budget for both."""
    change, primary, notes = BIASES[name]
    data = load_kinds()
    # The common method wants a label of that name; here every kind is a style of its own.
    data = data.relabelled(data.labels | {"style": data.labels["kind"]}, data.classes | {"style": data.classes["kind"]})
    seed_everything(job.seed)
    config = ClassifierConfig({"kind": len(data.classes["kind"])}, width=12)
    method = BiasedClassifierMethod(data.part("train"), config, change)
    history = job.run(name, method, 64, job.profile.pick(quick=60, cpu=1500, gpu=20000), last=True)
    net = history.averaged["classifier"].eval()
    metrics = {}
    for part in ("val", "test"):
        found = measure_bias(net, data.part(part))
        metrics |= {f"{key} on {part}": value for key, value in found.items()}
    card = Card(name, "classifier", config.to_dict(), {"batch_size": 64}, data=data_hash(data), metrics=metrics)
    card.notes = notes
    return publish(job, card, net.state_dict(), history, primary, higher=True, bits=8)


# --- the segmenter --------------------------------------------------------------------------------------------------


def label_cells(labels: Tensor, classes: int) -> Tensor:
    """Class of every 2×2 cell, ``uint8 (N, S/2, S/2)``: the majority of its pixels' classes ``(N, S, S)``."""
    votes = F.one_hot(labels.long(), classes).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(votes, 2).argmax(1).to(torch.uint8)


class SegmenterMethod(Method):
    """Cross-entropy on every cell; rare classes count more, by the root of how rare they are.

    Args:
        data: training pictures.
        labels: ``uint8 (N, S/2, S/2)``: class of every cell.
        config: sizes.
        rate: AdamW's largest learning rate.
    """

    def __init__(self, data: ImageSet, labels: Tensor, config: SegmenterConfig, rate: float = 3e-3):
        super().__init__()
        self.data, self.labels, self.length = data, labels, len(data)
        counts = torch.bincount(labels.flatten().int(), minlength=config.classes).float()
        self.weight = (counts.sum() / counts.clamp_min(1)).sqrt()
        self.weight /= (self.weight * counts).sum() / counts.sum()
        net = Segmenter(config).to(memory_format=torch.channels_last)
        self.modules = {"segmenter": net}
        self.optimizers = {"segmenter": torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01, fused=True)}
        self.ema = {"segmenter": 0.99}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.data, self.labels = self.data.to(device), self.labels.to(device)
        self.weight = self.weight.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        flip = torch.rand(len(index), generator=generator) < 0.5
        labels = self.labels[index.to(self.labels.device)].long()
        labels = torch.where(flip.to(labels.device)[:, None, None], labels.flip(-1), labels)
        return self.data.batch(index, flip=flip), labels

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        logits = self.modules["segmenter"](images)
        value = F.cross_entropy(logits, labels, self.weight)
        yield Loss("segmenter", value, {"accuracy": (logits.argmax(1) == labels).float().mean()})

    def learning_rate(self, progress: float) -> float:
        return min(1.0, progress / 0.05 + 0.02) * (0.5 + 0.5 * math.cos(math.pi * progress))


@torch.no_grad()
def segmentation_scores(net: Segmenter, data: ImageSet, labels: Tensor) -> dict[str, float]:
    """``pixel accuracy`` and ``mIoU`` on cells of ``data``: intersection over union, mean over classes that occur."""
    device, count = next(net.parameters()).device, net.config.classes
    table = torch.zeros(count, count)
    for images, wanted in zip(data.batches(250), labels.split(250), strict=True):
        found = net.segment(images.to(device)).cpu()
        table += torch.bincount((wanted.long() * count + found).flatten(), minlength=count**2).view(count, count)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return {
        "pixel accuracy": (table.diagonal().sum() / table.sum()).item(),
        "mIoU": (table.diagonal() / union)[union > 0].mean().item(),
    }


def train_segmenter(job: Job) -> Card:
    """The segmenter of people: five parts on a 32×32 grid, in all six styles."""
    data = load_people()
    labels = torch.cat([label_cells(some, len(PARTS)) for some in people_parts().split(1000)])
    seed_everything(job.seed)
    train = data.split == 0
    method = SegmenterMethod(data.subset(train), labels[train], SegmenterConfig(len(PARTS)))
    history = job.run("avatar-segmenter", method, 64, job.profile.pick(quick=60, cpu=700, gpu=10000), last=True)
    net = history.averaged["segmenter"].eval()
    metrics = {
        f"{name} on {part}": value
        for number, part in ((1, "val"), (2, "test"))
        for name, value in segmentation_scores(net, data.part(part), labels[data.split == number]).items()
    }
    card = Card("avatar-segmenter", "segmenter", net.config.to_dict(), {"batch_size": 64}, data=data_hash(data))
    card.metrics, card.notes = metrics, f"Parts: {', '.join(PARTS)}, known exactly (course_lib.data.people.draw_parts)."
    return publish(job, card, net.state_dict(), history, "mIoU on val", higher=True, bits=8)
