"""Training of GANs: published losses after a short start in which the generator learns to decode known codes.

One method for all: StyleGAN, BigGAN, ALAE, and the transfers that begin from them. A code is the latent of a real
picture, made to look like the noise that a generator is fed with.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .experts.autoencoder import NOISE, LatentSpace
from .gans.alae import ALAE
from .gans.biggan import BigGANConfig, Discriminator, Generator, start_weights
from .gans.layers import equalised_groups
from .gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic, mix_styles
from .training.method import Loss, Method, frozen

__all__ = ["ALAEMethod", "BigGANMethod", "GANData", "GANMethod", "GANSchedule", "LogisticMethod", "StyleGANMethod"]
__all__ += ["CodeSpace", "class_codes", "encode_mirrored", "gaussian_codes", "hinge_critic", "hinge_generator"]
__all__ += ["latent_reciprocity", "logistic_critic", "logistic_generator", "logistic_loss", "r1_penalty"]


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 − D(x)) + mean relu(1 + D(G(z))): what the critic minimises (Lim and Ye 2017)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−mean D(G(z))."""
    return -fake.mean()


def logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(−D(x)) + mean softplus(D(G(z))): the original critic's loss (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """mean softplus(−D(G(z))), the non-saturating loss."""
    return F.softplus(-fake).mean()


def latent_reciprocity(found: Tensor, w: Tensor) -> Tensor:
    """mean (E(G(w)) − w)² over batch and dimensions: ALAE's autoencoder loss, which looks at styles, not at pixels.

    ``found (B, latent)`` are styles read off pictures, ``w`` those that made them. The target is detached; w also made
    the picture that E read, so its mapping learns too, through the picture.
    """
    return F.mse_loss(found.float(), w.detach().float())


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² on real pictures (Mescheder et al. 2018); ``images`` must require a gradient. Usual weight 10/2."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass(frozen=True)
class CodeSpace:
    """How a latent becomes a code: inside each class codes have mean zero and about unit covariance.

    A generator that learned to decode such codes reads new pictures only if their codes are made in the same space.
    """

    directions: Tensor  # (D, dims): the main directions of the latents around their class means
    common: Tensor  # (dims, dims): their covariance along these, over all classes

    @classmethod
    def fit(cls, latent: Tensor, labels: Tensor, dims: int) -> "CodeSpace":
        """The space of pictures with latents ``(N, D)`` and labels ``(N,)`` from 0, for codes of ``dims`` numbers, D at
        most.
        """
        centred = _centred(latent, labels)
        common, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        # Fewer pictures than directions leave some without any variance; a floor keeps the covariance invertible.
        return cls(directions[:, -dims:], common[-dims:].clamp_min(1e-6 * common[-1]).diag())

    def codes(self, latent: Tensor, labels: Tensor, prior: float = 30.0) -> Tensor:
        """Codes of pictures with latents ``(N, D)`` and labels ``(N,)`` from 0: ``(N, dims)``.

        The class mean is taken away, what is left is projected and whitened with the covariance of the class, shrunk
        towards that of all classes as if ``prior`` more pictures had that one.
        """
        codes, common = _centred(latent, labels) @ self.directions.double(), self.common.double()
        for label in labels.unique():
            member = labels == label
            part = codes[member]
            covariance = (part.T @ part + prior * common) / (len(part) + prior)
            codes[member] = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), part.T, upper=False).T
        return codes.to(latent.dtype)


def _centred(latent: Tensor, labels: Tensor) -> Tensor:
    centred = latent.double().clone()
    for label in labels.unique():
        centred[labels == label] -= centred[labels == label].mean(0)
    return centred


def class_codes(latent: Tensor, labels: Tensor, dims: int, prior: float = 30.0) -> Tensor:
    """Codes ``(N, dims)`` of pictures in the space that they span themselves, see :class:`CodeSpace`."""
    return CodeSpace.fit(latent, labels, dims).codes(latent, labels, prior)


@torch.no_grad()
def encode_mirrored(encode: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """Latents ``(2 N, D)`` on the CPU: of N pictures in order, then of their mirror images."""
    both = [(encode(part).cpu(), encode(part.flip(-1)).cpu()) for part in batches]
    return torch.cat([plain for plain, _ in both] + [mirrored for _, mirrored in both])


def gaussian_codes(latent: Tensor, dims: int, rounds: int = 60, seed: int = 0) -> Tensor:
    """Codes ``(N, dims)`` of latents ``(N, D)`` that are distributed like N(0, I), neighbours staying neighbours.

    Principal components are bent until they are normal: every coordinate is replaced by the normal quantile of its
    rank, then all are turned by a random rotation, and so on. Source: Laparra et al. 2011, "Iterative Gaussianization".
    """
    draws, centred = torch.Generator().manual_seed(seed), latent.double() - latent.double().mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    codes = centred @ directions[:, -dims:] / values[-dims:].clamp_min(1e-12).sqrt()
    for _ in range(rounds):
        ranks = codes.argsort(0).argsort(0)
        codes = torch.special.ndtri((ranks.double() + 0.5) / len(codes))
        turn, _ = torch.linalg.qr(torch.randn(dims, dims, generator=draws, dtype=torch.float64))
        codes = codes @ turn
    return codes.to(latent.dtype)


@dataclass(frozen=True)
class GANSchedule:
    """Schedule, rates and weights.

    A GAN from scratch needs millions of pictures. Here the generator first learns to decode known codes (Bojanowski et
    al. 2018 train a generator so, without a discriminator), and keeps a little of that loss beside the discriminator's
    (Larsen et al. 2016), so that nothing of the data is forgotten.

    Attributes:
        decode: steps in which the generator only decodes known codes.
        lead: how many of these, the last ones, the discriminator already trains.
        decode_rate: Adam's learning rate of the generator in these steps.
        rate, critic_rate: later, and that of the discriminator. Over the last 30 % of the run both fall to zero.
        reconstruction: weight of the decoding error beside the adversarial loss.
        code_noise: share of fresh noise in a code, as a standard deviation: codes are points, and the generator must
            fill what is between.
        averaging: decay of the generator's moving average.
    """

    decode: int = 1500
    lead: int = 200
    decode_rate: float = 4e-3
    rate: float = 2e-3
    critic_rate: float = 2e-3
    reconstruction: float = 2.0
    code_noise: float = 0.3
    averaging: float = 0.998


# A long start: in it E and G become an autoencoder, which the adversarial steps then only have to keep.
_ALAE_SCHEDULE = GANSchedule(decode=6000, rate=1e-3, critic_rate=1e-3)
_BIGGAN_SCHEDULE = GANSchedule(decode_rate=2e-3, rate=5e-4, critic_rate=5e-4, averaging=0.999)


@dataclass(frozen=True)
class GANData:
    """What a GAN is trained on: latents ``(N, C, G, G)`` or pictures, the noise vector of each, ``codes (N, D)``,
    and labels ``(N,)`` from 0."""

    latents: Tensor
    codes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "GANData":
        """On another device."""
        return GANData(*(tensor.to(device) for tensor in (self.latents, self.codes, self.labels)))


class GANMethod(Method):
    """Decoding of known codes, then discriminator and generator in turn, on the same drawn latents.

    The published loops draw again for the generator's step; here one draw serves both.
    A subclass gives :meth:`generate`, :meth:`critic_loss` and :meth:`generator_loss`.

    Args:
        data: see :class:`GANData`.
        generator, critic: the networks.
        schedule: and weights.
        space: decodes previews.
        noise: standard deviation of what is added to real and drawn latents before the discriminator.
    """

    moved = ("data",)

    def __init__(
        self,
        data: GANData,
        generator: nn.Module,
        critic: nn.Module,
        schedule: GANSchedule = GANSchedule(),
        space: LatentSpace | None = None,
        noise: float = NOISE,
    ):
        super().__init__()
        self.data, self.schedule, self.space, self.noise, self.length = data, schedule, space, noise, len(data.labels)
        self.modules = {
            "generator": generator.to(memory_format=torch.channels_last),
            "critic": critic.to(memory_format=torch.channels_last),
        }
        rates = {"decoder": schedule.decode_rate, "generator": schedule.rate, "critic": schedule.critic_rate}
        self.optimizers = {
            name: torch.optim.Adam(self.groups(name, rate), rate, (0.0, 0.99), fused=True)
            for name, rate in rates.items()
        }
        self.ema = {"generator": schedule.averaging}
        self.watch: Callable[[int], None] | None = None
        """Called at the start of every step, for example to show :meth:`preview`."""

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        """Parameters of the optimiser called ``name``: ``decoder`` trains the generator while it only decodes."""
        return [{"params": list(self.modules["critic" if name == "critic" else "generator"].parameters())}]

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, codes with a share of fresh noise, and labels."""
        index, share = index.to(self.device), self.schedule.code_noise
        latents = self.data.latents[index].float().contiguous(memory_format=torch.channels_last)
        codes = self.data.codes[index]
        fresh = torch.randn(codes.shape, generator=generator).to(self.device)
        return latents, (1 - share**2) ** 0.5 * codes + share * fresh, self.data.labels[index]

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        """Latents ``(B, C, G, G)``; the first ``fresh`` of z are noise, the others codes of known pictures."""
        raise TypeError(f"{type(self).__name__} must define generate()")

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        """The discriminator's phase."""
        raise TypeError(f"{type(self).__name__} must define critic_loss()")

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """What the generator minimises beside the decoding error; the discriminator is frozen."""
        raise TypeError(f"{type(self).__name__} must define generator_loss()")

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        if self.watch is not None:
            self.watch(step)
        if step < self.schedule.decode:
            yield self.decoding_loss(batch, generator)
        if step >= self.schedule.decode - self.schedule.lead:
            yield from self._adversarial(batch, generator, step)
        yield from self.further(batch, generator, step)

    def decoding_loss(self, batch: tuple, generator: torch.Generator) -> Loss:
        """The only phase of a step at the start: squared error of the latents drawn from known codes."""
        real, codes, labels = batch
        found = self.generate(self.modules["generator"], codes, labels, generator, 0)
        error = F.mse_loss(found.float(), real)
        return Loss("decoder", error, {"decoding error": error.detach()})

    def further(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """More phases of a step; none unless a subclass has any."""
        return iter(())

    def _adversarial(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        real, codes, labels = batch
        count, known = len(real), len(real) // 4
        # One pass for fresh noise and known codes, so that both share their batch statistics.
        z = torch.cat([torch.randn(codes.shape, generator=generator).to(codes), codes[:known]])
        both = torch.cat([labels, labels[:known]])
        found = self.generate(self.modules["generator"], z, both, generator, count).float()
        seen, drawn = (x + self.noise * torch.randn(x.shape, generator=generator).to(x) for x in (real, found[:count]))
        yield self.critic_loss(seen, drawn.detach(), labels, step)
        if step < self.schedule.decode:
            return
        with frozen(self.unwrapped("critic")), self.autocast():
            score = self.generator_loss(drawn, labels)
        error = F.mse_loss(found[count:], real[:known])
        yield Loss("generator", score + self.schedule.reconstruction * error, {"decoding error": error.detach()})

    def learning_rate(self, progress: float) -> float:
        """Constant, then down to a fiftieth over the last 30 %."""
        return min(1.0, 0.02 + (1 - progress) / 0.3)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Two rows of samples over one of decoded codes; a column keeps its label."""
        network, draws = self.unwrapped("generator").eval(), torch.Generator().manual_seed(0)
        index = (torch.arange(8) * (self.length // 8)).to(self.device)
        z = torch.cat(
            [torch.randn(16, self.data.codes.shape[1], generator=draws).to(self.device), self.data.codes[index]]
        )
        drawn = self.generate(network, z, self.data.labels[index].repeat(3), draws, 0)
        network.train()
        return drawn if self.space is None else self.space.decode(drawn)


def logistic_loss(critic: nn.Module, real: Tensor, fake: Tensor, r1: float) -> Loss:
    """Logistic loss of a discriminator, with the penalty R1 where its weight is not zero."""
    real = real.requires_grad_(r1 > 0)
    on_real, on_fake = (critic(x).float() for x in (real, fake))
    value = logistic_critic(on_real, on_fake)
    scalars = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach()}
    if r1 > 0:
        penalty = r1_penalty(on_real, real)
        value = value + r1 * penalty
        scalars["r1"] = penalty.detach()
    return Loss("critic", value, scalars)


class LogisticMethod(GANMethod):
    """Non-saturating logistic loss with a lazy R1 penalty, and style mixing.

    A subclass sets ``r1``, the weight of the penalty in the steps that have it, and ``mixing``.
    """

    r1_every = 8
    r1: float
    mixing: float
    slots: int

    def mixed(self, z: Tensor, fresh: int, generator: torch.Generator) -> Tensor:
        """In a share of the steps two styles for each of the first ``fresh``; codes of known pictures keep one."""
        if fresh and torch.rand((), generator=generator) < self.mixing:
            return mix_styles(z, torch.cat([z[:fresh].roll(1, 0), z[fresh:]]), self.slots, generator)
        return z

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        return logistic_loss(self.modules["critic"], real, fake, self.r1 if step % self.r1_every == 0 else 0.0)

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return logistic_generator(self.unwrapped("critic")(fake).float())


class StyleGANMethod(LogisticMethod):
    """StyleGAN with its own discriminator, see :class:`GANMethod`.

    Args:
        r1: weight of the penalty (published: 10/2), applied in every eighth step, eight times as strong.
        mixing: share of steps in which two styles rule one drawn latent; 0.9 as published, at eighteen layers.
    """

    def __init__(
        self,
        data: GANData,
        config: StyleGANConfig,
        schedule: GANSchedule = GANSchedule(),
        space: LatentSpace | None = None,
        r1: float = 15.0,
        mixing: float = 0.2,
    ):
        super().__init__(data, StyleGAN(config), StyleGANCritic(config), schedule, space)
        self.r1, self.mixing, self.slots = r1 * self.r1_every, mixing, len(config.channels)

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        if name == "critic":
            return super().groups(name, rate)
        network = self.modules["generator"]
        # The mapping network moves a tenth as fast: its layers stand before everything else.
        slow = {"params": list(network.mapping.parameters()), "lr": 0.1 * rate}
        return [{"params": list(network.synthesis.parameters())}, slow]

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        noise = self.unwrapped("generator").synthesis.noise(len(z), generator)
        return network(self.mixed(z, fresh, generator), noise)


class ALAECritic(nn.Module):
    """E and D of ALAE: ``(B, C, G, G)`` → scores ``(B,)``, or the styles that E reads."""

    def __init__(self, network: ALAE):
        super().__init__()
        self.encoder, self.score = network.encoder, network.score

    def forward(self, x: Tensor, read: bool = False) -> Tensor:
        w = self.encoder(x)
        return w if read else self.score(w)


class ALAEMethod(LogisticMethod):
    """ALAE's three steps after a start as an autoencoder; arguments are those of :class:`StyleGANMethod`.

    Published, from the first step on: the discriminator's step moves E and D, the generator's G and F, and the
    reciprocity step E, G and F. Here E and G first learn to give real latents back, while F learns codes as the other
    generators do; a quarter of each later batch keeps that error, so that a person stays who it is.

    Attributes:
        redrawing: weight of the error of G(E(x)) beside reciprocity.
        small_styles: weight of the mean square of E's styles.
    """

    redrawing = 20.0
    small_styles = 1e-3

    def __init__(
        self,
        data: GANData,
        network: ALAE,
        schedule: GANSchedule = _ALAE_SCHEDULE,
        space: LatentSpace | None = None,
        r1: float = 15.0,
        mixing: float = 0.2,
    ):
        # Only the last size is drawn: the entrances and exits of the others get no gradient, which DDP would miss.
        network.generator.decoder.to_rgb[:-1].requires_grad_(False)
        network.encoder.from_rgb[1:].requires_grad_(False)
        super().__init__(data, network.generator, ALAECritic(network), schedule, space)
        self.r1, self.mixing, self.slots = r1 * self.r1_every, mixing, network.config.slots
        self.ema = dict.fromkeys(self.modules, schedule.averaging)

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        trained = equalised_groups(self.modules["critic" if name == "critic" else "generator"], rate)
        return [group for group in trained if any(parameter.requires_grad for parameter in group["params"])]

    def _draw(self, network: nn.Module, z: Tensor, generator: torch.Generator, fresh: int) -> tuple[Tensor, Tensor]:
        noise = self.unwrapped("generator").decoder.noise(len(z), generator)
        return network(self.mixed(z, fresh, generator), noise)

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        return self._draw(network, z, generator, fresh)[0]

    def _redraw(self, real: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of G(E(x)), and mean square of the styles, which nothing else holds near zero."""
        w = self.modules["critic"](real, read=True)
        noise = self.unwrapped("generator").decoder.noise(len(w), generator)
        again, _ = self.modules["generator"](w, noise, styled=True)
        return F.mse_loss(again.float(), real), w.float().square().mean()

    def decoding_loss(self, batch: tuple, generator: torch.Generator) -> Loss:
        """G(E(x)), and on a quarter of the batch G(F(code))."""
        real, codes, _ = batch
        error, size = self._redraw(real, generator)
        known = len(real) // 4
        found, _ = self._draw(self.modules["generator"], codes[:known], generator, 0)
        decoded = F.mse_loss(found.float(), real[:known])
        scalars = {"decoding error": decoded.detach(), "redrawing error": error.detach()}
        return Loss("decoder", error + decoded + self.small_styles * size, scalars, also=("critic",))

    def further(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Reciprocity: one style a latent, half a batch; beside it the error of G(E(x)) on a quarter."""
        if step < self.schedule.decode:
            return
        real, codes, _ = batch
        count = len(real) // 2
        z = torch.randn((count, codes.shape[1]), generator=generator).to(codes)
        fake, w = self._draw(self.modules["generator"], z, generator, 0)
        value = latent_reciprocity(self.modules["critic"](fake.float(), read=True), w)
        error, size = self._redraw(real[: count // 2], generator)
        scalars = {"reciprocity": value.detach(), "redrawing error": error.detach()}
        total = value + self.redrawing * error + self.small_styles * size
        yield Loss("critic", total, scalars, also=("generator",))


class BigGANMethod(GANMethod):
    """Hinge loss with a projection discriminator; see :class:`GANMethod` and :class:`BigGANConfig`."""

    def __init__(
        self,
        data: GANData,
        config: BigGANConfig,
        schedule: GANSchedule = _BIGGAN_SCHEDULE,
        space: LatentSpace | None = None,
    ):
        generator, critic = Generator(config), Discriminator(config)
        start_weights(generator)
        start_weights(critic)
        super().__init__(data, generator, critic, schedule, space)

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        return network(z, self.unwrapped("generator").embed(labels))

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        real, fake = self.modules["critic"](torch.cat([real, fake]), labels.repeat(2)).float().chunk(2)
        return Loss("critic", hinge_critic(real, fake), {"real": real.mean().detach(), "fake": fake.mean().detach()})

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return hinge_generator(self.unwrapped("critic")(fake, labels).float())
