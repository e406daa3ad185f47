"""Training of the classifier of avatars (an expert) and of their judge (which only ever scores)."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, load_kinds, load_people
from ..data.augment import affine
from ..data.people import ATTRIBUTES, STYLES
from ..experts.classifier import Classifier, ClassifierConfig
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, Method
from .recipe import Job, data_hash, publish

__all__ = ["ClassifierMethod", "accuracy", "train_classifier", "train_judge"]


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
