"""New classes for a trained generator: what they begin at, what trains in which stage, and the training itself."""

import re
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
from ..gans.biggan import Discriminator, standing_statistics, start_weights
from ..training.method import Loss
from .propagation import TransferGenerator, check_mixtures

# --- where a new class begins -----------------------------------------------------------------------------------------


def fit_mixtures(new: Tensor, old: Tensor, spread: Tensor | None = None, ridge: float = 0.1) -> Tensor:
    """Weights of old classes ``(new, old)``, not negative and with the sum 1, whose mixture of mean features ``(old,
    F)`` is nearest to each of the new ones, ``(new, F)``. ``spread (F,)`` is the unit of distances, by default the
    deviation over the old classes; ``ridge`` shrinks the weights towards each other."""
    if new.shape[1] != old.shape[1]:
        raise CourseError(f"features have different lengths, {new.shape[1]} and {old.shape[1]}: use one network.")
    scale = (old.std(0) if spread is None else spread).double().clamp_min(1e-8)
    x, y = (((part.double() - old.double().mean(0)) / scale).numpy() for part in (old, new))
    length = np.sqrt(np.square(x).sum(1).mean())
    # Two kinds of rows are added to the least squares: small weights, and, with a large factor, the sum 1.
    rows = np.concatenate([x.T, length * np.sqrt(ridge) * np.eye(len(x)), 1e3 * length * np.ones((1, len(x)))])
    found = [nnls(rows, np.concatenate([target, np.zeros(len(x)), [1e3 * length]]))[0] for target in y]
    weights = torch.tensor(np.stack(found), dtype=torch.float32)
    return weights / weights.sum(1, keepdim=True)


@torch.no_grad()
def similar_mixtures(source: SourceModel, latents: Tensor, labels: Tensor) -> Tensor:
    """Mixtures ``(new, old)`` of the bundled old classes, of which twenty pictures each are looked at, that are like
    the training pictures of the new ones in the features of the old discriminator."""
    old = few_per_class(kind_classes(source.classes).part("train"), 20)
    device, pairs = next(source.discriminator.parameters()).device, []
    for some, owner in ((latents, labels), (source.encode(old), old.labels["class"])):
        seen = torch.cat([source.discriminator.features(part.float().to(device)).cpu() for part in some.split(250)])
        means = torch.stack([seen[owner == k].mean(0) for k in range(int(owner.max()) + 1)])
        pairs.append((means, seen - means[owner]))
    (new, _), (known, around) = pairs
    return fit_mixtures(new, known, around.std(0))


def _for_classes(network: nn.Module, classes: int) -> nn.Module:
    """A trainable copy for another number of classes, on the CPU, whose class table begins at random."""
    copy = type(network)(replace(network.config, classes=classes))
    kept = {name: t for name, t in network.state_dict().items() if not name.startswith(("embed.", "shared."))}
    copy.load_state_dict(kept, strict=False)
    return copy


@torch.no_grad()
def with_new_classes(source: nn.Module, classes: int, mixtures: Tensor | None = None) -> nn.Module:
    """A trainable copy with embeddings of new classes: mixtures ``(new, old)`` of the old ones, or at random, in a
    discriminator orthogonal, as published, in a generator distributed like the old ones."""
    copy, scored = _for_classes(source, classes), isinstance(source, Discriminator)
    if not scored and source.config.embedding is None:
        raise CourseError("fine-tuning is made for generators with class embeddings: this one keeps tables.")
    table, old = (one.embed if scored else one.shared for one in (copy, source))
    if scored:
        start_weights(table)
    else:
        table.weight.copy_(torch.randn(table.weight.shape).to(old.weight) * old.weight.std(0) + old.weight.mean(0))
    if mixtures is not None:
        check_mixtures(mixtures, classes, source.config.classes)
        table.weight.copy_(mixtures.to(old.weight) @ old.weight)
    return copy.to(old.weight.device)


@torch.no_grad()
def with_old(source: SourceModel, count: int, seed: int = 0) -> SourceModel:
    """The same with only ``count`` of the old classes, drawn at random."""
    if not 1 <= count <= len(source.classes) or source.generator.config.embedding is None:
        raise CourseError(f"choose from 1 to {len(source.classes)} old classes of a generator with embeddings.")
    index = torch.randperm(len(source.classes), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    generator, discriminator = (_for_classes(network, count) for network in (source.generator, source.discriminator))
    generator.shared.weight.copy_(source.generator.shared.weight[index])
    table = source.discriminator.embed
    discriminator.embed.load_state_dict({"weight": table.weight[index], "u0": table.u0[:, index], "sv0": table.sv0})
    place = {"device": table.weight.device, "memory_format": torch.channels_last}
    networks = (freeze(network.to(**place)) for network in (generator, discriminator))
    return SourceModel(source.name, *networks, source.space, tuple(source.classes[k] for k in index.tolist()))


# --- stages -----------------------------------------------------------------------------------------------------------

STAGES = ("bn", "ft", "free")
"""``bn``: only what belongs to the batch norms. ``ft``: then everything but the mixtures. ``free``: the baseline whose
gains and biases are learned freely: as ``bn``, but mixtures stay as they began and only the residuals learn."""

_KEPT = "old tables, embedding and output norm"
_PARTS = {
    "mixing weights A": (r"\.mixing\.weight", "bn"),
    "their offsets a0": (r"\.mixing\.bias", "bn"),
    "old classes P": (r"\.(table|update)\.", "bn"),
    "noise map Z, z0": (r"\.noise\.", "bn ft free"),
    "residuals R": (r"\.residual\.", "bn ft free"),
    "output norm": (r"^target\.output_layer\.0\.", "ft"),
    _KEPT: (r"$^", ""),  # no name: it is told by what the target draws with
    "convolutions, first layer, attention": (r"", "ft"),
}
"""What a generator consists of → pattern of the parameters' names, and the stages that train it. The first five belong
to the batch norms of new classes."""


def _groups(generator: TransferGenerator) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, by part; what ``target`` does not draw with is kept of the old network."""
    drawn = {id(parameter) for parameter in generator.target.parameters()}
    groups: dict[str, list[nn.Parameter]] = {part: [] for part in _PARTS}
    for name, parameter in generator.named_parameters():
        part = next(part for part, (pattern, _) in _PARTS.items() if re.search(pattern, name))
        groups[part if id(parameter) in drawn else _KEPT].append(parameter)
    return groups


def set_stage(generator: TransferGenerator, stage: str) -> TransferGenerator:
    """Sets in place which parameters train; ``ft`` gives the generator its own convolutions."""
    if stage not in STAGES:
        raise CourseError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}.")
    if stage == "ft":
        generator.unshare()
    for part, group in _groups(generator).items():
        for parameter in group:
            parameter.requires_grad_(stage in _PARTS[part][1].split())
    return generator


def stage_table(generator: TransferGenerator) -> list[tuple[str, int, bool]]:
    """What the generator consists of: part, how many numbers, and whether they train in the present stage."""
    groups = _groups(generator).items()
    return [(name, sum(p.numel() for p in group), any(p.requires_grad for p in group)) for name, group in groups]


def penalty(generator: TransferGenerator, l1: float = 0.01, l2: float = 0.01) -> Tensor:
    """l1 · Σ mean |A| + l2 · Σ mean R²: means over each tensor, A and a0 apart, summed over all. Where the weights have
    a spectral norm, the raw A is penalised, so that the function cannot shrink."""
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
    """How new classes are learned."""

    method: str = "propagation"  # one of METHODS
    init: str = "mixture"  # classes begin at a mixture of old ones, at the mean old class, or random, as published
    variant: str = "additive"  # one of PROPAGATIONS
    batch_size: int = 32
    schedule: GANSchedule = field(default_factory=GANSchedule)
    own_rate: float = 1.0  # factor on the rates of A and R, whose gradients come from one class each; published: 1
    l1: float = 0.01  # weights of the two penalties, see penalty()
    l2: float = 0.01
    critic_steps: int = 1  # discriminator's steps for each of the generator; published: 1
    ft_from: int | None = None  # step at which the second stage begins; None for the first stage alone
    constant: bool = False  # learning rates stay as they are, as published, or fall over the last 30 % of the steps
    adam_eps: float = 1e-8  # published: 1e-6 at 128 pixels, 1e-8 at 32
    beta2: float = 0.99  # published: 0.999

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
        """As the authors' scripts train, without decoded codes. ``imagenet``: on eight processes (2,048 pictures a
        step). ``cifar``: the code adds the losses of four batches in one step of the discriminator; here they are four
        steps, as its generator had been trained."""
        if variant not in _PUBLISHED:
            raise CourseError(f"published are 'imagenet' and 'cifar', not {variant!r}.")
        rates, own = _PUBLISHED[variant]
        schedule = GANSchedule(0, 0, reconstruction=0.0, code_noise=1.0, averaging=0.0, **rates)
        return cls("propagation", "random", variant, schedule=schedule, constant=True, beta2=0.999, **own)


_PUBLISHED: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "imagenet": ({"rate": 1e-4, "critic_rate": 4e-4}, {"batch_size": 256, "l2": 0.1, "adam_eps": 1e-6}),
    "cifar": ({"rate": 2e-4, "critic_rate": 2e-4}, {"batch_size": 50, "critic_steps": 4}),
}


class PropagationMethod(HingeMethod):
    """BigGAN's training on new classes, with the penalties of propagation: a :class:`TransferGenerator` trains by
    stages, of a plain one, a baseline, everything does."""

    def __init__(
        self,
        data: GANData,
        generator: nn.Module,
        discriminator: Discriminator,
        settings: PropagationSettings = PropagationSettings(),
        space: LatentSpace | None = None,
    ):
        classes, made = int(data.labels.max()) + 1, (generator.config.classes, discriminator.config.classes)
        if made != (classes, classes):
            found = f"{classes} classes, generator and discriminator {made[0]} and {made[1]}"
            raise CourseError(f"the data have {found}: make both with classes={classes}.")
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
        stages = {self.settings.stage(step) for step in (0, self.settings.ft_from or 0)}
        groups = _groups(self.modules["generator"])
        groups = {part: groups[part] for part, (_, trained) in _PARTS.items() if stages & set(trained.split())}
        own = [p for part in ("mixing weights A", "residuals R") for p in groups.pop(part, [])]
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
    """Latents of training pictures with ``labels["class"]``, and their noise vectors in the space of ``load_codes``."""
    latents, labels = source.encode(data), data.labels["class"]
    return GANData(latents, codes.codes(latents.flatten(1).float(), labels), labels)


@torch.no_grad()
def make_networks(
    source: SourceModel, settings: PropagationSettings, mixtures: Tensor, seed: int = 0
) -> tuple[nn.Module, Discriminator]:
    """Generator and discriminator of one method, ready to train; another start reads only the size of the mixtures
    ``(new, old)``; ``seed`` is that of random weights."""
    classes, device = len(mixtures), next(source.generator.parameters()).device
    starts = {"mixture": mixtures, "mean": torch.full_like(mixtures, 1 / mixtures.shape[1]), "random": None}
    begin = starts[settings.init]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.method == "scratch":
            old = (source.generator, source.discriminator)
            generator, discriminator = (type(one)(replace(one.config, classes=classes)) for one in old)
            start_weights(generator)
            start_weights(discriminator)
            return generator.to(device), discriminator.to(device)
        discriminator = with_new_classes(source.discriminator, classes, begin)
        if settings.method == "fine-tuning":
            return with_new_classes(source.generator, classes, begin), discriminator
        generator = TransferGenerator(source.generator, classes, settings.variant)
    generator.old_names = list(source.classes)
    if begin is not None:
        generator.init_at(begin)
    elif settings.method == "free":
        # Without mixtures: nothing but its own gains and biases, at random.
        for part in generator.propagations():
            nn.init.zeros_(part.mixing.weight)
            nn.init.zeros_(part.mixing.bias)
    return set_stage(generator, settings.stage(0)), discriminator


@torch.no_grad()
def recalibrate_batchnorm(generator: nn.Module, passes: int = 8, batch_size: int = 100) -> nn.Module:
    """Puts a trained generator in evaluation mode with standing statistics of evenly drawn classes."""
    device, noise = next(generator.parameters()).device, torch.Generator().manual_seed(0)

    def forward() -> None:
        labels = torch.randint(generator.config.classes, (batch_size,), generator=noise)
        z = torch.randn(batch_size, generator.config.noise, generator=noise)
        generator(z.to(device), generator.embed(labels.to(device)))

    standing_statistics(generator.eval(), forward, passes)
    return generator


@torch.no_grad()
def draw_new_classes(
    generator: nn.Module, space: LatentSpace | None, each: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, 3, S, S)`` on the CPU, ``each`` of every class in order, and labels; ``space`` decodes latents."""
    device, config = next(generator.parameters()).device, generator.config
    labels = torch.arange(config.classes).repeat_interleave(each)
    z = torch.randn(len(labels), config.noise, generator=torch.Generator().manual_seed(seed))
    parts = zip(z.split(100), labels.split(100), strict=True)
    drawn = torch.cat([generator(one.to(device), generator.embed(label.to(device))) for one, label in parts])
    return (drawn if space is None else space.decode(drawn)).cpu(), labels
