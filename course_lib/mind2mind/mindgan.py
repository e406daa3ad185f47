"""MindGAN: the small pair that learns in latent space, its training, and what it draws between the frozen halves.
Source: Frégier and Gouray 2021 (Mind2Mind) and their code."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.image_set import ImageSet
from ..errors import CourseError
from ..evaluation.distances import frechet_distance
from ..evaluation.features import FeatureNetwork, real_features
from ..experts.protocol import TargetExpert, freeze
from ..gans.layers import mix_styles
from ..paths import CHECKPOINTS
from ..training.files import load_weights
from ..training.loop import train
from ..training.method import Budget, History, Loss, Method, frozen
from .halves import MainDirections, encode_set, expert_device, load_halves

MIND_KIND = "mindgan"

# --- networks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MindConfig:
    """Sizes; the defaults are the published ones at 1024 pixels."""

    latent: int = 512  # length of a code: that of the ALAE that they use
    noise: int = 128  # length of z
    generator: tuple[int, ...] = (128, 256, 512)  # widths of the hidden layers
    critic: tuple[int, ...] = (512, 256, 128)
    batch_norm: bool = False  # in the generator, as published at 28 pixels only
    tanh: bool = False  # at the generator's end, where the encoder ends in one too (28 pixels)

    def __post_init__(self) -> None:
        for name in ("generator", "critic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if min(self.latent, self.noise, *self.generator, *self.critic) < 1:
            raise CourseError(f"MindGAN needs positive sizes, not {self}.")


DIGITS = MindConfig(256, 128, (512, 512), (256, 256), batch_norm=True, tanh=True)
"""The published sizes at 28 pixels; the length of z is not published and taken from the large model."""


def uniform_noise(count: int, config: MindConfig, generator: torch.Generator) -> Tensor:
    """``(count, noise)``, uniform in [−1, 1] as published, drawn on the CPU: a seed means the same everywhere."""
    return 2 * torch.rand(count, config.noise, generator=generator) - 1


def _chain(widths: list[int], batch_norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


class MindGenerator(nn.Module):
    """g₀: noise ``(B, noise)`` → codes ``(B, latent)``, without activation at the end unless ``config.tanh``."""

    def __init__(self, config: MindConfig):
        super().__init__()
        self.config = config
        self.model = _chain([config.noise, *config.generator, config.latent], config.batch_norm)

    def forward(self, z: Tensor) -> Tensor:
        codes = self.model(z)
        return codes.tanh() if self.config.tanh else codes


class MindCritic(nn.Module):
    """c₀: codes ``(B, latent)`` → scores ``(B,)``, real high."""

    def __init__(self, config: MindConfig):
        super().__init__()
        self.config = config
        self.model = _chain([config.latent, *config.critic, 1])

    def forward(self, codes: Tensor) -> Tensor:
        return self.model(codes)[:, 0]


# --- training: a WGAN with gradient penalty whose pictures are codes --------------------------------------------------


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """mean (‖∇ c(t x + (1 − t) x̂)‖₂ − 1)² over a batch, all gradients in one backward pass (Gulrajani et al. 2017).

    ``real`` and ``fake`` are codes or pictures ``(B, …)``, which get no gradient; ``share`` is t, ``(B, 1)`` in [0, 1].
    """
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class WassersteinMethod(Method):
    """The published game: five critic steps on one batch, each with fresh noise, then one step of the generator.

    The critic minimises −E c(x) + E c(g(z)) + 10 · penalty + 0.01 · E c(x)², whose last term, the drift, keeps scores
    near zero; the generator −E c(g(z)). ``wasserstein``, E c(x) − E c(g(z)), is the critic's estimate of the distance.
    ``average`` is the decay of the generator's moving average; None for none, as published.
    """

    penalty, drift, critic_steps = 10.0, 0.01, 5

    def __init__(self, generator: nn.Module, critic: nn.Module, config: MindConfig, average: float | None = None):
        super().__init__()
        self.config = config
        self.modules = {"generator": generator, "critic": critic}
        self.ema = {} if average is None else {"generator": average}

    def losses(self, batch: Tensor, generator: torch.Generator, step: int) -> Iterator[Loss]:
        network, critic = self.modules["generator"], self.modules["critic"]
        for _ in range(self.critic_steps):
            with torch.no_grad(), self.autocast():
                fake = self.unwrapped("generator")(self._noise(len(batch), generator)).float()
            share = torch.rand(len(batch), 1, generator=generator).to(batch)
            on_real, on_fake = critic(torch.cat([batch, fake])).split(len(batch))
            distance, penalty = on_real.mean() - on_fake.mean(), gradient_penalty(critic, batch, fake, share)
            value = -distance + self.penalty * penalty + self.drift * on_real.square().mean()
            yield Loss("critic", value, {"wasserstein": distance.detach(), "penalty": penalty.detach()})
        with frozen(self.unwrapped("critic")), self.autocast():
            value = -self.unwrapped("critic")(network(self._noise(len(batch), generator))).mean()
        yield Loss("generator", value, self.held_out(step))

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return uniform_noise(count, self.config, generator).to(self.device)

    def held_out(self, step: int) -> dict[str, float]:
        """Scores on held-out data, logged with the generator's step ``step``; none here."""
        return {}


class MindMethod(WassersteinMethod):
    """The game on codes ``(N, D)``, the encoded target set. Adam, 1e-3, (0, 0.5), as published. Every ``held_every``
    steps, of which ``log_every`` of the loop is a multiple, the Fréchet distance to codes ``held`` is measured."""

    moved = ("codes",)

    def __init__(
        self,
        codes: Tensor,
        config: MindConfig,
        held: Tensor | None = None,
        rate: float = 1e-3,
        held_every: int = 100,
        average: float | None = None,
    ):
        if codes.ndim != 2 or codes.shape[1] != config.latent:
            found = tuple(codes.shape)
            raise CourseError(f"codes must be (N, {config.latent}), not {found}: change MindConfig.latent.")
        super().__init__(MindGenerator(config), MindCritic(config), config, average)
        self.codes, self.held, self.held_every, self.length = codes, held, held_every, len(codes)
        for name, network in self.modules.items():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), rate, (0.0, 0.5), fused=True)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.codes[index.to(self.device)]

    @torch.no_grad()
    def held_out(self, step: int) -> dict[str, float]:
        """The Fréchet distance at the last step before a number is logged; the same noise every time."""
        if self.held is None or (step + 1) % self.held_every:
            return {}
        network = self.unwrapped("generator").eval()
        drawn = network(self._noise(len(self.held), torch.Generator().manual_seed(0))).cpu()
        network.train()
        return {"Fréchet distance of codes": frechet_distance(self.held, drawn)}


# --- between the frozen halves ----------------------------------------------------------------------------------------


class TransferredGAN:
    """g = g₁ ∘ g₀ and c = c₀ ∘ c₁: the new small networks behind the noise, frozen ones in front of the pictures.
    ``critic`` is needed to score pictures, ``codes`` of the target set for truncation, which pulls to their mean."""

    def __init__(
        self,
        generator: MindGenerator,
        expert: TargetExpert,
        critic: MindCritic | None = None,
        codes: Tensor | None = None,
    ):
        if generator.config.latent != expert.latent_dim:
            numbers = f"{generator.config.latent} numbers, the expert decodes {expert.latent_dim}"
            raise CourseError(f"the generator makes codes of {numbers}: train MindGAN on this expert's codes.")
        self.device, self.expert = expert_device(expert), expert
        self.generator = generator.eval().to(self.device)
        self.critic = None if critic is None else critic.eval().to(self.device)
        self.mean = None if codes is None else codes.mean(0).to(self.device)

    @torch.no_grad()
    def codes(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Codes ``(B, D)`` of noise ``(B, noise)``; at truncation 1 as they are, at 0 the mean code of the target."""
        found = self.generator(z.to(self.device))
        if truncation == 1.0:
            return found
        if self.mean is None:
            raise CourseError("truncation needs the target's mean code: pass codes= to TransferredGAN.")
        return torch.lerp(self.mean.expand_as(found), found, truncation)

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """``(count, noise)``, uniform in [−1, 1]."""
        return uniform_noise(count, self.generator.config, torch.Generator().manual_seed(seed))

    def draw(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.expert.decode(self.codes(z, truncation))

    def mix(self, z: Tensor, other: Tensor, seed: int = 0) -> Tensor:
        """Pictures whose fine layers follow a second code, from a layer drawn by chance on; for an ALAE alone."""
        slots = getattr(getattr(self.expert, "alae", self.expert).config, "slots", None)
        if slots is None:
            raise CourseError("only a decoder that reads a style in every layer, an ALAE, can mix two.")
        draws = torch.Generator().manual_seed(seed)
        return self.expert.decode(mix_styles(self.codes(z), self.codes(other), slots, draws))

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """``(count, 3, S, S)`` pictures on the CPU."""
        return torch.cat([self.draw(part).cpu() for part in self.noise(count, seed).split(250)])

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """c₀(c₁(x)) ``(B,)`` of pictures ``(B, 3, S, S)`` in [−1, 1]: the transferred critic."""
        if self.critic is None:
            raise CourseError("there is no critic to score with: pass critic= to TransferredGAN.")
        return self.critic(self.expert.encode(images.to(self.device))).cpu()


@dataclass
class Transferred:
    """What a transfer leaves."""

    gan: TransferredGAN
    history: History  # of the training, without encoding
    codes: Tensor  # of the training pictures
    parameters: int  # how many numbers were trained


def transfer_gan(
    expert: TargetExpert,
    data: ImageSet,
    steps: int,
    config: MindConfig = MindConfig(),
    held: ImageSet | None = None,
    batch_size: int = 128,
    seed: int = 0,
    average: float | None = 0.99,
    folder: Path | None = None,
) -> Transferred:
    """Encodes ``data``, two pictures or more, trains MindGAN on the codes, and joins it with the frozen halves.
    ``config`` gives sizes, whose ``latent`` is set to the expert's; the Fréchet distance is measured to the codes of
    ``held``; ``average`` is the decay of the moving average that then draws, None for none, as published; ``folder`` is
    that of cached codes."""
    if len(data) < 2:
        raise CourseError(f"{len(data)} pictures are no set to learn from: give at least two.")
    codes = encode_set(expert, data, folder, progress=False)
    others = None if held is None else encode_set(expert, held, folder, progress=False)
    every, threads, config = max(1, steps // 12), torch.get_num_threads(), replace(config, latent=expert.latent_dim)
    quiet = {"log_every": every, "checkpoint_every": 0, "preview_every": 0, "progress": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = MindMethod(codes, config, others, average=average, held_every=every)
        torch.set_num_threads(1)  # layers this small: two threads wait for each other longer than they compute
        try:
            device = expert_device(expert).type
            history = train(method, Budget(steps), min(batch_size, len(data)), seed=seed, accelerator=device, **quiet)
        finally:
            torch.set_num_threads(threads)
    networks = method.modules | history.averaged
    gan = TransferredGAN(networks["generator"], expert, networks["critic"], codes)
    numbers = sum(p.numel() for module in networks.values() for p in module.parameters())
    return Transferred(gan, history, codes, numbers)


def mindgan_tensors(gan: TransferredGAN) -> dict[str, Tensor]:
    """For a file: what was trained, the mean code, main directions; the frozen halves stay where they are."""
    if gan.critic is None or gan.mean is None:
        raise CourseError("a shipped MindGAN has its critic and its mean code: give critic= and codes=.")
    found = nn.ModuleDict({"generator": gan.generator, "critic": gan.critic}).state_dict()
    if isinstance(gan.expert, MainDirections):
        found |= {f"expert.{name}": getattr(gan.expert, name) for name in ("mean", "directions")}
    return found | {"mean": gan.mean}


def open_transferred(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> TransferredGAN:
    """A shipped transferred GAN, such as ``avatar-mind2mind``, frozen; its expert is named in the card."""
    tensors, card = load_weights(name, folder)
    if card.kind != MIND_KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a MindGAN: choose avatar-mind2mind.")
    config = MindConfig(**card.config["networks"])
    networks = nn.ModuleDict({"generator": MindGenerator(config), "critic": MindCritic(config)})
    networks.load_state_dict({key: t for key, t in tensors.items() if key.startswith(("generator.", "critic."))})
    expert = load_halves(card.config["source"], device, folder)
    if "expert.directions" in tensors:
        expert = freeze(MainDirections(expert, tensors["expert.mean"], tensors["expert.directions"]))
    generator, critic = (freeze(network) for network in networks.values())
    return TransferredGAN(generator, expert, critic, tensors["mean"][None])


# --- scores -----------------------------------------------------------------------------------------------------------


def decoded_distance(
    expert: TargetExpert, codes: Tensor, data: ImageSet, network: FeatureNetwork, folder: Path | None = None
) -> float:
    """Fréchet distance of decoded codes ``(N, D)`` to real pictures, in the features of ``network``, cached in
    ``folder``. With codes of *other* real pictures this is the **ceiling**: what a perfect g₀ would score."""
    real, device = real_features(data, network, expert.config.size, folder), expert_device(expert)
    parts = [network.features(expert.decode(part.to(device)).cpu()) for part in codes.split(250)]
    return frechet_distance(real, torch.cat(parts))


def draw_gaussian(codes: Tensor, count: int, seed: int = 0) -> Tensor:
    """``(count, D)`` draws of a Gaussian with the mean and covariance of ``codes``: a rival without any training."""
    # A little on the diagonal: fewer pictures than dimensions leave directions without any variance.
    factor = torch.linalg.cholesky(torch.cov(codes.T) + 1e-4 * torch.eye(codes.shape[1]))
    draws = torch.randn(count, codes.shape[1], generator=torch.Generator().manual_seed(seed))
    return codes.mean(0) + draws @ factor.T


def score_transfer(
    gan: TransferredGAN, codes: Tensor, data: ImageSet, network: FeatureNetwork, seed: int = 0
) -> dict[str, float]:
    """Fréchet distances to held-out target pictures ``data``, at least two, of about as many: of samples, the
    ``ceiling`` and :func:`draw_gaussian`, both of the training ``codes``; and in latent space, of ``codes``."""
    count, found = len(data), gan.codes(gan.noise(len(data), seed)).cpu()
    some = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:count]]
    sets = {"Mind2Mind": found, "ceiling": some, "Gaussian": draw_gaussian(codes, count, seed)}
    distances = {name: decoded_distance(gan.expert, part, data, network) for name, part in sets.items()}
    return distances | {"codes": frechet_distance(encode_set(gan.expert, data, progress=False), found)}
