"""Training of a generator on new classes: hinge loss, a critic that always learns, and the penalties of propagation."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data import ImageSet, resize
from ..errors import CourseError
from ..gans import Discriminator, augment
from ..gans.class_norm import synchronise
from ..gans.losses import hinge_critic, hinge_generator
from ..training.method import Loss, Method, frozen
from .generator import TransferGenerator
from .stages import parameter_groups, penalty

__all__ = ["TransferMethod"]


class TransferMethod(Method):
    """The published training: in each step the critic, then the generator; labels of generated pictures are uniform.

    It trains any class-conditional generator, so baselines are trained by the same code.

    Args:
        data: pictures of the new classes.
        label: name of the label that holds the class, from 0.
        generator: a :class:`TransferGenerator` after :func:`~course_lib.bn_transfer.stages.set_stage`, or a plain
            :class:`course_lib.gans.Generator`, all of which trains.
        critic: of as many classes.
        rate: Adam's learning rate of the generator. Published: 1e-4 at 128 pixels, 2e-4 at 32.
        critic_rate: of the critic. Published: 4e-4, 2e-4.
        own_rate: factor on ``rate`` for what belongs to single classes, scores and residuals. Published: 1.
        l1, l2: weights of the penalties on scores and on residuals, see :func:`~course_lib.bn_transfer.stages.penalty`.
        augmented: the critic sees every picture through a random change (see :mod:`course_lib.gans.augment`).
            Published: no.
        critic_steps: of each step of the generator, on fresh noise and fresh pictures. Published: 1.
        decay: of the generator's moving average; 0 for none, as published.
        codes: ``(2, N, noise)``: a noise vector for each picture and its mirror image, see
            :class:`course_lib.gans.codes.CodeSpace`. Published: none.
        reconstruction: weight of the mean absolute error with which a quarter more pictures of each step are drawn
            from their ``codes``. A critic alone needs thousands of steps before the generator draws what it has not
            seen; the generators of this course were trained with the same loss.
        synchronised: batch statistics are those of all devices together, see
            :func:`course_lib.gans.class_norm.synchronise`. Published: no.
        adam_eps: Published: 1e-6 at 128 pixels, 1e-8 at 32.

    Raises:
        CourseError: the networks have another number of classes than the data, or the codes are not of the data.
    """

    code_noise = 0.3
    """Share of fresh noise in a code, as a deviation: codes are points, and what is between them must be filled."""

    def __init__(
        self,
        data: ImageSet,
        label: str,
        generator: nn.Module,
        critic: Discriminator,
        rate: float = 2e-4,
        critic_rate: float = 2e-4,
        own_rate: float = 1.0,
        l1: float = 0.01,
        l2: float = 0.01,
        augmented: bool = False,
        critic_steps: int = 1,
        decay: float = 0.0,
        codes: Tensor | None = None,
        reconstruction: float = 4.0,
        synchronised: bool = False,
        adam_eps: float = 1e-8,
    ):
        super().__init__()
        self.labels, self.classes, self.length = data.labels[label], len(data.classes[label]), len(data)
        self.noise, self.l1, self.l2 = generator.config.noise, l1, l2
        self.augmented, self.critic_steps = augmented, critic_steps
        self.codes, self.reconstruction = codes, reconstruction
        self._check(generator, critic)
        self.images = torch.cat([resize(part, generator.config.size) for part in data.batches(500)])
        self.modules = {
            "generator": synchronise(generator, synchronised).to(memory_format=torch.channels_last),
            "critic": critic.to(memory_format=torch.channels_last),
        }
        own = isinstance(generator, TransferGenerator)
        groups = list(parameter_groups(generator, rate, own_rate)) if own else list(generator.parameters())
        self.optimizers = {
            "generator": torch.optim.Adam(groups, rate, (0.0, 0.999), adam_eps, fused=True),
            "critic": torch.optim.Adam(critic.parameters(), critic_rate, (0.0, 0.999), adam_eps, fused=True),
        }
        self.ema = {"generator": decay} if decay else {}

    def _check(self, generator: nn.Module, critic: Discriminator) -> None:
        classes = self.classes
        if generator.config.classes != classes or critic.config.classes != classes:
            raise CourseError(
                f"the data have {classes} classes, the generator {generator.config.classes} and the critic "
                f"{critic.config.classes}: make both with classes={classes}."
            )
        if self.codes is not None and self.codes.shape != (2, self.length, self.noise):
            raise CourseError(f"codes must be (2, {self.length}, {self.noise}), not {tuple(self.codes.shape)}.")

    def to_device(self, device: torch.device) -> None:
        """Moves pictures and labels."""
        super().to_device(device)
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.codes = None if self.codes is None else self.codes.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Real pictures and their labels, for each of the critic's steps; the first are those at ``index``."""
        more = [torch.randint(self.length, index.shape, generator=generator) for _ in range(self.critic_steps - 1)]
        picked = [one.to(self.device) for one in (index, *more)]
        return [(self.images[one], self.labels[one]) for one in picked]

    def _ask(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh noise, and labels drawn evenly, however often each class is in the data."""
        z = torch.randn(count, self.noise, generator=generator)
        return z.to(self.device), torch.randint(self.classes, (count,), generator=generator).to(self.device)

    def _seen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.augmented:
            images = augment.colour(augment.translate(images, generator), generator)
        return images.contiguous(memory_format=torch.channels_last)

    def losses(self, batch: list, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """The critic's phases, then the generator's."""
        painter = self.unwrapped("generator")
        for images, labels in batch:
            z, asked = self._ask(len(images), generator)
            # In training mode, so that it moves running statistics and spectral vectors once more, as published.
            with torch.no_grad():
                fake = painter(z, painter.embed(asked))
            pictures = torch.cat([self._seen(fake, generator), self._seen(images, generator)])
            fake, real = self.modules["critic"](pictures, torch.cat([asked, labels])).float().chunk(2)
            scalars = {"real": real.mean().detach(), "fake": fake.mean().detach()}
            yield Loss("critic", hinge_critic(real, fake), scalars)
        z, asked = self._ask(len(batch[0][0]), generator)
        known, codes, labels = self._known(len(z), generator)
        # One pass for fresh noise and known codes, so that both share their batch statistics.
        found = self.modules["generator"](torch.cat([z, codes]), painter.embed(torch.cat([asked, labels])))
        with frozen(self.unwrapped("critic")):
            score = hinge_generator(self.unwrapped("critic")(self._seen(found[: len(z)], generator), asked).float())
        scalars, loss = {"score": score.detach()}, score
        if len(known):
            error = (found[len(z) :].float() - known).abs().mean()
            loss, scalars["reconstruction"] = loss + self.reconstruction * error, error.detach()
        if isinstance(painter, TransferGenerator):
            cost = penalty(painter, self.l1, self.l2)
            loss, scalars["penalty"] = loss + cost, cost.detach()
        yield Loss("generator", loss, scalars)

    def _known(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures to draw from their codes, the codes, and the labels; none where there are no codes."""
        count = 0 if self.codes is None else max(1, count // 4)
        index = torch.randint(self.length, (count,), generator=generator).to(self.device)
        if self.codes is None:
            return self.images[index], torch.empty(0, self.noise, device=self.device), self.labels[index]
        flip = (torch.rand(count, generator=generator) < 0.5).to(self.device)
        images = torch.where(flip[:, None, None, None], self.images[index].flip(-1), self.images[index])
        fresh = torch.randn(count, self.noise, generator=generator).to(self.device)
        codes = (1 - self.code_noise**2) ** 0.5 * self.codes[flip.long(), index] + self.code_noise * fresh
        return images, codes, self.labels[index]

    @torch.no_grad()
    def preview(self) -> Tensor:
        """One sample of each of up to 32 classes."""
        painter = self.unwrapped("generator").eval()
        labels = torch.arange(min(32, self.classes))
        z = torch.randn(len(labels), self.noise, generator=torch.Generator().manual_seed(0)).to(self.device)
        pictures = painter(z, painter.embed(labels.to(self.device)))
        painter.train()
        return pictures
