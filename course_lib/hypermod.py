"""Hyper-Modulation: a frozen StyleGAN that a hypernetwork makes class-conditional, and its training: the
published self-alignment with the source and the transfer to new classes.

Source: Laria et al. 2022 (Hyper-Modulation) and its code; the modulation is that of GAN Memory (Cong et al. 2020). A
source kernel ``w[o, i]`` of nine taps is stored standardised, ``W = (w − M) / S``. A class vector gives, through one
linear head a layer, ``γ`` and ``β`` for every pair of channels, and the layer convolves with ``c · (γ W + β)``: with
``γ = S / c`` and ``β = M / c`` that is the source layer again. The published transfer has a non-saturating logistic
loss, R1, drawn samples of the labels of the real batch, style mixing, a discriminator with one score a class, and an
optional contrastive term."""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data.image_set import ImageSet
from .errors import CourseError
from .experts.networks import LatentSpace
from .experts.protocol import Device, load_over_source
from .gan_training import GANData, LogisticMethod, class_codes, logistic_generator, logistic_loss
from .gans.stylegan import EqualConv2d, EqualLinear, StyleGAN, StyleGANConfig, StyleGANCritic, Synthesis, four_shifts
from .profiles import CHECKPOINTS
from .training.runs import Loss, Method

GROUPED_FROM = 0.5  # classes a picture above which one grouped convolution is used instead of one a class


def standardise_kernels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(…, k, k)`` → taps with mean 0 and unbiased standard deviation 1 (a constant kernel's are zero), mean, std."""
    mean, std = weight.mean((-1, -2)), weight.flatten(-2).std(-1)
    safe = torch.where(std > 0, std, 1.0)
    return (weight - mean[..., None, None]) / safe[..., None, None], mean, std


class ModulatedConv(nn.Module):
    """One modulated convolution in the place of ``source``, plain or fused with upsampling; its own tensors are frozen.
    ``published`` modulates the 4×4 kernel of a fused layer after the four shifts, with the released scale, so that
    released weights work; ours modulates the nine taps before, which alone can reproduce the source. ``pairs`` is ``(O,
    I)`` for a plain layer, ``(I, O)`` for a fused one: the order in which γ and β are read."""

    def __init__(self, source: EqualConv2d, published: bool = False):
        super().__init__()
        self.fused, self.published = bool(source.resample), published
        # Contiguous, so that the same source gives the same bits whatever its memory format.
        weight, bias = (source.weight.detach() * source.scale).contiguous(), source.bias.detach()
        self.pairs = tuple(weight.shape[:2])
        self.outputs = self.pairs[1] if self.fused else self.pairs[0]
        # The released code takes the wrong axis for the fan-in of a fused layer, and sixteen taps for nine.
        self.scale = math.sqrt(2 / (16 * self.outputs)) if self.fused and published else source.scale
        taps, mean, std = standardise_kernels(weight)
        spread = bias.std(unbiased=len(bias) > 1)
        standard = (bias - bias.mean()) / torch.where(spread > 0, spread, 1.0)
        start = {"source_gain": std / self.scale, "source_shift": mean / self.scale, "source_bias": bias - standard}
        for name, tensor in {"weight": taps, "bias": standard, **start}.items():
            self.register_buffer(name, tensor)

    def source(self) -> tuple[Tensor, Tensor, Tensor]:
        """γ, β ``(1, *pairs)`` and δ ``(1, O)`` of the source layer (in a published fused layer nearly so)."""
        return self.source_gain[None], self.source_shift[None], self.source_bias[None]

    def kernels(self, gain: Tensor, shift: Tensor) -> Tensor:
        """γ and β ``(N, *pairs)`` → N kernels."""
        # The factor goes to the small tensors, and the large one is made in one operation.
        gain, shift = (self.scale * part[..., None, None] for part in (gain, shift))
        if self.fused and self.published:
            return torch.addcmul(shift, gain, four_shifts(self.weight))
        kernels = torch.addcmul(shift, gain, self.weight)
        return four_shifts(kernels) if self.fused else kernels

    def forward(self, x: Tensor, gain: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
        """Pictures ``(B, I, H, W)`` under γ, β ``(B, *pairs)`` and δ ``(B, O)``, or one of each for all → ``(B, O,
        …)``."""
        return self.convolve(x, self.kernels(gain, shift), self.bias + bias)

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Convolves ``(B, I, H, W)`` with finished kernels, see :meth:`kernels`, and biases ``(N, O)``, the layer's
        own added: one for all pictures, one a picture, or one for each of ``sizes`` pictures in a row."""
        count = len(kernels)
        if count == 1:
            return self._convolve(x, kernels[0], bias[0])
        if sizes is not None:
            if count <= GROUPED_FROM * len(x):
                parts = zip(x.split(list(sizes)), kernels, bias, strict=True)
                return torch.cat([self._convolve(part, k, b) for part, k, b in parts if len(part)])
            repeats = torch.tensor(sizes, device=x.device)
            kernels, bias = kernels.repeat_interleave(repeats, 0), bias.repeat_interleave(repeats, 0)
        flat = x.reshape(1, -1, *x.shape[2:])
        out = self._convolve(flat, kernels.flatten(0, 1), bias.flatten(), groups=len(x))
        return out.view(len(x), self.outputs, *out.shape[2:])

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
        if self.fused:
            return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1, groups=groups)
        return F.conv2d(x, kernel, bias, padding=1, groups=groups)


class ClassNetwork(nn.Module):
    """Class indices ``(B,)`` → class vectors ``(B, width)``, which may be mixed: a table and four small layers."""

    def __init__(self, classes: int, width: int = 64, layers: int = 4):
        super().__init__()
        self.table = nn.Parameter(torch.randn(classes, width))
        self.scale = (2 / width) ** 0.5
        self.layers = nn.Sequential()
        for _ in range(layers):
            self.layers.extend([EqualLinear(width, width), nn.LeakyReLU(0.2)])

    def forward(self, labels: Tensor) -> Tensor:
        return self.layers(self.table[labels] * self.scale)


class FullHead(nn.Module):
    """One linear map from class vectors ``(N, width)`` to γ, β ``(N, *pairs)`` and δ ``(N, O)`` of one layer, as
    published; γ and β are interleaved in the last axis."""

    def __init__(self, layer: ModulatedConv, width: int, from_source: bool = False):
        super().__init__()
        rows, columns = self.pairs = layer.pairs
        self.kernel, self.bias = EqualLinear(width, 2 * rows * columns), EqualLinear(width, layer.outputs)
        if from_source:  # constants of the layer as biases, weights zero: whatever the class, this is the layer
            *kernel, bias = layer.source()
            for linear, start in ((self.kernel, torch.stack(kernel, -1).flatten()), (self.bias, bias[0])):
                nn.init.zeros_(linear.weight)
                linear.bias.data.copy_(start)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # In the precision of the weights whatever the run's: casting those would cost more than the product.
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(self.kernel.weight.dtype)
            gain, shift = self.kernel(vectors).view(len(vectors), *self.pairs, 2).unbind(-1)
            return gain, shift, self.bias(vectors)


class LowRankHead(nn.Module):
    """The same with γ and β those of the source layer plus a class-dependent product of matrices of ``rank``."""

    def __init__(self, layer: ModulatedConv, width: int, rank: int):
        super().__init__()
        rows, columns = layer.pairs
        self.thin, self.wide = (2, rows, rank), (2, rank, columns)
        self.left, self.right = EqualLinear(width, 2 * rank * rows), EqualLinear(width, 2 * rank * columns)
        self.bias = EqualLinear(width, layer.outputs)
        for name, tensor in zip(("gain", "shift", "offset"), layer.source(), strict=True):
            self.register_buffer(name, tensor.clone(), persistent=False)
        # One factor zero: the product starts at zero, and its gradient does not.
        nn.init.zeros_(self.left.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right = self.left(vectors).view(-1, *self.thin), self.right(vectors).view(-1, *self.wide)
        gain, shift = (left @ right / self.thin[2]).unbind(1)
        # Relative to the source's own size, so that one learning rate suits all layers.
        return self.gain * (1 + gain), self.shift + self.gain * shift, self.offset + self.bias(vectors)


class StyleHead(nn.Module):
    """Class vectors ``(N, width)`` → offsets ``(N, blocks, latent)`` of the style, 0 until they are trained."""

    def __init__(self, width: int, blocks: int, latent: int):
        super().__init__()
        self.sizes, self.linear = (blocks, latent), EqualLinear(width, blocks * latent)
        nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.linear(vectors).view(len(vectors), *self.sizes)


@dataclass(frozen=True)
class Modulation:
    """What N classes make of the convolutions, finished: compute it once, and draw many times."""

    kernels: list[Tensor]  # (N, …), one a convolution
    biases: list[Tensor]  # (N, O)
    styles: Tensor | None = None  # (N, blocks, latent), added to the style of a picture of the class

    def __len__(self) -> int:
        return len(self.biases[0])


class HyperGenerator(nn.Module):
    """Noise and class to pictures; without a class, the source generator's pictures, pixel for pixel. ``source``, whose
    ``config`` it has, is kept inside and frozen; ``width`` is the length of class vectors, ``rank`` that of the heads;
    None takes full heads, as published, with ten times the parameters of their layers. With ``start`` ``source`` every
    class begins as the source generator (ours, no data and no training needed); ``random`` heads need the published
    self-alignment first. For ``published`` see :class:`ModulatedConv`. ``finetune`` trains copies of constant, noise
    strengths, styles and to-RGB as well, where the published one trains the source's own. ``class_styles`` (ours) give
    each class an offset of the style w in every block, 0 at the start: AdaIN sets mean and deviation of every channel
    from the style alone, so that kernels cannot move a class's colours and contrasts."""

    class_names: Sequence[str] = ()  # where they are known

    def __init__(
        self,
        source: StyleGAN,
        classes: int,
        width: int = 64,
        rank: int | None = None,
        start: str = "source",
        published: bool = False,
        finetune: bool = False,
        class_styles: bool = False,
    ):
        super().__init__()
        self.source, self.config = source.requires_grad_(False), source.config
        self.classes = ClassNetwork(classes, width)
        self.convs, self.heads = nn.ModuleList(), nn.ModuleList()
        for layer in _convolutions(source.synthesis):
            conv = ModulatedConv(layer, published)
            head = FullHead(conv, width, start == "source") if rank is None else LowRankHead(conv, width, rank)
            self.convs.append(conv)
            self.heads.append(head)
        self.own = _without_convolutions(source.synthesis) if finetune else None
        self.style_head = StyleHead(width, len(source.synthesis.blocks), source.config.latent) if class_styles else None

    @property
    def synthesis(self) -> Synthesis:
        """What surrounds the modulated convolutions: the source's blocks and to-RGB, or the copies that train."""
        return self.source.synthesis if self.own is None else self.own

    def modulation(self, labels: Tensor) -> Modulation:
        """Finished kernels of class indices ``(N,)``, or class vectors ``(N, width)``, ``(N, blocks, width)``."""
        vectors = self.classes(labels) if labels.ndim == 1 else labels
        kernels, biases = [], []
        for index, (conv, head) in enumerate(zip(self.convs, self.heads, strict=True)):
            # The first block has one convolution, every other one two.
            gain, shift, bias = head(vectors if vectors.ndim == 2 else vectors[:, (index + 1) // 2])
            kernels.append(conv.kernels(gain, shift))
            biases.append(conv.bias + bias)
        if self.style_head is None:
            return Modulation(kernels, biases)
        if vectors.ndim == 2:
            return Modulation(kernels, biases, self.style_head(vectors))
        styles = self.style_head(vectors.flatten(0, 1)).unflatten(0, vectors.shape[:2])
        return Modulation(kernels, biases, styles.diagonal(dim1=1, dim2=2).transpose(1, 2))

    def features(
        self, w: Tensor, modulation: Modulation, noise: Sequence[Tensor], sizes: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Maps after each block, of what ``Synthesis.features`` and ``ModulatedConv.convolve`` take."""
        layers = iter(zip(self.convs, modulation.kernels, modulation.biases, strict=True))

        def convolve(x: Tensor) -> Tensor:
            conv, kernels, biases = next(layers)
            return conv.convolve(x, kernels, biases, sizes)

        return self.synthesis.features(w, noise, convolve)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | Modulation | None,
        noise: Sequence[Tensor] | None = None,
        truncation: float = 1.0,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of z ``(B, latent)`` or one a block, ``(B, blocks, latent)``; noise and truncation
        as :class:`StyleGAN` takes them. ``labels``: class indices ``(B,)``; class vectors ``(B, width)`` or ``(1,
        width)``, for example a mixture; finished kernels of one class, of every picture, or of the classes that ``owner
        (B,)`` points to; or None for the source domain."""
        noise = self.synthesis.noise(len(z)) if noise is None else noise
        if labels is None:
            return self.source(z, noise, truncation)
        if isinstance(labels, Tensor):
            if labels.ndim == 1:
                # Heads are the expensive part: each class of the batch goes through them once.
                labels, owner = labels.unique(return_inverse=True)
            labels = self.modulation(labels)
        w = self.source.styles(z, truncation)
        if labels.styles is not None:
            # Not truncated: the offset is what the class is, not where a picture lies in it.
            w = (w if w.ndim == 3 else w[:, None]) + (labels.styles if owner is None else labels.styles[owner])
        if owner is None or len(labels) == 1:
            *_, last = self.features(w, labels, noise)
            return self.synthesis.to_rgb[-1](last)
        # Sorted once for all layers: every class is then one slice of the batch.
        order, sizes = owner.argsort(stable=True), owner.bincount(minlength=len(labels)).tolist()
        *_, last = self.features(w[order], labels, [one[order] for one in noise], sizes)
        return self.synthesis.to_rgb[-1](last)[order.argsort()]

    def with_classes(self, classes: int, spread: float = 0.0) -> "HyperGenerator":
        """A copy for more classes, after self-alignment with one; ``spread`` is that of their vectors, published: 0."""
        grown = deepcopy(self)
        table = self.classes.table.detach()[:1].repeat(classes, 1)
        grown.classes.table = nn.Parameter(table + spread * torch.randn_like(table))
        return grown

    def groups(self, rate: float, class_rate: float) -> list[dict[str, Any]]:
        """What trains, for an optimiser; ``class_rate`` is a factor on ``rate`` for the class network."""
        fast = [p for name, p in self.named_parameters() if p.requires_grad and not name.startswith("classes.")]
        return [{"params": fast}, {"params": list(self.classes.parameters()), "lr": class_rate * rate}]


def _convolutions(synthesis: Synthesis) -> list[EqualConv2d]:
    """The convolutions that are modulated, in the order in which a picture passes them."""
    return [layer for layer in synthesis.blocks.modules() if isinstance(layer, EqualConv2d)]


def _without_convolutions(source: Synthesis) -> Synthesis:
    """A copy that trains, without the convolutions that are modulated."""
    own = deepcopy(source).requires_grad_(True)
    for layer in _convolutions(own):
        layer.weight = layer.bias = None
    # To-RGB of smaller sizes draws nothing here: what gets no gradient must not wait for one.
    own.to_rgb[:-1].requires_grad_(False)
    return own


HYPER_KIND = "hyper-modulated generator"
_TRAINED = ("heads.", "classes.", "own.", "style_head.")


def hyper_config(source: str, classes: list[str], width: int, rank: int | None, **options: bool) -> dict[str, Any]:
    """The ``config`` of the card: name of the source's checkpoint, names of the classes, options of the generator."""
    named = {"source": source, "classes": classes, "width": width, "rank": rank}
    return named | {"finetune": False, "class_styles": False} | options


def hyper_tensors(network: HyperGenerator) -> dict[str, Tensor]:
    """What the checkpoint holds: all that transfer trained."""
    return {name: value for name, value in network.state_dict().items() if name.startswith(_TRAINED)}


def load_hypermod(name: str = "avatar-hypermod", device: Device = "cpu", folder: Path = CHECKPOINTS) -> HyperGenerator:
    """A shipped hyper-modulated generator, frozen; its source lies in ``folder`` or is a shipped one."""
    return load_over_source(name, HYPER_KIND, HyperGenerator, hyper_tensors, device, folder)[0]


class AlignmentLoss(nn.Module):
    """Mean |first class − source| of the maps after each block, ``(blocks,)``, under the same z ``(B, latent)`` and
    noise maps. A module, so that the loop's wrappers (precision, several processes) see its forward pass."""

    def __init__(self, hyper: HyperGenerator):
        super().__init__()
        self.hyper = hyper

    def forward(self, z: Tensor, noise: Sequence[Tensor]) -> Tensor:
        source = self.hyper.source
        w = source.styles(z)
        with torch.no_grad():
            teacher = list(source.synthesis.features(w, noise))
        first = self.hyper.modulation(torch.zeros(1, dtype=torch.int64, device=z.device))
        student = self.hyper.features(w, first, noise)
        return torch.stack([(a - b).abs().mean() for a, b in zip(student, teacher, strict=True)]).float()


@torch.no_grad()
def picture_distance(hyper: HyperGenerator, z: Tensor, noise: Sequence[Tensor]) -> float:
    """The same of what is drawn."""
    first = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    return (hyper(z, first, noise) - hyper(z, None, noise)).abs().mean().item()


class SelfAlignmentMethod(Method):
    """The published self-initialisation, which a random start needs before any transfer: the hypernetwork, with one
    class and without ``finetune``, learns to imitate its source, without data. Published: 10,000 steps of 32. Every
    ``every`` steps (0: never) :func:`picture_distance` of sixteen fixed samples is logged as ``pictures``."""

    def __init__(self, hyper: HyperGenerator, rate: float = 2e-3, every: int = 0):
        super().__init__()
        if len(hyper.classes.table) != 1:
            raise CourseError("self-alignment knows one class: build with classes=1, then call with_classes(n).")
        if hyper.own is not None:
            raise CourseError("self-alignment trains heads alone: build the generator with finetune=False.")
        self.hyper, self.length, self.every = hyper.to(memory_format=torch.channels_last), 10_000, every
        self.modules = {"alignment": AlignmentLoss(hyper)}
        self.optimizers = {"alignment": torch.optim.Adam(hyper.groups(rate, 0.01), rate, (0.0, 0.99), fused=True)}

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Fresh z and noise; the index only says how many."""
        z = torch.randn(len(index), self.hyper.config.latent, generator=generator)
        return z.to(self.device), self.hyper.synthesis.noise(len(index), generator)

    def losses(self, batch: tuple[Tensor, list[Tensor]], generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase: the sum over blocks."""
        parts = self.modules["alignment"](*batch)
        scalars: dict = {f"block {index}": part.detach() for index, part in enumerate(parts)}
        if self.every and step % self.every == 0:
            z, noise = self.batch(torch.arange(16), torch.Generator().manual_seed(0))
            scalars["pictures"] = picture_distance(self.hyper, z, noise)
        yield Loss("alignment", parts.sum(), scalars)


class ConditionalDiscriminator(StyleGANCritic):
    """One trunk for all classes and one score each, which the label picks: the layer ``final`` of the paper's code."""

    def __init__(self, config: StyleGANConfig, classes: int):
        super().__init__(config, classes)
        # Only the full size comes: the entries of smaller ones would wait for a gradient.
        self.from_rgb[1:].requires_grad_(False)

    @classmethod
    def from_source(cls, source: StyleGANCritic, classes: int) -> "ConditionalDiscriminator":
        """A copy of ``source`` whose first 1×1 convolution is frozen; every class begins with its score (ours)."""
        network, state = cls(source.config, classes), source.state_dict()
        heads = {name: state[name][:1].repeat_interleave(classes, 0) for name in ("head.weight", "head.bias")}
        network.load_state_dict(state | heads)
        network.from_rgb.requires_grad_(False)
        return network

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Scores ``(B,)`` of the classes ``labels (B,)``; without labels the vectors ``(B, C)`` they are read from."""
        return self.features(images) if labels is None else super().forward(images, labels)


def barlow_twins(first: Tensor, second: Tensor, redundancy: float = 0.005) -> Tensor:
    """Σ_i (1 − C_ii)² + redundancy · Σ_{i≠j} C_ij², with C the correlation over the batch, and all processes, of the
    features ``(N, F)`` of two views, each standardised over its own batch (Zbontar et al. 2021)."""
    first, second = (F.batch_norm(x.float(), None, None, training=True) for x in (first, second))
    correlation = first.T @ second / len(first)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.nn.functional import all_reduce

        correlation = all_reduce(correlation) / torch.distributed.get_world_size()
    own = correlation.diagonal()
    return (1 - own).square().sum() + redundancy * (correlation.square().sum() - own.square().sum())


def random_view(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another view of every picture or latent ``(B, C, S, S)``, drawn with a CPU generator: an enlarged box of 8 to 100
    % of the area, 3:4 to 4:3, as published, contrast 0.6 to 1.4, a little noise; without the published hue and blur."""
    count = len(x)
    area = torch.empty(count).uniform_(0.08, 1.0, generator=generator)
    ratio = torch.empty(count).uniform_(-1, 1, generator=generator).mul(torch.tensor(4 / 3).log()).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1.0)
    centre = (1 - sides) * torch.empty(count, 2).uniform_(-1, 1, generator=generator)
    affine = torch.cat([torch.diag_embed(sides), centre[:, :, None]], 2).to(x)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    cropped = F.grid_sample(x, grid, "bicubic", "border", align_corners=False)
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.6, 1.4, generator=generator)
    return contrast.to(x) * cropped + 0.1 * torch.randn(x.shape, generator=generator).to(x)


class HyperModulationMethod(LogisticMethod):
    """The transfer of a hyper-modulated generator, or of a baseline with the same call: ``generator`` takes z, labels
    and noise maps, and has ``groups``, ``config`` and ``synthesis``. ``data`` and further options: see
    ``LogisticMethod``. ``class_rate`` is a factor on the learning rate of the class network (baselines: the mapping
    network); the published code ends at 0.001, 2e-6 in all, which leaves the class vectors where they were drawn.
    ``contrastive`` weighs the Barlow Twins term; published 0.01, 0 leaves it out."""

    def __init__(
        self,
        data: GANData,
        generator: nn.Module,
        discriminator: ConditionalDiscriminator,
        *options: Any,
        class_rate: float = 0.1,
        contrastive: float = 0.0,
        **named: Any,
    ):
        if generator.config != discriminator.config:
            raise CourseError("generator and discriminator were built for different sizes: take both from one source.")
        largest, scores = int(data.labels.max()), len(discriminator.head.weight)
        if largest >= scores:
            found = f"has {scores} classes and the data have label {largest}"
            raise CourseError(f"the discriminator {found}: build it with more classes.")
        self.class_rate, self.contrastive = class_rate, contrastive
        named["slots"] = len(generator.config.channels)
        super().__init__(data, generator, discriminator, *options, **named)

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        if name == "critic":
            return [{"params": [p for p in self.modules["critic"].parameters() if p.requires_grad]}]
        return self.modules["generator"].groups(rate, self.class_rate)

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        self.draws = generator
        yield from super().losses(batch, generator, step)

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        noise = self.unwrapped("generator").synthesis.noise(len(z), generator)
        return network(self.mixed(z, fresh, generator), labels, noise)

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        network = self.modules["critic"]
        loss = logistic_loss(partial(network, labels=labels), real, fake, self.penalty(step))
        if self.contrastive:
            for name, x in (("real", real), ("drawn", fake)):
                first, second = (network(random_view(x.detach(), self.draws)) for _ in range(2))
                term = self.contrastive * barlow_twins(first, second)
                loss.value, loss.scalars[f"contrastive {name}"] = loss.value + term, term.detach()
        return loss

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return logistic_generator(self.unwrapped("critic")(fake, labels).float())


def transfer_data(space: LatentSpace, data: ImageSet, dims: int) -> GANData:
    """Latents, codes of length ``dims``, classes of pictures with ``labels["class"]``, then of their mirror images."""
    device, labels = space.device, data.labels["class"].repeat(2)
    both = [[space.encode(x.to(device)).flatten(1).cpu() for x in (part, part.flip(-1))] for part in data.batches(250)]
    latents = torch.cat([one for side in zip(*both, strict=True) for one in side])
    return GANData(latents.view(-1, *space.shape), class_codes(latents, labels, dims), labels)


@torch.no_grad()
def draw_classes(network: nn.Module, labels: Tensor, space: LatentSpace | None = None, seed: int = 0) -> Tensor:
    """Pictures ``(N, 3, S, S)`` in [−1, 1] on the CPU of classes ``labels (N,)``, with the same z and noise for every
    generator; ``space`` decodes latents."""
    device, draws, pictures = next(network.parameters()).device, torch.Generator().manual_seed(seed), []
    for part in labels.split(96):
        z = torch.randn(len(part), network.config.latent, generator=draws).to(device)
        drawn = network(z, part.to(device), network.synthesis.noise(len(part), draws))
        pictures.append((drawn if space is None else space.decode(drawn)).clamp(-1, 1).float().cpu())
    return torch.cat(pictures)
