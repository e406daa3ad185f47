"""Training of the classifier (an expert) and of the judge (which only ever scores)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, load_emoji
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
    """Cross-entropy over all heads; with a projection head also a contrastive loss between two styles of one emoji.

    The contrastive term (InfoNCE, van den Oord et al. 2018) makes the judge's features agree on what is shown whatever
    the style, which retrieval across styles needs and class labels alone do not give.
    """

    def __init__(self, data: ImageSet, config: ClassifierConfig, rate: float = 2e-3, temperature: float = 0.1):
        super().__init__()
        self.data, self.config, self.temperature = data, config, temperature
        self.labels = torch.stack([data.labels[name] for name in config.heads], 1)
        net = Classifier(config).to(memory_format=torch.channels_last)
        self.modules = {"classifier": net}
        self.optimizers = {"classifier": torch.optim.AdamW(net.parameters(), rate, weight_decay=0.02, fused=True)}
        self.ema = {"classifier": 0.995}
        self.styles = len(data.classes["style"])
        self.count = len(data) // self.styles
        # A contrastive batch draws emoji and shows each in two styles; a plain one draws images.
        self.length = self.count if config.projection else len(data)

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.data, self.labels = self.data.to(device), self.labels.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        if self.config.projection:
            order = torch.rand(len(index), self.styles, generator=generator).argsort(1)[:, :2]
            index = torch.cat([index + self.count * order[:, 0], index + self.count * order[:, 1]])
        flip = torch.rand(len(index), generator=generator) < 0.5
        images = _shift(self.data.batch(index, flip=flip), generator)
        return images.contiguous(memory_format=torch.channels_last), self.labels[index.to(self.labels.device)]

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        outputs = self.modules["classifier"](images)
        parts = self.parts(outputs, labels)
        if self.config.projection:
            first, second = outputs["projection"].chunk(2)
            similarity = first @ second.T / self.temperature
            target = torch.arange(len(first), device=similarity.device)
            parts["contrastive"] = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        yield Loss("classifier", sum(parts.values()), {f"loss/{name}": value for name, value in parts.items()})

    def parts(self, outputs: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of each head with ``labels (B, heads)``."""
        return {
            name: F.cross_entropy(outputs[name], labels[:, k], label_smoothing=0.05)
            for k, name in enumerate(self.config.heads)
        }

    def learning_rate(self, progress: float) -> float:
        return min(1.0, progress / 0.05 + 0.02) * (0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * progress)).item())


@torch.no_grad()
def accuracy(net: Classifier, data: ImageSet, batch_size: int = 250) -> dict[str, float]:
    """Share of right answers of each head on ``data``."""
    device = next(net.parameters()).device
    outputs = [net(batch.to(device)) for batch in data.batches(batch_size)]
    return {
        name: (torch.cat([o[name] for o in outputs]).argmax(1).cpu() == data.labels[name]).float().mean().item()
        for name in net.config.heads
    }


def _train(job: Job, name: str, config: ClassifierConfig, batch_size: int, steps: int, notes: str) -> Card:
    data = load_emoji()
    seed_everything(job.seed + (1000 if name == "judge" else 0))
    method = ClassifierMethod(data.part("train"), config)
    history = job.run(name, method, batch_size, steps)
    net = history.averaged["classifier"].eval()
    scores = {f"{head} accuracy on val": value for head, value in accuracy(net, data.part("val")).items()}
    scores["mean accuracy on val"] = sum(scores.values()) / len(scores)
    card = Card(
        name,
        "classifier",
        config.to_dict(),
        recipe={"batch_size": batch_size},
        data=data_hash(data),
        metrics=scores,
        notes=notes,
    )
    return publish(job, card, net.state_dict(), history, "mean accuracy on val", higher=True, bits=8)


def train_classifier(job: Job) -> Card:
    """The image classifier: subgroup, style and skin tone."""
    classes = load_emoji().classes
    config = ClassifierConfig({name: len(classes[name]) for name in ("subgroup", "style", "skin_tone")})
    steps = job.profile.pick(quick=200, cpu=2400, gpu=20000)
    return _train(job, "classifier", config, 64, steps, "Expert and perceptual features; never used for scores.")


def train_judge(job: Job) -> Card:
    """The judge: more heads, a retrieval embedding, other seeds. No taught method ever sees it."""
    classes = load_emoji().classes
    heads = ("subgroup", "style", "skin_tone", "gender")
    config = ClassifierConfig({name: len(classes[name]) for name in heads}, projection=128)
    steps = job.profile.pick(quick=200, cpu=2400, gpu=20000)
    return _train(job, "judge", config, 48, steps, "Features for all distances and retrieval scores.")
