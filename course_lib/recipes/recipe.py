"""What all recipes share: a budget per profile, a card, and that a checkpoint only gives way to a better one."""

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from ..paths import CHECKPOINTS, DATA, RUNS
from ..profiles import Profile
from ..training import Budget, Card, load_card, save_weights
from ..training.loop import History, Method, is_first_process, train

__all__ = ["Job", "TrainingDone", "data_hash", "publish"]


class TrainingDone(Exception):
    """Ends a recipe in all processes of ``torchrun`` but the first, which alone scores and publishes."""


@dataclass(frozen=True)
class Job:
    """One run of a recipe.

    Attributes:
        profile: budget and device.
        out: folder for the finished weights.
        work: folder for checkpoints and TensorBoard files while training; its run resumes after an interruption.
        seconds: time budget that replaces the profile's number of steps.
        steps: number of steps that replaces the profile's.
        seed: of initialisation, data order and noise.
        precision: as Fabric names it.
        force: publish even if the checkpoint it replaces scores better.
    """

    profile: Profile
    out: Path = CHECKPOINTS
    work: Path = RUNS / "train"
    seconds: float | None = None
    steps: int | None = None
    seed: int = 0
    precision: str = "32-true"
    force: bool = False

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds for comparisons: on one thread of a CPU those in which this process ran, so that whatever else the
        machine does counts for nobody; elsewhere those of the clock."""
        alone = self.profile.device == "cpu" and torch.get_num_threads() == 1
        return time.process_time if alone else time.perf_counter

    def run(
        self, name: str, method: Method, batch_size: int, steps: int, last: bool = False, **options: Any
    ) -> History:
        """Trains ``method`` in this job's working folder, resuming where an earlier run stopped.

        Args:
            last: no further training follows: of several processes only the first comes back.

        Raises:
            TrainingDone: in the other processes.
        """
        budget = Budget(self.steps or (None if self.seconds else steps), self.seconds)
        history = train(
            method,
            budget,
            batch_size,
            folder=self.work / name,
            resume=True,
            seed=self.seed,
            precision=self.precision,
            accelerator=self.profile.device,
            **{"log_every": 100, "checkpoint_every": 500, "preview_every": 500} | options,
        )
        if last and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if last and not is_first_process():
            raise TrainingDone
        return history


def data_hash(data: ImageSet) -> dict[str, str]:
    """Name of the set and, for a bundled one, the hash of its manifest."""
    record = {"name": data.name}
    if data.name in ("people", "kinds"):
        record["sha256"] = hashlib.sha256((DATA / "avatars" / "manifest.json").read_bytes()).hexdigest()
    return record


def publish(
    job: Job,
    card: Card,
    tensors: dict[str, Tensor],
    history: History,
    primary: str,
    higher: bool,
    bits: int = 16,
    fine: tuple[str, ...] = (),
) -> Card:
    """Completes the card and writes the weights, unless what is there scores better; the first process alone does.

    Args:
        card: with name, kind, config, recipe, data and metrics.
        tensors: the state dict.
        primary: name of the metric that decides.
        higher: whether more of it is better.
        bits, fine: how weights are stored, see :func:`course_lib.training.save_weights`.
    """
    if not is_first_process():
        return card
    card.steps, card.seconds, card.curve = history.steps, round(history.seconds, 1), history.curve
    card.seed = job.seed
    cuda = job.profile.device == "cuda"
    card.device = (
        torch.cuda.get_device_name(0) if cuda else f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    new = card.metrics[primary]
    try:
        old = load_card(card.name, job.out).metrics.get(primary)
    except CourseError:
        old = None
    better = old is None or (new > old if higher else new < old)
    print(f"{card.name}: {primary} = {new:.4g}" + (f", shipped {old:.4g}" if old is not None else ""))
    if better or job.force:
        print(f"wrote {save_weights(tensors, card, job.out, bits, fine).name}")
    else:
        print("kept the shipped checkpoint, which scores better (force=True replaces it anyway)")
    return card
