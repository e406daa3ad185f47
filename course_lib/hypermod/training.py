"""Training of the hypernetwork: the published self-alignment with the source, and the transfer to new classes.

Source: the Hyper-Modulation code. Its transfer has a non-saturating logistic loss, R1, drawn samples of the labels of
the real batch, style mixing, a discriminator with one score a class, and an optional contrastive term.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.image_set import ImageSet
from ..errors import CourseError
from ..experts.autoencoder import LatentSpace
from ..gan_training import GANData, LogisticMethod, class_codes, encode_mirrored, logistic_generator, logistic_loss
from ..gans.stylegan import StyleGANConfig, StyleGANCritic
from ..training.method import Loss, Method
from .generator import HyperGenerator

# --- self-alignment ---------------------------------------------------------------------------------------------------


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


# --- the transfer -----------------------------------------------------------------------------------------------------


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
    ``LogisticMethod``.

    ``class_rate`` is a factor on the learning rate of the class network (baselines: the mapping network); the published
    code ends at 0.001, 2e-6 in all, which leaves the class vectors where they were drawn. ``contrastive`` weighs the
    Barlow Twins term; published 0.01, 0 leaves it out.
    """

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
        penalty = self.r1 if step % self.r1_every == 0 else 0.0
        loss = logistic_loss(partial(network, labels=labels), real, fake, penalty)
        if self.contrastive:
            for name, x in (("real", real), ("drawn", fake)):
                first, second = (network(random_view(x.detach(), self.draws)) for _ in range(2))
                term = self.contrastive * barlow_twins(first, second)
                loss.value, loss.scalars[f"contrastive {name}"] = loss.value + term, term.detach()
        return loss

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return logistic_generator(self.unwrapped("critic")(fake, labels).float())


def transfer_data(space: LatentSpace, data: ImageSet, dims: int) -> GANData:
    """Latents, codes of length ``dims``, classes of pictures with ``labels["class"]`` and of their mirror images."""
    device = space.centre.device
    latents = encode_mirrored(lambda part: space.encode(part.to(device)).flatten(1), data.batches(250))
    labels = data.labels["class"].repeat(2)
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
