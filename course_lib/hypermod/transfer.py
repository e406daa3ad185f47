"""Transfer: a generator of one domain learns several classes of another from few pictures.

Source: the training of the Hyper-Modulation code: non-saturating logistic loss, R1, fakes of the labels of the real
batch, style mixing. What differs is in :class:`TransferSettings`; :data:`PUBLISHED` has the published values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet, resize
from ..errors import CourseError
from ..gans import augment
from ..gans.losses import logistic_critic, logistic_generator
from ..gans.stylegan import mix_styles
from ..gans.stylegan_critic import r1_penalty
from ..training.method import Loss, Method, frozen
from .baselines import ConditionalStyleGAN
from .contrastive import barlow_twins, two_views
from .critic import ConditionalCritic
from .generator import HyperGenerator

__all__ = ["PUBLISHED", "TransferMethod", "TransferSettings"]


@dataclass(frozen=True)
class TransferSettings:
    """Rates and weights.

    Attributes:
        rate: Adam's learning rate of the generator.
        class_rate: factor on it for the class network (baselines: the mapping network). The published code ends at
            0.001, 2e-6 in all, which leaves the class vectors where they were drawn.
        critic_rate: Adam's learning rate of the critic.
        r1: weight of the gradient penalty. The published 10/2 belongs to large pictures: see the recipe of the source.
        r1_every: steps between penalties, each that many times as strong.
        mixing: share of steps in which two styles rule the pictures.
        contrastive: weight of the Barlow Twins term; 0 leaves it out, published 0.01.
        ema: decay of the generator's average.
        augment: show the critic every picture through a random change (for few pictures).
        reconstruction: weight of the decoding error of known codes, where the method is given codes. Not in the
            published method: a critic needs many thousand steps until it tells classes apart, and this loss tells the
            generator at once.
        code_noise: share of fresh noise in a code, as a deviation.
        decode_first: share of the budget in which the generator only decodes, without the critic, at
            ``decode_rate`` times its learning rate: how the source itself began.
        decode_rate: that factor.
        decay: share of the budget, at its end, over which learning rates fall to a tenth.
    """

    rate: float = 1e-3
    class_rate: float = 0.1
    critic_rate: float = 2e-3
    r1: float = 0.1
    r1_every: int = 16
    mixing: float = 0.9
    contrastive: float = 0.0
    ema: float = 0.999
    augment: bool = True
    reconstruction: float = 0.0
    code_noise: float = 0.3
    decode_first: float = 0.0
    decode_rate: float = 5.0
    decay: float = 0.0


PUBLISHED = TransferSettings(rate=2e-3, class_rate=0.001, r1=5.0, r1_every=1, augment=False)
"""As released; ``contrastive=0.01`` with its option of that name."""


class TransferMethod(Method):
    """One generator step, then one critic step on the same generated pictures: one pass of the generator a step.

    Args:
        data: training pictures with ``labels[label]`` from 0.
        generator: hyper-modulated, or a baseline.
        critic: conditional.
        settings: rates and weights.
        label: name of the label that is the class.
        codes: ``(2, N, latent)``: the z that a picture, and its mirror image, shall be drawn from.

    Raises:
        CourseError: the set has no such label, generator and critic differ in size or number of classes, or the weight
            of a reconstruction is not zero and there are no codes.
    """

    def __init__(
        self,
        data: ImageSet,
        generator: HyperGenerator | ConditionalStyleGAN,
        critic: ConditionalCritic,
        settings: TransferSettings | None = None,
        label: str = "class",
        codes: Tensor | None = None,
    ):
        super().__init__()
        self.settings = settings = settings or TransferSettings()
        if label not in data.labels:
            raise CourseError(f"{data.name!r} has no label {label!r}: it has {', '.join(data.labels) or 'none'}.")
        if generator.config != critic.config:
            raise CourseError("generator and critic were built for different sizes: take both from one source.")
        if (settings.reconstruction or settings.decode_first) and codes is None:
            raise CourseError(
                "decoding needs codes of the pictures: give codes=…, or no reconstruction and decode_first."
            )
        self.labels, self.length, self.codes = data.labels[label], len(data), codes
        largest, scores = int(self.labels.max()), len(critic.head.weight)
        if largest >= scores:
            raise CourseError(
                f"the critic has {scores} classes and the data have label {largest}: build both networks with the "
                "number of classes of the data."
            )
        self.images = torch.cat([resize(part, generator.config.size) for part in data.batches(500)])
        self.modules = {
            "generator": generator.to(memory_format=torch.channels_last),
            "critic": critic.to(memory_format=torch.channels_last),
        }
        groups = generator.groups(settings.rate, settings.class_rate)
        trained = [parameter for parameter in critic.parameters() if parameter.requires_grad]
        self.optimizers = {
            "generator": torch.optim.Adam(groups, settings.rate, (0.0, 0.99), fused=True),
            "critic": torch.optim.Adam(trained, settings.critic_rate, (0.0, 0.99), fused=True),
        }
        self.ema, self.progress = {"generator": settings.ema}, 0.0

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.codes = None if self.codes is None else self.codes.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pictures, mirrored every other time, their classes and, where there are any, their codes."""
        flip = (torch.rand(len(index), generator=generator) < 0.5).to(self.device)
        index = index.to(self.device)
        images = self.images[index]
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        codes = None if self.codes is None else self.codes[flip.long(), index]
        return images.contiguous(memory_format=torch.channels_last), self.labels[index], codes

    def losses(
        self, batch: tuple[Tensor, Tensor, Tensor | None], generator: torch.Generator, step: int
    ) -> Iterator[Loss]:
        """The generator's phase and the critic's."""
        real, labels, codes = batch
        if self.progress < self.settings.decode_first:
            known = self._noisy(codes, generator)
            decoded = self.modules["generator"](known, labels, self._noise(len(known), generator))
            error = (decoded - real).abs().mean()
            yield Loss("generator", error, {"reconstruction": error.detach()})
            return
        known = self._noisy(codes[: max(2, len(codes) // 4)], generator) if self.settings.reconstruction else None
        fake, decoded = self._generate(labels, known, generator)
        with frozen(self.unwrapped("critic")), self.autocast():
            scores = self.unwrapped("critic")(self._seen(fake, generator), labels)
        value, scalars = logistic_generator(scores.float()), {}
        if known is not None:
            error = (decoded - real[: len(known)]).abs().mean()
            value, scalars = value + self.settings.reconstruction * error, {"reconstruction": error.detach()}
        yield Loss("generator", value, scalars)
        yield self._critic_loss(real, fake.detach(), labels, generator, step)

    def learning_rate(self, progress: float) -> float:
        """High while only decoding, after a short warm-up; then constant, and falling where ``decay`` says so."""
        self.progress = progress
        if progress < self.settings.decode_first:
            return self.settings.decode_rate * min(1.0, progress / 0.01 + 0.02)
        return min(1.0, 0.1 + 0.9 * (1 - progress) / self.settings.decay) if self.settings.decay else 1.0

    def _noise(self, count: int, generator: torch.Generator) -> list[Tensor]:
        return self.unwrapped("generator").synthesis.noise(count, generator)

    def _noisy(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        share = self.settings.code_noise
        return (1 - share**2) ** 0.5 * codes + share * torch.randn(codes.shape, generator=generator).to(codes)

    def _generate(self, labels: Tensor, known: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples of the classes ``labels``, and the pictures of known codes, of the first of these classes."""
        network, count = self.unwrapped("generator"), len(labels)
        z, other = torch.randn(2, count, network.config.latent, generator=generator).to(self.device)
        if known is not None:
            # Codes keep their one style, and share the pass with the samples.
            z, other, labels = (
                torch.cat([z, known]),
                torch.cat([other, known]),
                torch.cat([labels, labels[: len(known)]]),
            )
        noise = self._noise(len(z), generator)
        if torch.rand((), generator=generator) < self.settings.mixing:
            z = mix_styles(z, other, len(noise), generator)
        found = self.modules["generator"](z, labels, noise)
        return found[:count], found[count:]

    def _critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, generator: torch.Generator, step: int) -> Loss:
        settings, critic = self.settings, self.modules["critic"]
        penalised = step % settings.r1_every == 0
        seen = self._seen(real, generator).detach().requires_grad_(penalised)
        on_real, on_fake = critic(seen, labels).float(), critic(self._seen(fake, generator), labels).float()
        value = logistic_critic(on_real, on_fake)
        scalars = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach()}
        if penalised:
            scalars["r1"] = penalty = r1_penalty(on_real, seen)
            value = value + settings.r1 * settings.r1_every * penalty
        if settings.contrastive:
            for name, images in (("real", real), ("fake", fake)):
                first, second = (critic(view) for view in two_views(images, generator))
                scalars[f"contrastive {name}"] = term = settings.contrastive * barlow_twins(first, second)
                value = value + term
        return Loss("critic", value, {name: scalar.detach() for name, scalar in scalars.items()})

    def _seen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.settings.augment:
            return images
        return augment.colour(augment.translate(images, generator), generator)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Three rows of samples; a column keeps its class."""
        network, generator = self.unwrapped("generator"), torch.Generator().manual_seed(0)
        labels = torch.arange(8, device=self.device).remainder(int(self.labels.max()) + 1).repeat(3)
        z = torch.randn(24, network.config.latent, generator=generator).to(self.device)
        return network(z, labels, network.synthesis.noise(24, generator))
