"""Transfers from beginning to end; baselines go the same way as the taught method."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import CourseError
from ..gans import Discriminator, Generator, start_weights
from ..gans.synchronise import first_process
from ..training import Budget, train
from ..training.loop import History
from .critic import transfer_critic
from .generator import TransferGenerator, thawed
from .method import TransferMethod
from .ranks import Ranks
from .scores import HeldOut, TransferScores, settle
from .stages import set_stage
from .start import class_means, fit_mixtures

__all__ = ["METHODS", "TUNED", "Transfer", "TransferSettings", "make_networks", "run_transfer", "similar_mixtures"]

METHODS = ("propagation", "free", "fine-tuning", "scratch")
"""``propagation`` is the taught method; ``free`` learns gains and biases of each class by themselves; ``fine-tuning``
trains all of the old generator, with new class embeddings; ``scratch`` trains all of one that begins at random."""


@dataclass(frozen=True)
class TransferSettings:
    """How new classes are learned.

    Attributes:
        method: one of :data:`METHODS`.
        start: ``mixture``: classes begin at mixtures of old ones, in the generator and in the critic; ``random``: as
            published.
        variant: of the propagation.
        batch_size: pictures a step of each network.
        options: of :class:`~course_lib.bn_transfer.method.TransferMethod`.

    Raises:
        CourseError: there is no such method or start.
    """

    method: str = "propagation"
    start: str = "mixture"
    variant: str = "kept"
    batch_size: int = 40
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CourseError(f"there is no method {self.method!r}: choose one of {', '.join(METHODS)}.")
        if self.start not in ("mixture", "random"):
            raise CourseError(f"a transfer starts from 'mixture' or 'random', not {self.start!r}.")

    @classmethod
    def published(cls, variant: str) -> "TransferSettings":
        """As the authors' scripts train; both were run to thousands of steps on GPUs.

        Args:
            variant: ``imagenet``: pass ``accumulate=8`` to :func:`run_transfer` (2,048 pictures a step).
                ``cifar``: the code adds the losses of four batches in one step of the critic, where its generator had
                been trained with four steps; here they are four steps.

        Raises:
            CourseError: another variant.
        """
        if variant == "imagenet":
            options = {"rate": 1e-4, "critic_rate": 4e-4, "l1": 0.01, "l2": 0.1, "adam_eps": 1e-6}
            return cls(start="random", variant=variant, batch_size=256, options=options)
        if variant == "cifar":
            options = {"rate": 2e-4, "critic_rate": 2e-4, "l1": 0.01, "l2": 0.01, "critic_steps": 4}
            return cls(start="random", variant=variant, batch_size=50, options=options)
        raise CourseError(f"published are 'imagenet' and 'cifar', not {variant!r}.")


_FEW_STEPS = {"critic_rate": 4e-4, "augmented": True, "decay": 0.97, "reconstruction": 4.0}
TUNED = {
    "propagation": TransferSettings(options=_FEW_STEPS | {"rate": 3e-4, "own_rate": 10.0}),
    "free": TransferSettings("free", options=_FEW_STEPS | {"rate": 3e-4, "own_rate": 10.0, "l2": 0.0}),
    "fine-tuning": TransferSettings("fine-tuning", options=_FEW_STEPS | {"rate": 3e-4}),
    "scratch": TransferSettings("scratch", "random", options=_FEW_STEPS | {"rate": 1e-3}),
}
"""Settings for runs of one or two hundred steps; critic and losses are the same for all methods.

They were chosen on a single seed, with 20 pictures a class, by scores on the held-out pictures on which the comparison
reports too: of two sets of learning rates for ``propagation`` and for ``free``, while ``fine-tuning`` and ``scratch``
were tried with one. The sets differed by no more than seeds do, so nothing here is an optimum.
"""


@torch.no_grad()
def similar_mixtures(
    data: ImageSet, old: ImageSet, features: Callable[[Tensor], Tensor], size: int = 32, ridge: float = 0.1
) -> Tensor:
    """Mixtures of old classes that look like the new ones, ``(new, old)``.

    Args:
        data: training pictures of the new classes.
        old: pictures of the old classes, see :func:`~course_lib.bn_transfer.data.old_pictures`.
        features: pictures ``(B, 3, S, S)`` → ``(B, F)``, for example ``critic.features``. Never the judge's, which
            only scores.
        size: of the pictures that ``features`` sees.
        ridge: see :func:`~course_lib.bn_transfer.start.fit_mixtures`.
    """
    seen = [torch.cat([features(part).float().cpu() for part in one.batches(250, size)]) for one in (data, old)]
    labels = [one.labels["class"] for one in (data, old)]
    means = [class_means(f, y, len(one.classes["class"])) for f, y, one in zip(seen, labels, (data, old), strict=True)]
    spread = (seen[1] - means[1][labels[1]]).std(0)
    return fit_mixtures(*means, spread, ridge)


def make_networks(
    source: Generator, critic: Discriminator, settings: TransferSettings, mixtures: Tensor, seed: int = 0
) -> tuple[nn.Module, Discriminator]:
    """Generator and critic of one method, ready to train.

    Args:
        source: trained on the old classes.
        critic: of the same training; all methods begin with it.
        settings: method and start.
        mixtures: ``(new, old)``; with a random start only its size counts.
        seed: of random weights.
    """
    classes, mixed = len(mixtures), settings.start == "mixture"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new_critic = transfer_critic(critic, classes, mixtures if mixed else None)
        if settings.method in ("propagation", "free"):
            generator = TransferGenerator(source, classes, settings.variant)
            if mixed:
                generator.start_at(mixtures)
            elif settings.method == "free":
                # Without mixtures: nothing but its own gains and biases, at random.
                for part in generator.propagations():
                    nn.init.zeros_(part.scores.weight)
                    nn.init.zeros_(part.scores.bias)
            return set_stage(generator, "bn" if settings.method == "propagation" else "free"), new_critic
        return _plain(source, settings, mixtures), new_critic


@torch.no_grad()
def _plain(source: Generator, settings: TransferSettings, mixtures: Tensor) -> Generator:
    """An ordinary BigGAN for the new classes: all new, or the old one with new class embeddings."""
    generator = Generator(replace(source.config, classes=len(mixtures))).to(next(source.parameters()).device)
    start_weights(generator)
    if settings.method == "scratch":
        return generator
    if source.config.embedding is None:
        raise CourseError("fine-tuning is made for generators with class embeddings: this one keeps tables.")
    old = source.shared.weight
    fresh = torch.randn(generator.shared.weight.shape).to(old) * old.std(0) + old.mean(0)
    state = thawed(source).state_dict()
    state["shared.weight"] = mixtures.to(old) @ old if settings.start == "mixture" else fresh
    generator.load_state_dict(state)
    return generator


@dataclass
class Transfer:
    """What :func:`run_transfer` gives.

    Attributes:
        generator: after the last step, or its moving average: in evaluation mode, with standing statistics.
        critic: after the last step.
        history: of the loop.
        scores: step → scores, where they were asked for.
    """

    generator: nn.Module
    critic: Discriminator
    history: History
    scores: dict[int, TransferScores]


def run_transfer(
    data: ImageSet,
    generator: nn.Module,
    critic: Discriminator,
    settings: TransferSettings,
    steps: int,
    *,
    held: HeldOut | None = None,
    score_every: int = 0,
    folder: Path | str | None = None,
    keep: int = 3,
    seed: int = 0,
    **loop: Any,
) -> Transfer:
    """Trains a generator on new classes, and scores it on the way.

    Both stages go through here: call it, then :func:`~course_lib.bn_transfer.stages.set_stage` with ``"ft"``, and call
    it again with the same networks. Optimisers and counters begin anew with each call; in one ``folder`` a call goes on
    where the last one stopped, with its counters and moments and with the learning rates of *this* call.

    Args:
        data: training pictures with ``labels["class"]``.
        generator, critic: of :func:`make_networks`.
        settings: batch size and options of the method.
        steps: of the generator.
        held: pictures for scores; None for none.
        score_every: steps between scores, the first before any step; 0 for one after the last step alone.
        folder: checkpoints and the ``keep`` best generators, see :class:`~course_lib.bn_transfer.ranks.Ranks`: those
            with the lowest mean Fréchet distance over the classes. That of all classes together, by which the published
            code chooses, does not notice which class a picture was asked for.
        keep: how many generators are kept.
        seed: of batches, noise and augmentation.
        loop: further arguments of :func:`course_lib.training.train`.
    """
    method = TransferMethod(data, "class", generator, critic, **settings.options)
    every = score_every if held is not None and score_every else max(steps, 1)
    options = {"log_every": 10, "checkpoint_every": 0, "preview_every": 0, "progress": False} | loop
    scores: dict[int, TransferScores] = {}
    points = [*range(0 if held is not None and score_every else every, steps, every), steps]
    with ExitStack() as stack:
        place = Path(folder) if folder else None
        if place is None and len(points) > 1:
            # Between two scores the state lies in files, so that a score changes nothing of what comes after.
            if torch.distributed.is_torchelastic_launched():
                raise CourseError("scores on the way, with several processes, need a folder that all of them see.")
            place = Path(stack.enter_context(TemporaryDirectory()))
        ranks = Ranks(folder, keep) if folder and held is not None else None
        for end in points:
            resume = place is not None
            history = train(method, Budget(end), settings.batch_size, folder=place, resume=resume, seed=seed, **options)
            trained = history.averaged.get("generator", generator)
            if held is not None and history.steps == end:
                scores[end] = held.score(settle(trained))
                if ranks is not None and first_process():
                    ranks.add(end, scores[end].class_frechet, trained.state_dict())
    return Transfer(settle(trained), critic, history, scores)
