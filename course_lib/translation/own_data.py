"""Folders of your own as domains: checks with clear messages, and an autoencoder that is adapted where it has to be."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from ..experts import Autoencoder, freeze
from ..training import Budget, train
from ..training.method import Loss, Method

__all__ = ["adapt_autoencoder", "own_domains", "psnr"]

MIN_PICTURES = 10
"""Fewest pictures in a domain; of these one is kept for validation and one for testing."""


def own_domains(data: ImageSet) -> ImageSet:
    """``data`` with a split, after checking that its ``domain`` labels can be translated between.

    Raises:
        CourseError: a single folder, or too few pictures in one.
    """
    names = data.classes.get("domain", [])
    if len(names) < 2:
        raise CourseError(
            f"{data.name!r} has one folder of pictures, and translation needs two or more: put every domain into a "
            "sub-folder of its own."
        )
    counts = torch.bincount(data.labels["domain"], minlength=len(names)).tolist()
    for name, count in zip(names, counts, strict=True):
        if count < MIN_PICTURES:
            raise CourseError(f"the folder {name!r} has {count} pictures; add some until it has {MIN_PICTURES}.")
    if len(data.split):
        return data
    split = torch.zeros(len(data), dtype=torch.int64)
    for k in range(len(names)):  # domain by domain, so that none is missing from a part
        members = (data.labels["domain"] == k).nonzero()[:, 0]
        part = data.subset(members).random_split(k)
        split[members] = part.split
    return ImageSet(data.name, data.images, data.labels, data.classes, data.captions, split)


@torch.no_grad()
def psnr(autoencoder: Autoencoder, data: ImageSet) -> float:
    """Peak signal-to-noise ratio of the reconstructions in dB, peak 2, over all pictures together."""
    device = next(autoencoder.parameters()).device
    error = [
        (autoencoder.decode(autoencoder.encode(x.to(device))) - x.to(device)).square().mean((1, 2, 3))
        for x in data.batches(128)
    ]
    return (10 * (4.0 / torch.cat(error).mean().clamp_min(1e-10)).log10()).item()


class _Reconstruction(Method):
    """Mean absolute error; BatchNorm keeps its statistics, because few pictures would spoil them."""

    def __init__(self, data: ImageSet, autoencoder: Autoencoder, rate: float):
        super().__init__()
        self.data, self.length, self.modules = data, len(data), {"autoencoder": autoencoder}
        self.optimizers = {"autoencoder": torch.optim.AdamW(autoencoder.parameters(), rate, weight_decay=0.01)}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.data = self.data.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.data.batch(index, flip=torch.rand(len(index), generator=generator) < 0.5)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        network = self.modules["autoencoder"].eval()
        yield Loss("autoencoder", (network(batch)[0] - batch).abs().mean())


def adapt_autoencoder(
    autoencoder: Autoencoder, data: ImageSet, steps: int, rate: float = 3e-4, seed: int = 0, **options: Any
) -> Autoencoder:
    """A frozen copy of ``autoencoder`` that was trained on for ``steps`` on pictures of all domains together.

    Args:
        autoencoder: unchanged by this.
        data: training pictures of its size.
        options: of :func:`course_lib.training.train`.
    """
    device = next(autoencoder.parameters()).device
    copy = type(autoencoder)(autoencoder.config)
    copy.load_state_dict(autoencoder.state_dict())
    copy.to(device, memory_format=torch.channels_last)
    train(_Reconstruction(data, copy, rate), Budget(steps), min(32, len(data)), seed=seed, **options)
    return freeze(copy)
