"""New classes for a trained generator: what they begin at, what trains in which stage, and the training itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from ..data.avatars import kind_classes
from ..data.image_set import ImageSet, few_per_class
from ..errors import CourseError
from ..experts.autoencoder import LatentSpace
from ..experts.protocol import SourceModel, freeze
from ..gan_training import CodeSpace, GANData, GANSchedule, HingeMethod
from ..gans.biggan import Discriminator, Generator, standing_statistics, start_weights
from ..training.method import Loss
from .propagation import TransferGenerator, check_mixtures

__all__ = ["METHODS", "STAGES", "PropagationMethod", "PropagationSettings", "draw_new_classes", "fit_mixtures"]
__all__ += ["make_networks", "new_class_data", "penalty", "recalibrate_batchnorm", "set_stage", "similar_mixtures"]
__all__ += ["stage_table", "transfer_discriminator", "with_old"]

# --- where a new class begins -----------------------------------------------------------------------------------------


def fit_mixtures(new: Tensor, old: Tensor, spread: Tensor | None = None, ridge: float = 0.1) -> Tensor:
    """Weights of old classes, not negative and with the sum 1, whose mixture of feature means is nearest to each
    new.

    Args:
        new, old: ``(classes, F)`` mean features.
        spread: ``(F,)``: the unit of distances; by default the standard deviation over the old classes.
        ridge: shrinks the weights towards each other, in units of an old class's mean squared length.

    Raises:
        CourseError: features of different lengths.
    """
    if new.shape[1] != old.shape[1]:
        raise CourseError(f"features have different lengths, {new.shape[1]} and {old.shape[1]}: use one network.")
    scale = (old.std(0) if spread is None else spread).double().clamp_min(1e-8)
    center = old.double().mean(0)
    x, y = ((old.double() - center) / scale).numpy(), ((new.double() - center) / scale).numpy()
    length = np.sqrt(np.square(x).sum(1).mean())
    # Two kinds of rows are added to the least squares: small weights, and, with a large factor, the sum 1.
    rows = np.concatenate([x.T, length * np.sqrt(ridge) * np.eye(len(x)), 1e3 * length * np.ones((1, len(x)))])
    found = [nnls(rows, np.concatenate([target, np.zeros(len(x)), [1e3 * length]]))[0] for target in y]
    weights = torch.tensor(np.stack(found), dtype=torch.float32)
    return weights / weights.sum(1, keepdim=True)


@torch.no_grad()
def similar_mixtures(source: SourceModel, latents: Tensor, labels: Tensor) -> Tensor:
    """Mixtures of old classes that look like the new ones, ``(new, old)``, in the features of the old discriminator.

    The source's classes are bundled, twenty pictures of each are looked at; latents and labels are those of training
    pictures of the new classes.
    """
    old = few_per_class(kind_classes(source.classes).part("train"), 20)
    device = next(source.discriminator.parameters()).device
    seen = [
        torch.cat([source.discriminator.features(part.float().to(device)).cpu() for part in one.split(250)])
        for one in (latents, source.encode(old))
    ]
    owners = labels, old.labels["class"]
    means = [
        torch.stack([one[owner == k].mean(0) for k in range(int(owner.max()) + 1)])
        for one, owner in zip(seen, owners, strict=True)
    ]
    spread = (seen[1] - means[1][old.labels["class"]]).std(0)
    return fit_mixtures(*means, spread)


@torch.no_grad()
def transfer_discriminator(source: Discriminator, classes: int, mixtures: Tensor | None = None) -> Discriminator:
    """A trainable discriminator with copies of the old one's layers, and an embedding of new classes that begin at
    mixtures ``(new, old)`` of old embeddings; without mixtures at random, as published.

    Raises:
        CourseError: mixtures of another shape.
    """
    discriminator = Discriminator(replace(source.config, classes=classes))
    start_weights(discriminator.embed)
    state = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("embed.")}
    discriminator.load_state_dict(discriminator.state_dict() | state)
    if mixtures is not None:
        check_mixtures(mixtures, classes, source.config.classes)
        discriminator.embed.weight.copy_(mixtures.to(source.embed.weight) @ source.embed.weight)
    return discriminator.to(next(source.parameters()).device)


# --- stages -----------------------------------------------------------------------------------------------------------

STAGES = ("bn", "ft", "free")
"""``bn``: only what belongs to the batch norms. ``ft``: then everything but the mixtures. ``free``: the baseline whose
gains and biases are learned freely: as ``bn``, but mixtures stay as they began and only the residuals learn."""

_PARTS = {
    "mixing weights A": lambda part: [part.mixing.weight],
    "their offsets a0": lambda part: [part.mixing.bias],
    "old classes P": lambda part: list((part.table if hasattr(part, "table") else part.update).parameters()),
    "noise map Z, z0": lambda part: [] if part.noise is None else list(part.noise.parameters()),
    "residuals R": lambda part: [part.residual.weight],
}
_TRAINED = {
    "bn": {"mixing weights A", "their offsets a0", "old classes P", "noise map Z, z0", "residuals R"},
    "ft": {"noise map Z, z0", "residuals R", "convolutions, first layer, attention", "output norm"},
    "free": {"noise map Z, z0", "residuals R"},
}


def _groups(generator: TransferGenerator) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, by what it is; the first five belong to the batch norms of new classes."""
    parts = list(generator.propagations())
    groups = {name: [p for part in parts for p in select(part)] for name, select in _PARTS.items()}
    groups["output norm"] = list(generator.target.output_layer[0].parameters())
    known = {id(p) for group in groups.values() for p in group}
    drawn = {id(p) for p in generator.target.parameters()}
    kept = [p for p in generator.source.parameters() if not generator.shared or id(p) not in drawn]
    groups["old tables, embedding and output norm"] = kept
    known |= {id(p) for p in kept}
    groups["convolutions, first layer, attention"] = [p for p in generator.target.parameters() if id(p) not in known]
    return groups


def set_stage(generator: TransferGenerator, stage: str) -> TransferGenerator:
    """Sets in place which parameters train; the source never does, and ``ft`` gives the generator its own
    convolutions.

    Raises:
        CourseError: there is no such stage.
    """
    if stage not in STAGES:
        raise CourseError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}.")
    if stage == "ft":
        generator.unshare()
    for name, group in _groups(generator).items():
        for parameter in group:
            parameter.requires_grad_(name in _TRAINED[stage])
    return generator


def stage_table(generator: TransferGenerator) -> list[tuple[str, int, bool]]:
    """What the generator consists of: part, how many numbers, and whether they train in the present stage."""
    groups = _groups(generator).items()
    return [(name, sum(p.numel() for p in group), any(p.requires_grad for p in group)) for name, group in groups]


def penalty(generator: TransferGenerator, l1: float = 0.01, l2: float = 0.01) -> Tensor:
    """l1 · Σ mean |A| + l2 · Σ mean R²: means over each tensor, A and a0 apart, summed over all tensors.

    Published: 0.01 for the mixing weights and, for the residuals, 0.1 at 128 pixels and 0.01 at 32. Where the weights
    have a spectral norm, the raw A is penalised, so that the function cannot shrink.
    """
    total = torch.zeros((), device=next(generator.parameters()).device)
    for part in generator.propagations():
        total = total + l1 * (part.mixing.weight.abs().mean() + part.mixing.bias.abs().mean())
        total = total + l2 * part.residual.weight.square().mean()
    return total


# --- training ---------------------------------------------------------------------------------------------------------

METHODS = ("propagation", "free", "fine-tuning", "scratch")
"""``propagation`` is the taught method; ``free`` learns gains and biases of each class by themselves; ``fine-tuning``
trains all of the old generator, with new class embeddings; ``scratch`` trains all of one that begins at random."""


@dataclass(frozen=True)
class PropagationSettings:
    """How new classes are learned.

    Attributes:
        method: one of :data:`METHODS`.
        init: ``mixture``: classes begin at mixtures of old ones; ``mean``: all at the mean old class; ``random``: as
            published.
        variant: of the propagation.
        batch_size, schedule: see :class:`course_lib.gan_training.GANSchedule`.
        own_rate: factor on the generator's learning rates for what belongs to single classes, mixing weights and
            residuals, whose gradients come from the pictures of one class each. Published: 1.
        l1, l2: weights of the penalties, see :func:`penalty`.
        critic_steps: discriminator's steps for each of the generator. Published: 1.
        ft_from: step at which the second stage begins; None for the first stage alone.
        constant: whether learning rates stay as they are, as published, or fall over the last 30 % of the steps.
        adam_eps, beta2: Adam's. Published: 1e-6 at 128 pixels and 1e-8 at 32; 0.999.

    Raises:
        CourseError: there is no such method or start.
    """

    method: str = "propagation"
    init: str = "mixture"
    variant: str = "additive"
    batch_size: int = 32
    schedule: GANSchedule = field(default_factory=GANSchedule)
    own_rate: float = 1.0
    l1: float = 0.01
    l2: float = 0.01
    critic_steps: int = 1
    ft_from: int | None = None
    constant: bool = False
    adam_eps: float = 1e-8
    beta2: float = 0.99

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CourseError(f"there is no method {self.method!r}: choose one of {', '.join(METHODS)}.")
        if self.init not in ("mixture", "mean", "random"):
            raise CourseError(f"a transfer starts from 'mixture', 'mean' or 'random', not {self.init!r}.")

    def stage(self, step: int) -> str:
        """One of :data:`STAGES`."""
        if self.ft_from is not None and step >= self.ft_from:
            return "ft"
        return "free" if self.method == "free" else "bn"

    @classmethod
    def published(cls, variant: str) -> "PropagationSettings":
        """As the authors' scripts train, without decoded codes; both were run to thousands of steps on GPUs.

        ``imagenet``: on eight processes (2,048 pictures a step). ``cifar``: the code adds the losses of four batches in
        one step of the discriminator; here they are four steps, as its generator had been trained.

        Raises:
            CourseError: another variant.
        """
        own = {
            "imagenet": {"batch_size": 256, "l2": 0.1, "adam_eps": 1e-6},
            "cifar": {"batch_size": 50, "critic_steps": 4},
        }
        if variant not in own:
            raise CourseError(f"published are 'imagenet' and 'cifar', not {variant!r}.")
        rates = {"rate": 1e-4, "critic_rate": 4e-4} if variant == "imagenet" else {"rate": 2e-4, "critic_rate": 2e-4}
        schedule = GANSchedule(decode=0, lead=0, reconstruction=0.0, code_noise=1.0, averaging=0.0, **rates)
        return cls("propagation", "random", variant, schedule=schedule, constant=True, beta2=0.999, **own[variant])


class PropagationMethod(HingeMethod):
    """BigGAN's training on new classes, with the penalties of propagation.

    It trains any class-conditional generator, so baselines are trained by the same code: a :class:`TransferGenerator`
    trains by stages, of a plain one everything does. See :func:`new_class_data` and :func:`make_networks`.

    Raises:
        CourseError: the networks have another number of classes than the data.
    """

    def __init__(
        self,
        data: GANData,
        generator: nn.Module,
        discriminator: Discriminator,
        settings: PropagationSettings = PropagationSettings(),
        space: LatentSpace | None = None,
    ):
        classes = int(data.labels.max()) + 1
        if generator.config.classes != classes or discriminator.config.classes != classes:
            raise CourseError(
                f"the data have {classes} classes, the generator {generator.config.classes} and the discriminator "
                f"{discriminator.config.classes}: make both with classes={classes}."
            )
        self.settings, self.propagated = settings, isinstance(generator, TransferGenerator)
        if self.propagated:
            set_stage(generator, settings.stage(settings.ft_from or 0))  # the last one gives it its own convolutions
            set_stage(generator, settings.stage(0))
        super().__init__(data, generator, discriminator, settings.schedule, space)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group |= {"eps": settings.adam_eps, "betas": (0.0, settings.beta2)}
        if not settings.schedule.averaging:
            self.ema = {}

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        if name == "critic" or not self.propagated:
            return super().groups(name, rate)
        # As published, the optimiser has what trains in any stage; what has no gradient now does not move.
        ends = {self.settings.stage(step) for step in (0, self.settings.ft_from or 0)}
        trained = set().union(*(_TRAINED[stage] for stage in ends))
        groups = {key: group for key, group in _groups(self.modules["generator"]).items() if key in trained}
        own = [p for key in ("mixing weights A", "residuals R") for p in groups.pop(key, [])]
        shared = [p for group in groups.values() for p in group]
        return [{"params": shared}, {"params": own, "lr": rate * self.settings.own_rate}]

    def _penalty(self) -> Tensor | float:
        return penalty(self.unwrapped("generator"), self.settings.l1, self.settings.l2) if self.propagated else 0.0

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Sets the stage; further steps of the discriminator on fresh draws, then those of GANMethod."""
        if self.propagated:
            set_stage(self.unwrapped("generator"), self.settings.stage(step))
        for _ in range(self.settings.critic_steps - 1 if step >= self.schedule.decode else 0):
            index = torch.randint(self.length, (len(batch[2]),), generator=generator)
            real, codes, labels = self.batch(index, generator)
            with torch.no_grad():
                fake = self.generate(self.modules["generator"], codes, labels, generator, len(labels)).float()
            real, fake = (x + self.noise * torch.randn(x.shape, generator=generator).to(x) for x in (real, fake))
            yield self.critic_loss(real, fake, labels, step)
        yield from super().losses(batch, generator, step)

    def decoding_loss(self, batch: tuple, generator: torch.Generator) -> Loss:
        loss = super().decoding_loss(batch, generator)
        loss.value = loss.value + self._penalty()
        return loss

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return super().generator_loss(fake, labels) + self._penalty()

    def learning_rate(self, progress: float) -> float:
        return 1.0 if self.settings.constant else super().learning_rate(progress)


@torch.no_grad()
def new_class_data(source: SourceModel, data: ImageSet, codes: CodeSpace) -> GANData:
    """Latents of training pictures with ``labels["class"]``, and their noise vectors in the space of
    :func:`~course_lib.gan_training.load_codes`."""
    latents, labels = source.encode(data), data.labels["class"]
    return GANData(latents, codes.codes(latents.flatten(1).float(), labels), labels)


def with_old(source: SourceModel, count: int, seed: int = 0) -> SourceModel:
    """The same with only ``count`` of the old classes, drawn at random: how much do many of them help?

    Raises:
        CourseError: there are not so many, or the generator keeps tables.
    """
    if not 1 <= count <= len(source.classes) or source.generator.config.embedding is None:
        raise CourseError(f"choose from 1 to {len(source.classes)} old classes of a generator with embeddings.")
    index = torch.randperm(len(source.classes), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return replace(
        source,
        generator=_rows(source.generator, "shared", index),
        discriminator=_rows(source.discriminator, "embed", index),
        classes=tuple(source.classes[k] for k in index.tolist()),
    )


def _rows(network: nn.Module, table: str, index: Tensor) -> nn.Module:
    """The same frozen network with some rows of its class table (in the discriminator σ rescales what is left)."""
    fewer = type(network)(replace(network.config, classes=len(index)))
    state = network.state_dict()
    state[f"{table}.weight"] = state[f"{table}.weight"][index]
    if f"{table}.u0" in state:
        state[f"{table}.u0"] = state[f"{table}.u0"][:, index]
    fewer.load_state_dict(state)
    return freeze(fewer.to(next(network.parameters()).device, memory_format=torch.channels_last))


@torch.no_grad()
def make_networks(
    source: SourceModel, settings: PropagationSettings, mixtures: Tensor, seed: int = 0
) -> tuple[nn.Module, Discriminator]:
    """Generator and discriminator of one method, ready to train; ``seed`` is that of random weights.

    All methods but ``scratch`` begin with the source's discriminator. ``mixtures`` are ``(new, old)``; with another
    start only their size counts.
    """
    classes, device = len(mixtures), next(source.generator.parameters()).device
    if settings.init == "mean":
        mixtures = torch.full_like(mixtures, 1 / mixtures.shape[1])
    begin = None if settings.init == "random" else mixtures
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.method == "scratch":
            new = (Generator, source.generator), (Discriminator, source.discriminator)
            generator, discriminator = (kind(replace(old.config, classes=classes)) for kind, old in new)
            start_weights(generator)
            start_weights(discriminator)
            return generator.to(device), discriminator.to(device)
        discriminator = transfer_discriminator(source.discriminator, classes, begin)
        if settings.method == "fine-tuning":
            return _fine_tuned(source.generator, classes, begin), discriminator
        generator = TransferGenerator(source.generator, classes, settings.variant)
        generator.old_names = list(source.classes)
        if begin is not None:
            generator.init_at(begin)
        elif settings.method == "free":
            # Without mixtures: nothing but its own gains and biases, at random.
            for part in generator.propagations():
                part.mixing.weight.zero_()
                part.mixing.bias.zero_()
        return set_stage(generator, settings.stage(0)), discriminator


@torch.no_grad()
def _fine_tuned(source: Generator, classes: int, mixtures: Tensor | None) -> Generator:
    """A trainable copy with embeddings of new classes: mixtures of the old ones, or distributed like them."""
    if source.config.embedding is None:
        raise CourseError("fine-tuning is made for generators with class embeddings: this one keeps tables.")
    generator, old = Generator(replace(source.config, classes=classes)), source.shared.weight
    fresh = torch.randn(classes, old.shape[1]).to(old) * old.std(0) + old.mean(0)
    state = source.state_dict() | {"shared.weight": fresh if mixtures is None else mixtures.to(old) @ old}
    generator.load_state_dict(state)
    return generator.to(old.device)


@torch.no_grad()
def recalibrate_batchnorm(generator: nn.Module, passes: int = 8, batch_size: int = 100, seed: int = 0) -> nn.Module:
    """Puts a trained generator in evaluation mode with standing statistics of evenly drawn classes."""
    generator.eval()
    device, noise = next(generator.parameters()).device, torch.Generator().manual_seed(seed)

    def forward() -> None:
        labels = torch.randint(generator.config.classes, (batch_size,), generator=noise)
        z = torch.randn(batch_size, generator.config.noise, generator=noise)
        generator(z.to(device), generator.embed(labels.to(device)))

    standing_statistics(generator, forward, passes)
    return generator


@torch.no_grad()
def draw_new_classes(
    generator: nn.Module, space: LatentSpace | None, each: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, 3, S, S)`` on the CPU, ``each`` of every class in order, and their labels; ``space`` decodes
    latents."""
    device, config = next(generator.parameters()).device, generator.config
    labels = torch.arange(config.classes).repeat_interleave(each)
    z = torch.randn(len(labels), config.noise, generator=torch.Generator().manual_seed(seed))
    parts = zip(z.split(100), labels.split(100), strict=True)
    drawn = torch.cat([generator(one.to(device), generator.embed(label.to(device))) for one, label in parts])
    return (drawn if space is None else space.decode(drawn)).cpu(), labels
