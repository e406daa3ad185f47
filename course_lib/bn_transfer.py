"""New classes for a trained BigGAN (cGANTransfer): class propagation, what trains in which stage, and the training.

The gain (or bias) of a new class is a learned mixture of those of all old classes. A class-conditional batch norm asks
two maps for the gain and the bias of a class. Here each map is replaced by one for new classes, with ``e`` the one-hot
vector of a new class (or a mixture of several) and ``z`` the layer's part of the noise::

    mixing weights  a = A e + a0               how much of every old class
    offset            = P a + Z z + z0 + R e   mixture, noise, and the residual: what the new class has of its own

The gain is 1 + offset: the mixture acts on offsets, never on 1 + offset, whose sum would depend on how large the
weights are. Gain and bias have weights of their own, at every layer. Source: Shahbazi et al. 2021 and its code."""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn import functional as F

from .data.avatars import kind_classes
from .data.image_set import ImageSet, few_per_class
from .errors import CourseError
from .experts.networks import LatentSpace
from .experts.protocol import Device, SourceModel, freeze, load_over_source
from .gan_training import CodeSpace, GANData, GANSchedule, HingeMethod
from .gans.biggan import ClassNorm, Discriminator, Generator, SNLinear, standing_statistics, start_weights
from .profiles import CHECKPOINTS
from .training.runs import Loss, folder_of, load_card

PROPAGATIONS = ("additive", "imagenet", "cifar")
"""``additive`` is ours; the other two are the published ones, which differ from each other."""


class Propagation(nn.Module):
    """The map for new classes in the place of a gain or bias of :class:`course_lib.gans.biggan.ClassNorm`.
    ``additive``: the old map stays as it is, with its scale (``knowledge``, ``matrix``), and what is learned is added:
    P and Z are the old ones plus ``update`` and ``noise``, zero at the start. A one-hot mixture alone is an old class,
    bit for bit. ``imagenet``: mixing weights, old classes (``table``) and noise map are each divided by their own
    largest singular value, so that the checkpoint's scale is lost, and an old class cannot be copied. ``cifar``: plain
    linear maps, and a bias on the old classes. ``old`` is an :class:`~course_lib.gans.biggan.SNLinear` over embedding
    ``(old classes, E)`` and z, in evaluation mode; or a table, without embedding, z and the variant ``imagenet``."""

    @torch.no_grad()
    def __init__(self, old: nn.Module, embedding: Tensor | None, new: int, variant: str = "additive"):
        super().__init__()
        if variant not in PROPAGATIONS:
            raise CourseError(f"there is no variant {variant!r}: choose one of {', '.join(PROPAGATIONS)}.")
        if variant == "imagenet" and embedding is None:
            raise CourseError("this generator keeps tables of classes: take the variant 'cifar' or 'additive'.")
        if new < 1:
            raise CourseError("there must be at least one new class.")
        self.new, self.additive, spectral = new, variant == "additive", variant == "imagenet"
        knowledge = old.weight if embedding is None else embedding
        matrix = None if embedding is None else old.normalised() if self.additive else old.weight
        channels = knowledge.shape[1] if matrix is None else len(matrix)
        self.chunk = 0 if matrix is None else matrix.shape[1] - knowledge.shape[1]

        linear = partial(SNLinear, eps=1e-12) if spectral else nn.Linear
        self.mixing = linear(new, len(knowledge))
        if self.additive:
            self.update = nn.Linear(len(knowledge), channels, bias=False)
        elif spectral:
            self.table = SNLinear(len(knowledge), channels, bias=False, eps=old.sn_eps)
        else:
            self.table = nn.Linear(len(knowledge), channels)
        self.noise = linear(self.chunk, channels) if self.chunk else None
        self.residual = nn.Linear(new, channels, bias=False)
        self.to(knowledge)
        if self.additive:
            for parameter in (*self.update.parameters(), *(self.noise.parameters() if self.chunk else ())):
                parameter.zero_()
            # Not in the state dict: they are the old checkpoint's, which is shipped once.
            self.register_buffer("knowledge", knowledge.clone(), persistent=False)
            self.register_buffer("matrix", None if matrix is None else matrix.clone(), persistent=False)
        elif matrix is None:
            self.table.weight.copy_(knowledge.T)
        else:
            self.table.weight.copy_(matrix[:, : -self.chunk] @ knowledge.T)
            self.noise.weight.copy_(matrix[:, -self.chunk :])

    def forward(self, condition: Tensor) -> Tensor:
        """Class weights with the layer's part of z ``(B, new + chunk)`` → offsets ``(B, channels)``."""
        if condition.shape[1:] != (self.new + self.chunk,):
            wanted = f"{self.new} class weights and {self.chunk} numbers of z"
            raise CourseError(f"this layer reads {wanted}, not {tuple(condition.shape)}: use `embed`.")
        classes, z = condition.split([self.new, self.chunk], 1)
        weights = self.mixing(classes)
        if self.additive:
            offset = weights @ self.knowledge
            if self.matrix is not None:
                offset = F.linear(torch.cat([offset, z], 1), self.matrix)
            offset = offset + self.update(weights)
        else:
            offset = self.table(weights)
        offset = offset + self.residual(classes)
        return offset if self.noise is None else offset + self.noise(z)

    @torch.no_grad()
    def mixing_weights(self) -> Tensor:
        """Of each new class over the old ones, ``(new, old)``; not normalised, of either sign."""
        look = deepcopy(self.mixing).eval()  # which must not move the spectral vector
        return look(torch.eye(self.new).to(look.weight))

    @torch.no_grad()
    def init_at(self, mixtures: Tensor) -> None:
        """Sets the mixing weights to ``mixtures: (new, old)``, and what is added to the mixture to zero."""
        for name, parameter in self.named_parameters():
            if self.additive or name not in ("table.weight", "noise.weight"):
                parameter.zero_()
        self.mixing.weight.copy_(mixtures.T)


def class_norms(generator: Generator) -> Iterator[ClassNorm]:
    """The class-conditional batch norms, from the first to the last."""
    for block in generator.blocks:
        yield block[0].bn1
        yield block[0].bn2


def _trainable(network: nn.Module, classes: int | None = None) -> nn.Module:
    """A copy on the CPU that trains; one for another number of ``classes`` has a class table that begins at random."""
    copy = type(network)(network.config if classes is None else replace(network.config, classes=classes))
    state, tables = network.state_dict(), () if classes is None else ("embed.", "shared.")
    copy.load_state_dict({name: t for name, t in state.items() if not name.startswith(tables)}, strict=False)
    return copy


class TransferGenerator(nn.Module):
    """BigGAN whose new classes are mixtures of its old ones. ``source``, a frozen copy, draws the old classes.
    ``target`` draws the new ones, with statistics of its own, and propagation layers instead of tables. In our variant
    its other layers *are* those of ``source`` if they are ``shared``, until :meth:`unshare`; the published ones, whose
    spectral vectors move in every step, have copies from the start. Mixing weights and residuals begin orthogonal, as
    published; see :meth:`init_at`."""

    def __init__(self, source: Generator, classes: int, variant: str = "additive", shared: bool = True):
        super().__init__()
        self.variant, self.config = variant, replace(source.config, classes=classes)
        self.class_names: list[str] = []  # where they are known, as the old ones are
        self.old_names: list[str] = []
        self.source = freeze(deepcopy(source))
        self.target = _trainable(self.source)
        embedding = self.source.shared.weight if source.config.embedding is not None else None
        for old, new in zip(class_norms(self.source), class_norms(self.target), strict=True):
            for side in ("gain", "bias"):
                setattr(new, side, Propagation(getattr(old, side), embedding, classes, variant))
        if embedding is not None:
            del self.target.shared
        for part in self.propagations():
            start_weights(part.mixing)
            start_weights(part.residual)
        if variant == "additive":
            self._set_layers(self.source)
        self.to(next(source.parameters()).device)
        if not shared:
            self.unshare()

    def _set_layers(self, owner: Generator) -> None:
        """Everything except batch norms comes from ``owner``, by reference."""
        self.target.linear, self.target.output_layer[2] = owner.linear, owner.output_layer[2]
        for block, other in zip(self.target.blocks, owner.blocks, strict=True):
            for name in ("conv1", "conv2", "conv_sc"):
                setattr(block[0], name, getattr(other[0], name))
            for index in range(1, len(block)):
                block[index] = other[index]

    @property
    def shared(self) -> bool:
        """Whether old and new classes are drawn by the same convolutions."""
        return self.target.linear is self.source.linear

    def unshare(self) -> None:
        """Gives ``target`` copies of the layers it shares, which can then be trained without harm to ``source``."""
        if self.shared:
            place = next(self.source.parameters()).device
            self._set_layers(_trainable(self.source).to(place, memory_format=torch.channels_last))

    def propagations(self) -> Iterator[Propagation]:
        """The maps to gains and biases, from the first layer to the last, gain before bias."""
        for norm in class_norms(self.target):
            yield norm.gain
            yield norm.bias

    def init_at(self, mixtures: Tensor) -> None:
        """Begins at mixtures ``(new, old)``, at every layer; a one-hot row is an old class (ours: to the bit)."""
        check_mixtures(mixtures, self.config.classes, self.source.config.classes)
        for part in self.propagations():
            part.init_at(mixtures.to(part.mixing.weight))

    def embed(self, labels: Tensor) -> Tensor:
        """New classes ``(B,)`` → condition ``(B, new)``, one-hot; rows in between are mixtures of new classes."""
        return F.one_hot(labels, self.config.classes).to(next(self.parameters()).dtype)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """What the source draws, latents or pictures, of new classes: z ``(B, noise)``, condition of :meth:`embed`."""
        return self.target(z, condition)

    @torch.no_grad()
    def old(self, z: Tensor, labels: Tensor) -> Tensor:
        """The same of old classes ``(B,)``: that of the source, whatever was trained."""
        return self.source(z, self.source.embed(labels))


def check_mixtures(mixtures: Tensor, new: int, old: int) -> None:
    """A CourseError unless there is a row for each new class with a weight for each old one."""
    if mixtures.shape != (new, old):
        raise CourseError(f"mixtures must be {(new, old)} (new classes, old classes), not {tuple(mixtures.shape)}.")


BN_KIND = "transferred biggan"


def transfer_config(generator: TransferGenerator, source: str, classes: list[str]) -> dict[str, Any]:
    """For the card: which generator it was made of, and what its new classes are called."""
    return {"source": source, "classes": classes, "variant": generator.variant, "shared": generator.shared}


def bn_transfer_tensors(generator: TransferGenerator) -> dict[str, Tensor]:
    """What ``target`` does not share with ``source``: its batch norms and, after the second stage, the rest."""
    state = generator.target.state_dict()
    own = ("bn1.", "bn2.", "output_layer.0.")
    return {name: t for name, t in state.items() if not generator.shared or any(part in name for part in own)}


def load_bn_transfer(
    name: str = "avatar-bn-transfer", device: Device = "cpu", folder: Path = CHECKPOINTS
) -> TransferGenerator:
    """A shipped transfer, frozen, with the names of its classes; its source lies in ``folder`` or is a shipped one."""
    generator, card = load_over_source(name, BN_KIND, TransferGenerator, bn_transfer_tensors, device, folder)
    source = card.config["source"]
    generator.old_names = list(load_card(source, folder_of(source, folder)).recipe["classes"])
    return generator


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
    for some, owner in ((latents, labels), (source.space.encode_set(old), old.labels["class"])):
        seen = torch.cat([source.discriminator.features(part.float().to(device)).cpu() for part in some.split(250)])
        means = torch.stack([seen[owner == k].mean(0) for k in range(int(owner.max()) + 1)])
        pairs.append((means, seen - means[owner]))
    (new, _), (known, around) = pairs
    return fit_mixtures(new, known, around.std(0))


@torch.no_grad()
def with_new_classes(source: nn.Module, classes: int, mixtures: Tensor | None = None) -> nn.Module:
    """A trainable copy with embeddings of new classes: mixtures ``(new, old)`` of the old ones, or at random, in a
    discriminator orthogonal, as published, in a generator distributed like the old ones."""
    copy, scored = _trainable(source, classes), isinstance(source, Discriminator)
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
    generator, discriminator = (_trainable(network, count) for network in (source.generator, source.discriminator))
    generator.shared.weight.copy_(source.generator.shared.weight[index])
    table = source.discriminator.embed
    discriminator.embed.load_state_dict({"weight": table.weight[index], "u0": table.u0[:, index], "sv0": table.sv0})
    place = {"device": table.weight.device, "memory_format": torch.channels_last}
    networks = (freeze(network.to(**place)) for network in (generator, discriminator))
    return SourceModel(source.name, *networks, source.space, tuple(source.classes[k] for k in index.tolist()))


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
    latents, labels = source.space.encode_set(data), data.labels["class"]
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
def draw_new_classes(network: nn.Module, space: LatentSpace | None, each: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, 3, S, S)`` on the CPU, ``each`` of every class in order, and labels; ``space`` decodes latents."""
    device, config = next(network.parameters()).device, network.config
    labels = torch.arange(config.classes).repeat_interleave(each)
    z = torch.randn(len(labels), config.noise, generator=torch.Generator().manual_seed(seed))
    parts = zip(z.split(100), labels.split(100), strict=True)
    drawn = torch.cat([network(one.to(device), network.embed(label.to(device))) for one, label in parts])
    return (drawn if space is None else space.decode(drawn)).cpu(), labels
