"""Training of StyleGAN, BigGAN, ALAE and the transfers that begin from them: published losses after a short start in
which the generator learns to decode known codes, latents of real pictures made to look like noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import CourseError
from .experts.networks import NOISE, LatentSpace
from .profiles import CHECKPOINTS
from .training.runs import Loss, Method, frozen, load_weights

CODES_KIND = "code space"  # of the card of a :class:`CodeSpace`


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
    """mean (E(G(w)) − w)², ALAE's autoencoder loss: styles ``(B, latent)`` read off pictures against those that made
    them, detached here, for their mapping learns through the picture."""
    return F.mse_loss(found.float(), w.detach().float())


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² on real pictures (Mescheder et al. 2018); ``images`` must require a gradient. Usual weight 10/2."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


# --- codes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodeSpace:
    """How a latent becomes a code: inside each class codes have mean zero and about unit covariance. A generator reads
    new pictures only if their codes are made in the space whose codes it learned to decode."""

    directions: Tensor  # (D, dims): the main directions of the latents around their class means
    common: Tensor  # (dims, dims): their covariance along these, over all classes

    @classmethod
    def fit(cls, latent: Tensor, labels: Tensor, dims: int) -> "CodeSpace":
        """That of pictures with latents ``(N, D)`` and labels ``(N,)`` from 0, for codes of ``dims`` ≤ D numbers."""
        centred = _centred(latent, labels)
        common, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        # Fewer pictures than directions leave some without any variance; a floor keeps the covariance invertible.
        return cls(directions[:, -dims:], common[-dims:].clamp_min(1e-6 * common[-1]).diag())

    def codes(self, latent: Tensor, labels: Tensor, prior: float = 30.0) -> Tensor:
        """Codes ``(N, dims)`` of such pictures: projected and whitened around their class mean with the covariance of
        the class, shrunk towards that of all classes as if ``prior`` more pictures had that one."""
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


def class_codes(latent: Tensor, labels: Tensor, dims: int) -> Tensor:
    """Codes ``(N, dims)`` of pictures in the space that they span themselves, see :class:`CodeSpace`."""
    return CodeSpace.fit(latent, labels, dims).codes(latent, labels)


def load_codes(source: str = "avatar-biggan", folder: Path = CHECKPOINTS) -> CodeSpace:
    """The space of the codes that a shipped generator learned to decode, from the checkpoint ``SOURCE-codes``."""
    tensors, card = load_weights(f"{source}-codes", folder)
    if card.kind != CODES_KIND:
        raise CourseError(f"checkpoint {card.name!r} is a {card.kind}, not a {CODES_KIND}.")
    return CodeSpace(tensors["directions"], tensors["common"])


def gaussian_codes(latent: Tensor, dims: int, rounds: int = 60, seed: int = 0) -> Tensor:
    """Codes ``(N, dims)`` of latents ``(N, D)`` that are distributed like N(0, I), neighbours staying neighbours. Every
    round replaces each coordinate of the principal components by the normal quantile of its rank, then turns all by a
    random rotation (Laparra et al. 2011, "Iterative Gaussianization")."""
    draws, centred = torch.Generator().manual_seed(seed), latent.double() - latent.double().mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    codes = centred @ directions[:, -dims:] / values[-dims:].clamp_min(1e-12).sqrt()
    for _ in range(rounds):
        ranks = codes.argsort(0).argsort(0)
        codes = torch.special.ndtri((ranks.double() + 0.5) / len(codes))
        turn, _ = torch.linalg.qr(torch.randn(dims, dims, generator=draws, dtype=torch.float64))
        codes = codes @ turn
    return codes.to(latent.dtype)


def mix_styles(w: Tensor, other: Tensor, blocks: int, generator: torch.Generator) -> Tensor:
    """Style mixing: styles ``w`` and ``other (B, latent)``, or the noise vectors that become styles, to one a block,
    ``(B, blocks, latent)``; from a block on that is drawn for the whole batch the second rules."""
    cut = int(torch.randint(1, blocks, (1,), generator=generator))
    return torch.stack([w if index < cut else other for index in range(blocks)], 1)


@dataclass(frozen=True)
class GANSchedule:
    """A GAN from scratch needs millions of pictures. Here the generator first learns to decode known codes (Bojanowski
    et al. 2018), and keeps a little of that loss beside the discriminator's (Larsen et al. 2016)."""

    decode: int = 1500  # steps in which the generator only decodes known codes
    lead: int = 200  # how many of these, the last ones, the discriminator already trains
    decode_rate: float = 4e-3  # Adam's learning rate of the generator in these steps
    rate: float = 2e-3  # later
    critic_rate: float = 2e-3
    reconstruction: float = 2.0  # weight of the decoding error beside the adversarial loss
    code_noise: float = 0.3  # fresh noise in a code, as a standard deviation: it fills what is between the points
    averaging: float = 0.998  # decay of the generator's moving average


@dataclass(frozen=True)
class GANData:
    """Latents ``(N, C, G, G)`` or pictures, the noise vector of each, ``codes (N, D)``, and labels ``(N,)`` from 0."""

    latents: Tensor
    codes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "GANData":
        return GANData(*(tensor.to(device) for tensor in (self.latents, self.codes, self.labels)))


class GANMethod(Method):
    """Decoding of known codes, then discriminator and generator in turn, on the same drawn latents; the published loops
    draw again for the generator's step. ``noise`` is the standard deviation of what is added to real and drawn latents
    before the discriminator; ``space`` decodes previews. A subclass gives

    - ``generate(network, z, labels, generator, fresh)``: latents ``(B, C, G, G)``; the first ``fresh`` of z are noise,
      the others codes of known pictures;
    - ``critic_loss(real, fake, labels, step)``: the discriminator's phase, a :class:`Loss`;
    - ``generator_loss(fake, labels)``: what the generator minimises beside the decoding error.
    """

    moved = ("data",)
    r1 = 0.0  # weight of the penalty R1 on the discriminator, applied in every eighth step, eight times as strong
    watch: Callable[[int], None] | None = None  # called at the start of every step, for example to show :meth:`preview`

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
        networks = {"generator": generator, "critic": critic}
        self.modules = {name: network.to(memory_format=torch.channels_last) for name, network in networks.items()}
        rates = {"decoder": schedule.decode_rate, "generator": schedule.rate, "critic": schedule.critic_rate}
        for name, rate in rates.items():
            self.optimizers[name] = torch.optim.Adam(self.groups(name, rate), rate, (0.0, 0.99), fused=True)
        self.ema = {"generator": schedule.averaging}

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

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        if self.watch is not None:
            self.watch(step)
        if step < self.schedule.decode:
            yield self.decoding_loss(batch, generator)
        if step < self.schedule.decode - self.schedule.lead:
            return
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

    def decoding_loss(self, batch: tuple, generator: torch.Generator) -> Loss:
        """The only phase of a step at the start: squared error of the latents drawn from known codes."""
        real, codes, labels = batch
        found = self.generate(self.modules["generator"], codes, labels, generator, 0)
        error = F.mse_loss(found.float(), real)
        return Loss("decoder", error, {"decoding error": error.detach()})

    def penalty(self, step: int) -> float:
        """Weight of R1 in this step."""
        return 8 * self.r1 if step % 8 == 0 else 0.0

    def learning_rate(self, progress: float) -> float:
        """Constant, then down to a fiftieth over the last 30 %."""
        return min(1.0, 0.02 + (1 - progress) / 0.3)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Two rows of samples over one of decoded codes; a column keeps its label."""
        network, draws = self.unwrapped("generator").eval(), torch.Generator().manual_seed(0)
        index = (torch.arange(8) * (self.length // 8)).to(self.device)
        fresh = torch.randn(16, self.data.codes.shape[1], generator=draws).to(self.device)
        z = torch.cat([fresh, self.data.codes[index]])
        drawn = self.generate(network, z, self.data.labels[index].repeat(3), draws, 0)
        network.train()
        return drawn if self.space is None else self.space.decode(drawn)


def _critic_loss(adversarial: Callable[..., Tensor], on_real: Tensor, on_fake: Tensor, real: Tensor, r1: float) -> Loss:
    scalars = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach()}
    loss = Loss("critic", adversarial(on_real, on_fake), scalars)
    if r1 > 0:
        penalty = r1_penalty(on_real, real)
        loss.value, scalars["r1"] = loss.value + r1 * penalty, penalty.detach()
    return loss


def logistic_loss(critic: Callable[..., Tensor], real: Tensor, fake: Tensor, r1: float) -> Loss:
    """Loss of a discriminator on real and drawn latents, with the penalty R1 where its weight is not zero."""
    on_real, on_fake = (critic(x).float() for x in (real.requires_grad_(r1 > 0), fake))
    return _critic_loss(logistic_critic, on_real, on_fake, real, r1)


class LogisticMethod(GANMethod):
    """Non-saturating logistic loss with a lazy R1 penalty (published weight: 10/2). In a share ``mixing`` of the steps
    (published: 0.9, at eighteen layers) two styles rule one drawn latent; ``slots`` layers can have their own style."""

    def __init__(self, *options: Any, slots: int, r1: float = 15.0, mixing: float = 0.2, **named: Any):
        super().__init__(*options, **named)
        self.r1, self.mixing, self.slots = r1, mixing, slots

    def mixed(self, z: Tensor, fresh: int, generator: torch.Generator) -> Tensor:
        """In a share of the steps two styles for each of the first ``fresh``; codes of known pictures keep one."""
        if fresh and torch.rand((), generator=generator) < self.mixing:
            return mix_styles(z, torch.cat([z[:fresh].roll(1, 0), z[fresh:]]), self.slots, generator)
        return z

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        return logistic_loss(self.modules["critic"], real, fake, self.penalty(step))

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return logistic_generator(self.unwrapped("critic")(fake).float())


class HingeMethod(GANMethod):
    """Hinge loss with a projection discriminator, as for BigGAN, which is published without R1."""

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        return network(z, self.unwrapped("generator").embed(labels))

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        # One pass, as published: each pass moves the spectral norm on.
        r1 = self.penalty(step)
        real.requires_grad_(r1 > 0)
        on_real, on_fake = self.modules["critic"](torch.cat([real, fake]), labels.repeat(2)).float().chunk(2)
        return _critic_loss(hinge_critic, on_real, on_fake, real, r1)

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return hinge_generator(self.unwrapped("critic")(fake, labels).float())
