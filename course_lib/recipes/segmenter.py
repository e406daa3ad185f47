"""Training of the segmenter: cells of a picture of a person → parts (hair, skin, clothes, rest, background)."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, load_people, people_parts
from ..data.people import PARTS
from ..experts.segmenter import Segmenter, SegmenterConfig
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, Method
from .recipe import Job, data_hash, publish

__all__ = ["SegmenterMethod", "label_cells", "segmentation_scores", "train_segmenter"]


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
