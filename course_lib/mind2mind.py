"""Mind2Mind: the frozen halves, MindGAN, the small pair that learns in latent space between them, and the theorem.
Source: Frégier and Gouray 2021 and their code. Any expert with ``encode`` and ``decode`` has two halves; the shipped
ALAE draws latents of a grid autoencoder, and :class:`StyleExpert` joins the two.

With W the Wasserstein-1 distance, D' and D source and target data, c encoder, g decoder and P⁰ MindGAN's codes, four
triangle inequalities, from D to D', to its reconstruction, to that of D, to the generated law, give
W(D, g#P⁰) ≤ (1 + Lip(g∘c)) · W(D, D') + W(D', (g∘c)#D') + Lip(g) · W(c#D, P⁰).
Without the detour over D' it is tighter and needs no source data: W(D, g#P⁰) ≤ W(D, (g∘c)#D) + Lip(g) · W(c#D, P⁰).
Both hold for finite samples exactly if every term uses the same samples, W is solved exactly, and a Lipschitz constant
is the largest ratio between points that a best coupling pairs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .data.image_set import ImageSet
from .errors import CourseError, progress_bar
from .evaluation.scores import FeatureNetwork, frechet_distance, real_features
from .experts.networks import GridAutoencoder, LatentSpace
from .experts.protocol import TargetExpert, fingerprint, freeze, load_expert
from .gan_training import mix_styles
from .gans.alae import ALAE
from .gans.stylegan import Map
from .profiles import CHECKPOINTS
from .training.loop import train
from .training.runs import Budget, History, Loss, Method, frozen, load_card, load_weights


class StyleExpert(nn.Module):
    """Pictures ``(B, 3, S, S)`` in [−1, 1] ↔ styles ``(B, latent_dim)``: an ALAE on the scaled latents of a grid
    autoencoder whose channels are measured; ``config`` is the autoencoder's."""

    def __init__(self, alae: ALAE, autoencoder: GridAutoencoder):
        super().__init__()
        self.alae, self.autoencoder, self.config = alae, autoencoder, autoencoder.config
        self.latent_dim, self.condition_shape = alae.latent_dim, (alae.latent_dim,)
        self.shape = (self.config.channels, self.config.side, self.config.side)
        for name in ("centre", "scale"):
            self.register_buffer(name, getattr(LatentSpace(autoencoder), name), persistent=False)

    def read(self, images: Tensor) -> Tensor:
        """c₁ with gradients: styles of pictures."""
        grid = self.autoencoder.posterior(images).mean.view(-1, *self.shape)
        return self.alae.encoder((grid - self.centre) / self.scale)

    def render(self, styles: Tensor, fresh: bool = False) -> Tensor:
        """g₁ with gradients, not clamped: pictures of styles ``(B, latent)``, or one a slot. ``fresh`` draws noise maps
        for every picture, as in training; else all get the same, so that this is a function."""
        decoder = self.alae.generator.decoder
        grid = decoder(styles, decoder.noise(len(styles)) if fresh else decoder.same_noise(len(styles)))
        return self.autoencoder.render((grid.float() * self.scale + self.centre).flatten(1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return torch.cat([self.read(part) for part in images.split(250)])

    @torch.no_grad()
    def decode(self, styles: Tensor) -> Tensor:
        return torch.cat([self.render(part).clamp(-1, 1) for part in styles.split(100)])


class MainDirections(nn.Module):
    """Pictures in [−1, 1] ↔ codes ``(B, k)``: a grid autoencoder's scaled latents along their main directions in one
    set. Ours: a MindGAN for all of a grid's thousand numbers takes ten times as long. ``mean (D,)``; ``directions (D,
    k)``, orthogonal, all of one length, by which codes have variance 1 on average."""

    def __init__(self, autoencoder: GridAutoencoder, mean: Tensor, directions: Tensor):
        super().__init__()
        self.autoencoder, self.config, self.latent_dim = autoencoder, autoencoder.config, directions.shape[1]
        self.condition_shape, self.space = (self.latent_dim,), LatentSpace(autoencoder)
        self.register_buffer("mean", mean.to(self.space.device))
        self.register_buffer("directions", directions.to(self.space.device))

    @classmethod
    def fit(cls, autoencoder: GridAutoencoder, data: ImageSet, count: int) -> "MainDirections":
        """The ``count`` main directions of ``data``, frozen."""
        latents = LatentSpace(autoencoder).encode_set(data).flatten(1).double()
        values, vectors = torch.linalg.eigh(torch.cov(latents.T))
        length = values[-count:].mean().sqrt()
        return freeze(cls(autoencoder, latents.mean(0).float(), (length * vectors[:, -count:]).float()))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return (self.space.encode(images).flatten(1) - self.mean) @ torch.linalg.pinv(self.directions).T

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return self.space.decode((self.mean + codes @ self.directions.T).view(-1, *self.space.shape))


def load_halves(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> TargetExpert:
    """A shipped expert that reads and draws pictures, frozen; an ALAE of latents comes with its autoencoder."""
    expert = load_expert(name, device, folder)
    space = load_card(name, folder).recipe.get("space")
    if isinstance(expert, ALAE) and space:
        expert = freeze(StyleExpert(expert, load_expert(space, device, folder)))
    if not isinstance(expert, TargetExpert):
        raise CourseError(f"{name!r} does not decode: choose an ALAE or an autoencoder, such as avatar-alae.")
    return expert


def expert_device(expert: TargetExpert) -> torch.device:
    """Where the expert is."""
    return next(expert.parameters()).device


def encode_set(expert: TargetExpert, data: ImageSet, folder: Path | None = None, progress: bool = True) -> Tensor:
    """Codes ``float32 (N, D)`` of all pictures of ``data``, brought to the expert's size, on the CPU; kept in
    ``folder``, see :func:`~course_lib.evaluation.scores.real_features`."""
    device = expert_device(expert)

    def encode(images: Tensor) -> Tensor:
        codes = expert.encode(images.to(device)).cpu()
        bar.update(len(images))
        return codes

    with progress_bar(progress, total=len(data), desc="encoding", unit="picture", delay=1) as bar:
        network = FeatureNetwork("codes", fingerprint(expert), encode, encode)
        return real_features(data, network, expert.config.size, folder)


MIND_KIND = "mindgan"


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


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """mean (‖∇ c(t x + (1 − t) x̂)‖₂ − 1)² over a batch, all gradients in one backward pass (Gulrajani et al. 2017).
    ``real`` and ``fake`` are codes or pictures ``(B, …)``, which get no gradient; ``share`` is t, ``(B, 1)`` in [0,
    1]."""
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class WassersteinMethod(Method):
    """The published game: five critic steps on one batch, each with fresh noise, then one step of the generator. The
    critic minimises −E c(x) + E c(g(z)) + 10 · penalty + 0.01 · E c(x)², whose last term, the drift, keeps scores near
    zero; the generator −E c(g(z)). ``wasserstein``, E c(x) − E c(g(z)), is the critic's estimate of the distance.
    ``average`` is the decay of the generator's moving average; None for none, as published."""

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


class TransferredGAN:
    """g = g₁ ∘ g₀ and c = c₀ ∘ c₁: the new small networks behind the noise, frozen ones in front of the pictures.
    ``critic`` is needed to score pictures, ``codes`` of the target set for truncation, which pulls to their mean."""

    def __init__(
        self, generator: nn.Module, expert: TargetExpert, critic: MindCritic | None = None, codes: Tensor | None = None
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
    return Transferred(gan, history, codes, sum(p.numel() for net in networks.values() for p in net.parameters()))


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


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, ``float64 (N, M)``, of flattened points; not through squares, which would lose small distances."""
    return torch.cdist(a.flatten(1).double(), b.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist")


def couple(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """Exact Wasserstein-1 distance of two samples ``(N, …)`` with Euclidean cost, and the coupling that attains it:
    ``order (N,)``, a[i] goes with b[order[i]]. N = 1,000 takes a second; the cost grows like N³."""
    if len(a) != len(b) or not len(a):
        raise CourseError(f"an assignment needs as many points on both sides, not {len(a)} and {len(b)}.")
    cost = _distances(a, b).cpu().numpy()
    rows, order = linear_sum_assignment(cost)
    return float(cost[rows, order].mean()), torch.from_numpy(order)


def wasserstein(a: Tensor, b: Tensor) -> float:
    """The distance of :func:`couple` alone."""
    return couple(a, b)[0]


def stretch(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], order: Tensor) -> float:
    """The largest ‖f(a) − f(b)‖ / ‖a − b‖ between points ``before``, two times ``(N, …)``, that the coupling ``order``
    pairs, and what a map makes of them, ``after``: a Lipschitz constant for just these points."""
    base, image = (_distances(*points)[torch.arange(len(order)), order] for points in (before, after))
    return float((image[base > 0] / base[base > 0]).max()) if (base > 0).any() else 0.0


@dataclass(frozen=True)
class Bound:
    """Every term, in Euclidean distance of flattened pictures, and of codes where it says so; Lipschitz constants of
    g∘c, g and c are those between points that are coupled."""

    distance: float  # W(D, g#P⁰), what is bounded
    domain_gap: float  # W(D, D')
    source_error: float  # W(D', (g∘c)#D')
    target_error: float  # W(D, (g∘c)#D), of the tighter version
    latent: float  # W(c#D, P⁰), of codes: what MindGAN minimises
    reencoded: float  # W(c#D, (c∘g)#P⁰), of codes, for the lower bound
    lip_autoencoder: float
    lip_decoder: float
    lip_encoder: float

    @property
    def terms(self) -> dict[str, float]:
        """The three terms of the theorem."""
        gap, latent = (1 + self.lip_autoencoder) * self.domain_gap, self.lip_decoder * self.latent
        return {"domain gap": gap, "source autoencoder": self.source_error, "latent": latent}

    @property
    def upper(self) -> float:
        """The theorem's right side."""
        return sum(self.terms.values())

    @property
    def tighter(self) -> float:
        """Without the detour over the source."""
        return self.target_error + self.lip_decoder * self.latent

    @property
    def lower(self) -> float:
        """W(c#D, (c∘g)#P⁰) / Lip(c): latent convergence is necessary, too."""
        return self.reencoded / self.lip_encoder

    def check(self) -> None:
        """A CourseError unless all inequalities hold: then a map is no function of its input."""
        allowed = 1 + 1e-6
        if not self.lower <= self.distance * allowed or not self.distance <= min(self.tighter, self.upper) * allowed:
            broken = f"{self.lower:.4g} ≤ {self.distance:.4g} ≤ {self.tighter:.4g}, {self.upper:.4g}"
            raise CourseError(f"the bound is broken ({broken}): both halves must be deterministic, in evaluation mode.")


@torch.no_grad()
def measure_bound(target: Tensor, source: Tensor, codes: Tensor, encode: Map, decode: Map) -> Bound:
    """All terms on held-out target pictures, pictures of the source domain, ``(N, …)``, and generated codes ``(N, D)``,
    with the frozen halves as functions of whole samples."""
    target_codes, drawn = encode(target), decode(codes)
    decoded, decoded_source, drawn_codes = decode(target_codes), decode(encode(source)), encode(drawn)
    distance, to_drawn = couple(target, drawn)
    domain_gap, to_source = couple(target, source)
    latent, to_codes = couple(target_codes, codes)
    return Bound(
        distance=distance,
        domain_gap=domain_gap,
        source_error=wasserstein(source, decoded_source),
        target_error=wasserstein(target, decoded),
        latent=latent,
        reencoded=wasserstein(target_codes, drawn_codes),
        lip_autoencoder=stretch((target, source), (decoded, decoded_source), to_source),
        lip_decoder=stretch((target_codes, codes), (decoded, drawn), to_codes),
        lip_encoder=stretch((target, drawn), (target_codes, drawn_codes), to_drawn),
    )
