"""What the recipes of GANs share: a generator that first learns to decode known codes, then meets its critic."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import ImageSet, resize
from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..experts import Autoencoder
from ..gans import augment
from ..gans.codes import class_codes, encode_mirrored
from ..gans.losses import logistic_critic
from ..gans.stylegan_critic import r1_penalty
from ..training.method import Loss, Method, frozen

__all__ = ["SCHEDULE", "CodedGANMethod", "GANSchedule", "encode_codes", "penalised_critic_loss", "score_samples"]


@dataclass(frozen=True)
class GANSchedule:
    """Schedule and weights, in shares of the budget.

    A GAN from scratch needs millions of pictures before it draws anything. Here the generator first learns to decode
    known codes (Bojanowski et al. 2018 train a generator so, without a critic), and keeps a little of that loss beside
    the critic's (Larsen et al. 2016), so that no class and no style is forgotten.
    """

    adversarial_start: float = 0.2
    critic_start: float = 0.18
    reconstruction: float = 4.0
    code_noise: float = 0.3
    """Share of fresh noise in a code, as a deviation: codes are points, and the generator must fill what is between."""
    warm_rate: float = 5.0
    """Factor on the generator's learning rate while it only decodes."""


SCHEDULE = GANSchedule()


def penalised_critic_loss(
    score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, step: int, weight: float, every: int
) -> Loss:
    """Logistic loss of a critic, with the penalty R1 on real pictures in every ``every``-th step, that many times as
    strong (Karras et al. 2020)."""
    penalised = step % every == 0
    real = real.detach().requires_grad_(penalised)
    on_real, on_fake = score(real), score(fake)
    value = logistic_critic(on_real, on_fake)
    scalars = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach()}
    if penalised:
        penalty = r1_penalty(on_real, real)
        value = value + weight * every * penalty
        scalars["r1"] = penalty.detach()
    return Loss("critic", value, scalars)


def encode_codes(target: Autoencoder, data: ImageSet, labels: Tensor, dims: int) -> Tensor:
    """``(2, N, dims)``: :func:`class_codes` of the pictures and of their mirror images."""
    device = next(target.parameters()).device
    latent = encode_mirrored(lambda part: target.encode(part.to(device)), data.batches(250))
    codes = class_codes(latent, labels.repeat(2), dims)
    return codes.view(2, len(data), dims)


class CodedGANMethod(Method):
    """Decoding of known codes, then the adversarial loss as well; labels are drawn ∝ √(pictures of the label).

    A subclass gives :meth:`generate`, :meth:`critic_loss` and :meth:`generator_loss`.

    Args:
        data: training pictures.
        labels: ``(N,)``, from 0: classes, or only what is to be drawn evenly.
        codes: ``(2, N, noise)``: the noise vector of each picture, plain and mirrored.
        generator, critic: the networks; pictures have ``size`` pixels.
        size: of the pictures.
        schedule: and weights.
        rate: Adam's learning rate of both networks.
    """

    def __init__(
        self,
        data: ImageSet,
        labels: Tensor,
        codes: Tensor,
        generator: nn.Module,
        critic: nn.Module,
        size: int,
        schedule: GANSchedule,
        rate: float,
    ):
        super().__init__()
        self.labels, self.codes, self.schedule = labels, codes, schedule
        self.length, self.progress = len(data), 0.0
        self.images = torch.cat([resize(part, size) for part in data.batches(500)])
        self.chance = labels.bincount().float()[labels].rsqrt()
        self.modules = {
            "generator": generator.to(memory_format=torch.channels_last),
            "critic": critic.to(memory_format=torch.channels_last),
        }
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), rate, (0.0, 0.99), fused=True)
            for name, network in self.modules.items()
        }
        self.ema = {"generator": 0.999}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.images, self.codes = self.images.to(device), self.codes.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, labels and codes. The loop's index only says how many: labels must not follow their sizes."""
        index = torch.multinomial(self.chance, len(index), replacement=True, generator=generator)
        flip = torch.rand(len(index), generator=generator) < 0.5
        labels, index, flip = self.labels[index].to(self.device), index.to(self.device), flip.to(self.device)
        images = self.images[index]
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        return images.contiguous(memory_format=torch.channels_last), labels, self.codes[flip.long(), index]

    def generate(
        self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, samples: int = 0
    ) -> Tensor:
        """Pictures ``(B, 3, S, S)``; the first ``samples`` of z are fresh noise, the others codes of known pictures."""
        raise TypeError(f"{type(self).__name__} must define generate()")

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        """The critic's phase on augmented pictures."""
        raise TypeError(f"{type(self).__name__} must define critic_loss()")

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """What the generator minimises beside the decoding error; the critic is frozen."""
        raise TypeError(f"{type(self).__name__} must define generator_loss()")

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Fresh noise vectors ``(count, noise)``."""
        return torch.randn(count, self.codes.shape[-1], generator=generator).to(self.device)

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Until ``adversarial_start`` decoding alone, then critic and generator in turn."""
        images, labels, codes = batch
        share = self.schedule.code_noise
        codes = (1 - share**2) ** 0.5 * codes + share * self.noise(len(codes), generator)
        if self.progress >= self.schedule.critic_start:
            with torch.no_grad():
                z = self.noise(len(images), generator)
                fake = self.generate(self.unwrapped("generator"), z, labels, generator, len(z))
            yield self.critic_loss(self._changed(images, generator), self._changed(fake, generator), labels, step)
        if self.progress < self.schedule.adversarial_start:
            found = self.generate(self.modules["generator"], codes, labels, generator)
            error = (found - images).abs().mean()
            yield Loss("generator", error, {"reconstruction": error.detach()})
            return
        # One pass for fresh noise and known codes, so that both share their batch statistics.
        known = len(images) // 4
        z = torch.cat([self.noise(len(images), generator), codes[:known]])
        both = torch.cat([labels, labels[:known]])
        found = self.generate(self.modules["generator"], z, both, generator, len(images))
        fake, decoded = found[: len(images)], found[len(images) :]
        with frozen(self.unwrapped("critic")):
            score = self.generator_loss(self._changed(fake, generator), labels)
        error = (decoded - images[:known]).abs().mean()
        yield Loss("generator", score + self.schedule.reconstruction * error, {"reconstruction": error.detach()})

    def _changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return augment.colour(augment.translate(images, generator), generator)

    def learning_rate(self, progress: float) -> float:
        """High while only decoding, then constant, then down to a tenth over the last quarter."""
        self.progress = progress
        if progress < self.schedule.adversarial_start:
            return self.schedule.warm_rate * min(1.0, progress / 0.01 + 0.02)
        return min(1.0, 0.1 + 0.9 * (1 - progress) / 0.25)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Two rows of samples over one of decoded codes; a column keeps its label."""
        network, generator = self.unwrapped("generator").eval(), torch.Generator().manual_seed(0)
        index = torch.arange(8) * (self.length // 8)
        z = torch.cat([self.noise(16, generator), self.codes[0, index.to(self.device)]])
        pictures = self.generate(network, z, self.labels[index].to(self.device).repeat(3), generator)
        network.train()
        return pictures


@torch.no_grad()
def score_samples(
    draw: Callable[[int, torch.Generator], Tensor], data: ImageSet, size: int, judge: Judge, seed: int = 0
) -> float:
    """Fréchet distance (judge features) of as many samples as ``data`` has pictures.

    Args:
        draw: count and a CPU generator → pictures ``(count, 3, size, size)``.
        data: real pictures.
        size: side in pixels at which both are compared.
        judge: gives the features.
        seed: of the draws.
    """
    draws, samples = torch.Generator().manual_seed(seed), []
    for start in range(0, len(data), 250):
        samples.append(draw(min(250, len(data) - start), draws).clamp(-1, 1).cpu())
    real = torch.cat(list(data.batches(250, size)))
    return frechet_distance(judge.features(real), judge.features(torch.cat(samples)))
