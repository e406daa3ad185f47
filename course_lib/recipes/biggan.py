"""Training of the class-conditional BigGAN: the old classes of class transfer, and a target of text to image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import NEW_SUBGROUPS, ImageSet, load_emoji, resize
from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..experts import Autoencoder, load_expert
from ..gans import BigGANConfig, Discriminator, Generator, augment, start_weights
from ..gans.class_norm import standing_statistics
from ..gans.losses import hinge_critic, hinge_generator
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, Method, frozen
from .recipe import Job, data_hash, publish

__all__ = ["BigGANMethod", "class_codes", "old_classes", "train_biggan32"]


@dataclass(frozen=True)
class BigGANLoss:
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


def old_classes(data: ImageSet) -> ImageSet:
    """The pictures whose subgroup is not held out for class transfer; ``labels["subgroup"]`` counts anew from 0."""
    names = [name for name in data.classes["subgroup"] if name not in NEW_SUBGROUPS]
    index = torch.tensor([names.index(n) if n in names else -1 for n in data.classes["subgroup"]])
    labels = index[data.labels["subgroup"]]
    kept = data.subset(labels >= 0)
    kept_labels = kept.labels | {"subgroup": labels[labels >= 0]}
    return replace(kept, labels=kept_labels, classes=kept.classes | {"subgroup": names})


def class_codes(latent: Tensor, labels: Tensor, dims: int, prior: float = 30.0) -> Tensor:
    """Latents as noise vectors: inside each class they have mean zero and about unit covariance.

    The class mean is taken away, what is left is projected on its ``dims`` main directions and whitened with the
    covariance of the class, shrunk towards that of all classes as if ``prior`` more pictures had that one.

    Args:
        latent: ``(N, D)``.
        labels: ``(N,)``, 0 … n − 1.
        dims: length of a code, at most D.
        prior: weight of the common covariance, in pictures.

    Returns:
        ``(N, dims)``.
    """
    centred = latent.double().clone()
    for label in labels.unique():
        centred[labels == label] -= centred[labels == label].mean(0)
    common, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    codes = centred @ directions[:, -dims:]
    common = common[-dims:].diag()
    for label in labels.unique():
        member = labels == label
        part = codes[member]
        covariance = (part.T @ part + prior * common) / (len(part) + prior)
        codes[member] = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), part.T, upper=False).T
    return codes.to(latent.dtype)


class BigGANMethod(Method):
    """Hinge loss with a projection critic, on pictures of ``config.size``; classes are drawn ∝ √(pictures).

    Args:
        data: training pictures with ``labels["subgroup"]`` from 0.
        codes: ``(2, N, noise)``: the noise vector of each picture, plain and mirrored.
        config: sizes.
        weights: schedule and weights.
        rate: Adam's learning rate of both networks.
    """

    def __init__(
        self,
        data: ImageSet,
        codes: Tensor,
        config: BigGANConfig,
        weights: BigGANLoss = BigGANLoss(),
        rate: float = 2e-4,
    ):
        super().__init__()
        self.data, self.codes, self.config, self.weights = data, codes, config, weights
        self.labels, self.length, self.progress = data.labels["subgroup"], len(data), 0.0
        self.images = torch.cat([resize(part, config.size) for part in data.batches(500)])
        self.chance = self.labels.bincount().float()[self.labels].rsqrt()
        generator, critic = Generator(config), Discriminator(config)
        for network in (generator, critic):
            start_weights(network)
            network.to(memory_format=torch.channels_last)
        self.modules = {"generator": generator, "critic": critic}
        self.optimizers = {
            "generator": torch.optim.Adam(generator.parameters(), rate, (0.0, 0.99), fused=True),
            "critic": torch.optim.Adam(critic.parameters(), rate, (0.0, 0.99), fused=True),
        }
        self.ema = {"generator": 0.999}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.images, self.codes = self.images.to(device), self.codes.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, classes and codes. The loop's index only says how many: classes must not follow their sizes."""
        index = torch.multinomial(self.chance, len(index), replacement=True, generator=generator)
        flip = torch.rand(len(index), generator=generator) < 0.5
        labels, index, flip = self.labels[index].to(self.device), index.to(self.device), flip.to(self.device)
        images = self.images[index]
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        return images.contiguous(memory_format=torch.channels_last), labels, self.codes[flip.long(), index]

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.config.noise, generator=generator).to(self.device)

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels, codes = batch
        share = self.weights.code_noise
        codes = (1 - share**2) ** 0.5 * codes + share * self._noise(len(codes), generator)
        if self.progress >= self.weights.critic_start:
            yield self._critic(images, labels, generator)
        adversarial = self.progress >= self.weights.adversarial_start
        if not adversarial:
            found = self.modules["generator"](codes, self.unwrapped("generator").embed(labels))
            error = (found - images).abs().mean()
            yield Loss("generator", error, {"reconstruction": error.detach()})
            return
        # One pass for fresh noise and known codes, so that both share their batch statistics.
        known = len(images) // 4
        z = torch.cat([self._noise(len(images), generator), codes[:known]])
        found = self.modules["generator"](z, self.unwrapped("generator").embed(torch.cat([labels, labels[:known]])))
        fake, decoded = found[: len(images)], found[len(images) :]
        critic = self.unwrapped("critic")
        with frozen(critic):
            score = hinge_generator(critic(self._changed(fake, generator), labels))
        error = (decoded - images[:known]).abs().mean()
        yield Loss("generator", score + self.weights.reconstruction * error, {"reconstruction": error.detach()})

    def _changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return augment.colour(augment.translate(images, generator), generator)

    def _critic(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Loss:
        network = self.unwrapped("generator")
        with torch.no_grad():
            fake = network(self._noise(len(images), generator), network.embed(labels))
        both = self._changed(torch.cat([images, fake]), generator)
        real, fake = self.modules["critic"](both, labels.repeat(2)).float().chunk(2)
        return Loss("critic", hinge_critic(real, fake), {"real": real.mean().detach(), "fake": fake.mean().detach()})

    def learning_rate(self, progress: float) -> float:
        """High while only decoding, then constant, then down to a tenth over the last quarter."""
        self.progress = progress
        if progress < self.weights.adversarial_start:
            return self.weights.warm_rate * min(1.0, progress / 0.01 + 0.02)
        return min(1.0, 0.1 + 0.9 * (1 - progress) / 0.25)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Eight classes in columns, two samples each, over one decoded code each."""
        network = self.unwrapped("generator").eval()
        index = torch.arange(8) * (self.length // 8)
        labels = self.labels[index].to(self.device)
        z = torch.randn(16, self.config.noise, generator=torch.Generator().manual_seed(0)).to(self.device)
        z = torch.cat([z, self.codes[0, index.to(self.device)]])
        pictures = network(z, network.embed(labels.repeat(3)))
        network.train()
        return pictures


def _codes(target: Autoencoder, data: ImageSet, dims: int) -> Tensor:
    """``(2, N, dims)``: codes of the pictures and of their mirror images."""
    device, labels = next(target.parameters()).device, data.labels["subgroup"]
    plain, mirrored = (
        torch.cat([target.encode((part.flip(-1) if flip else part).to(device)).cpu() for part in data.batches(250)])
        for flip in (False, True)
    )
    codes = class_codes(torch.cat([plain, mirrored]), labels.repeat(2), dims)
    return codes.view(2, len(data), dims)


@torch.no_grad()
def score_samples(generator: Generator, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Fréchet distance to ``data`` and how often the judge sees the class asked for, with the same for real pictures.

    Both kinds of pictures have the generator's size; one sample for each picture of ``data``, of its class.
    """
    device, labels = next(generator.parameters()).device, data.labels["subgroup"]
    z = torch.randn(len(data), generator.config.noise, generator=torch.Generator().manual_seed(seed)).to(device)
    given = generator.embed(labels.to(device))
    samples = torch.cat([generator(*part).cpu() for part in zip(z.split(250), given.split(250), strict=True)])
    real = torch.cat(list(data.batches(250, generator.config.size)))
    names = load_emoji().classes["subgroup"]
    index = torch.tensor([names.index(name) for name in data.classes["subgroup"]])[labels]
    return {
        "Fréchet distance (judge features)": frechet_distance(judge.features(real), judge.features(samples)),
        "subgroup accuracy of samples (judge)": (judge.predict(samples, "subgroup") == index).float().mean().item(),
        "subgroup accuracy of real pictures (judge)": (judge.predict(real, "subgroup") == index).float().mean().item(),
    }


def train_biggan32(job: Job) -> Card:
    """BigGAN at 32 pixels on the old classes, all five styles; its critic is published as ``biggan32-critic``."""
    seed_everything(job.seed)
    data = old_classes(load_emoji())
    config = BigGANConfig(len(data.classes["subgroup"]), (160, 128, 64, 32), (32, 64, 128, 128))
    train = data.part("train")
    codes = _codes(load_expert("autoencoder64", job.profile.device), train, config.noise)
    method = BigGANMethod(train, codes, config)
    steps = job.profile.pick(quick=20, cpu=6000, gpu=60000)
    recipe = {"batch_size": 64, **vars(method.weights), "classes": data.classes["subgroup"]}
    history = job.run("biggan32", method, recipe["batch_size"], steps)
    network = history.averaged["generator"].eval()
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(job.seed)

    def forward() -> None:
        pick = torch.multinomial(method.chance, 256, generator=noise)
        labels = method.labels[pick].to(device)
        network(torch.randn(256, config.noise, generator=noise).to(device), network.embed(labels))

    standing_statistics(network, forward)
    judge, metrics = Judge.load().to(device), {}
    for part in ("val", "test"):
        scores = score_samples(network, data.part(part), judge, job.seed)
        metrics |= {f"{name} on {part}": value for name, value in scores.items()}
    notes = "Labels are recipe['classes']; the critic beside it, biggan32-critic, is of the same run."
    card = Card("biggan32", "biggan generator", config.to_dict(), recipe, data=data_hash(data), metrics=metrics)
    card.notes = notes
    primary = "Fréchet distance (judge features) on val"
    critic = Card("biggan32-critic", "biggan critic", config.to_dict(), recipe, data=data_hash(data), notes=notes)
    critic.metrics = metrics
    publish(job, critic, method.modules["critic"].state_dict(), history, primary, higher=False, bits=8)
    return publish(job, card, network.state_dict(), history, primary, higher=False, bits=8)
