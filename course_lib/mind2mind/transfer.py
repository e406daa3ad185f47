"""A transfer in one call: encode the target set, train MindGAN on its codes, join it with the frozen halves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from ..training import Budget, train
from ..training.loop import History
from .codes import Frozen, encode_set, expert_device
from .networks import MindConfig
from .training import MindMethod
from .transferred import TransferredGAN

__all__ = ["Transferred", "transfer"]


@dataclass
class Transferred:
    """What a transfer leaves.

    Attributes:
        gan: to draw with.
        history: curve and seconds of training; encoding is not in them.
        codes: of the training pictures.
        parameters: numbers that were trained.
    """

    gan: TransferredGAN
    history: History
    codes: Tensor
    parameters: int = field(default=0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers this small: two threads wait for each other longer than they compute (64 ms a step, alone 31)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def transfer(
    expert: Frozen,
    data: ImageSet,
    steps: int,
    config: MindConfig | None = None,
    held: ImageSet | None = None,
    batch_size: int = 128,
    seed: int = 0,
    average: float | None = 0.99,
    folder: Path | None = None,
    **options: Any,
) -> Transferred:
    """MindGAN for the pictures of ``data``.

    Args:
        expert: frozen.
        data: training pictures of the target.
        steps: of the generator.
        config: sizes; the published ones by default. Its ``latent`` is set to the expert's.
        held: pictures that are not trained on; their codes are what the Fréchet distance of codes is measured to.
        batch_size: codes a step, at most as many as there are.
        seed: of weights, order and noise.
        average: decay of the generator's moving average, which is then what draws; None for none, as published.
        folder: of cached codes.
        options: of :class:`MindMethod`.

    Raises:
        CourseError: fewer than two pictures.
    """
    if len(data) < 2:
        raise CourseError(f"{len(data)} pictures are no set to learn from: give at least two.")
    config = replace(config or MindConfig(), latent=expert.latent_dim)
    codes = encode_set(expert, data, folder, progress=False)
    others = None if held is None else encode_set(expert, held, folder, progress=False)
    every = max(1, steps // 12)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        method = MindMethod(codes, config, others, average=average, held_every=every, **options)
        history = train(
            method,
            Budget(steps),
            min(batch_size, len(data)),
            seed=seed,
            accelerator=expert_device(expert).type,
            log_every=every,
            checkpoint_every=0,
            preview_every=0,
            progress=False,
        )
    networks = dict(method.modules)
    if average is not None:
        networks["generator"] = history.averaged["generator"]
    gan = TransferredGAN(networks["generator"], expert, networks["critic"], codes)
    numbers = sum(p.numel() for module in networks.values() for p in module.parameters())
    return Transferred(gan, history, codes, numbers)
