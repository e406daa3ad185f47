"""Training of the autoencoders."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data import ImageSet, augment, load_emoji, resize
from ..evaluation.distances import frechet_distance
from ..evaluation.judge import Judge
from ..experts import load_expert
from ..experts.autoencoder import Autoencoder, AutoencoderConfig
from ..experts.classifier import Classifier
from ..experts.grid_autoencoder import GridAutoencoder, GridAutoencoderConfig
from ..experts.reconstruction import (
    PatchDiscriminator,
    adaptive_weight,
    hinge_loss,
    perceptual_distance,
    reconstruction_nll,
)
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, Method, frozen
from .recipe import Job, data_hash, publish

__all__ = [
    "AutoencoderLoss",
    "AutoencoderMethod",
    "psnr",
    "train_autoencoder16",
    "train_autoencoder64",
    "train_autoencoder_grid64",
]


@dataclass(frozen=True)
class AutoencoderLoss:
    """Weights of the loss.

    The published KL weight, 1e-6, leaves the latent space without shape (facts of the paper's configuration). A flow
    does not mind; latent arithmetic and small data do, so ours is larger.
    """

    perceptual: float = 0.1
    perceptual_start: float = 0.3
    """Share of the training after which features count: first the pixels, which is cheaper."""
    kl: float = 0.1
    critic: float = 0.4
    critic_start: float = 0.7
    """Share of the training after which the critic joins."""


_NETWORKS = {AutoencoderConfig: Autoencoder, GridAutoencoderConfig: GridAutoencoder}


class AutoencoderMethod(Method):
    """Reconstruction + perceptual + patch critic (paper §3.2 and its code).

    Args:
        data: training images.
        config: sizes.
        classifier: frozen; its features are the perceptual distance. None leaves that term out.
        weights: of the loss terms.
        rate: Adam's learning rate.
        augment: random affine maps and swapped colour channels: twelve thousand pictures are few.
    """

    def __init__(
        self,
        data: ImageSet,
        config: AutoencoderConfig | GridAutoencoderConfig,
        classifier: Classifier | None,
        weights: AutoencoderLoss = AutoencoderLoss(),
        rate: float = 1e-3,
        augment: bool = True,
    ):
        super().__init__()
        self.data, self.config, self.classifier, self.weights = data, config, classifier, weights
        self.augment, self.length, self.progress = augment, len(data), 0.0
        net = _NETWORKS[type(config)](config)
        some = torch.arange(0, len(data), max(1, len(data) // 4000))
        net.start_from_pca(data.batch(some, config.size))
        net = net.to(memory_format=torch.channels_last)
        self.log_variance = nn.Parameter(torch.zeros(()))
        net.register_parameter("log_variance", self.log_variance)
        critic = PatchDiscriminator().to(memory_format=torch.channels_last)
        self.modules = {"autoencoder": net, "critic": critic}
        self.optimizers = {
            "autoencoder": torch.optim.Adam(net.parameters(), rate, (0.9, 0.99), fused=True),
            "critic": torch.optim.Adam(critic.parameters(), rate / 4, (0.5, 0.9), fused=True),
        }
        self.ema = {"autoencoder": 0.998}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.data = self.data.to(device)
        if self.classifier is not None:
            self.classifier.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        flip = torch.rand(len(index), generator=generator) < 0.5
        images = self.data.batch(index, flip=flip)
        if self.augment:
            images = augment.recolour(augment.affine(images, generator, 0.3), generator, 0.2)
        return resize(images, self.config.size).contiguous(memory_format=torch.channels_last)

    def losses(self, images: Tensor, generator: torch.Generator, step: int) -> Iterator[Loss]:
        noise = torch.randn(len(images), self.config.latent_dim, generator=generator).to(images)
        rendered, posterior = self.modules["autoencoder"](images, noise)
        recon = rendered.detach().requires_grad_(True)
        absolute = (recon - images).abs()
        perceptual = torch.zeros(len(images), device=images.device)
        if self.classifier is not None and self.progress >= self.weights.perceptual_start:
            # Half of the batch halves the classifier's cost; its gradient has the same mean.
            half = (len(images) + 1) // 2
            distance = perceptual_distance(self.classifier, images[:half], recon[:half])
            perceptual = self.weights.perceptual * torch.cat([distance, distance[: len(images) - half]])
        nll = reconstruction_nll(absolute, perceptual, self.log_variance.detach())
        gradient = torch.autograd.grad(nll, recon)[0]
        scalars = {"l1": absolute.mean(), "perceptual": perceptual.mean(), "kl": posterior.kl().mean(), "nll": nll}
        adversarial = self.progress >= self.weights.critic_start and self.weights.critic > 0
        if adversarial:
            gradient = gradient + self._critic_gradient(rendered, recon, gradient, scalars)
        # The image's gradient is known; this product hands it to the decoder without a second pass through the
        # classifier and the critic. Its value means nothing, so the logged one is replaced.
        value = (rendered * gradient).sum() + self.weights.kl * posterior.kl().mean()
        spread = reconstruction_nll(absolute.detach(), perceptual.detach(), self.log_variance)
        scalars["loss/autoencoder"] = nll.detach() + self.weights.kl * scalars["kl"].detach()
        yield Loss("autoencoder", value + spread, scalars)
        if adversarial:
            real, fake = self.modules["critic"](torch.cat([images, recon.detach()])).float().chunk(2)
            yield Loss("critic", hinge_loss(real, fake), {"real": real.mean(), "fake": fake.mean()})

    def _critic_gradient(self, rendered: Tensor, recon: Tensor, nll_gradient: Tensor, scalars: dict) -> Tensor:
        """The critic's gradient with respect to the image, weighted adaptively at the decoder's last layer."""
        critic = self.unwrapped("critic")
        with frozen(critic):
            score = -critic(recon).float().mean()
            gradient = torch.autograd.grad(score, recon)[0]
        last = self.unwrapped("autoencoder").to_image.weight
        at_last = [torch.autograd.grad(rendered, last, g, retain_graph=True)[0] for g in (nll_gradient, gradient)]
        weight = adaptive_weight(*at_last, self.weights.critic)
        scalars["critic weight"] = weight
        return weight * gradient

    def learning_rate(self, progress: float) -> float:
        self.progress = progress
        return min(1.0, progress / 0.02 + 0.02) * (0.52 + 0.48 * math.cos(math.pi * progress))

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Eight pictures above their reconstructions."""
        net = self.unwrapped("autoencoder").eval()
        images = resize(self.data.batch(torch.arange(8) * (len(self.data) // 8)), self.config.size)
        pictures = torch.cat([images, net.decode(net.encode(images))])
        net.train()
        return pictures


@torch.no_grad()
def reconstruct(net: Autoencoder, data: ImageSet, batch_size: int = 250) -> tuple[Tensor, Tensor]:
    """Pictures and their reconstructions, both ``(N, 3, S, S)`` on the CPU."""
    device = next(net.parameters()).device
    images = torch.cat(list(data.batches(batch_size, net.config.size)))
    outputs = [net.decode(net.encode(part.to(device))).cpu() for part in images.split(batch_size)]
    return images, torch.cat(outputs)


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB; the peak is 2, as images lie in [−1, 1]."""
    mse = (images - others).square().mean((1, 2, 3)).clamp_min(1e-10)
    return (10 * (4.0 / mse).log10()).mean().item()


def _train(
    job: Job,
    name: str,
    config: AutoencoderConfig | GridAutoencoderConfig,
    batch_size: int,
    steps: int,
    notes: str,
    weights: AutoencoderLoss = AutoencoderLoss(),
) -> Card:
    data = load_emoji()
    seed_everything(job.seed)
    perceptual = load_expert("classifier") if config.size == data.size else None
    if perceptual is None:
        weights = replace(weights, critic=0.0)
    method = AutoencoderMethod(data.part("train"), config, perceptual, weights)
    history = job.run(name, method, batch_size, steps)
    net = history.averaged["autoencoder"].eval()
    state = {key: value for key, value in net.state_dict().items() if key != "log_variance"}
    metrics = {}
    judge = Judge.load().to(next(net.parameters()).device)
    for part in ("val", "test"):
        images, outputs = reconstruct(net, data.part(part))
        metrics[f"PSNR (dB) on {part}"] = psnr(images, outputs)
        features = [judge.features(resize(x, 64)) for x in (images, outputs)]
        metrics[f"Fréchet distance (judge features) on {part}"] = frechet_distance(*features)
    recipe = {"batch_size": batch_size, **vars(weights)}
    kind = "grid autoencoder" if isinstance(config, GridAutoencoderConfig) else "autoencoder"
    card = Card(name, kind, config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
    primary = "Fréchet distance (judge features) on val" if perceptual is not None else "PSNR (dB) on val"
    return publish(job, card, state, history, primary, higher=perceptual is None, bits=8)


def train_autoencoder64(job: Job) -> Card:
    """The target expert: all five styles at 64 pixels, 128 numbers a picture."""
    config = AutoencoderConfig()
    steps = job.profile.pick(quick=60, cpu=6000, gpu=60000)
    return _train(job, "autoencoder64", config, 32, steps, "All five styles; used by every translation.")


def train_autoencoder_grid64(job: Job) -> Card:
    """The target expert of notebook 05: all five styles at 64 pixels, a grid of 8×8 cells with 8 numbers each."""
    steps = job.profile.pick(quick=60, cpu=4000, gpu=60000)
    notes = "All five styles; a grid of latents, for unpaired translation."
    weights = AutoencoderLoss(perceptual_start=0.1, critic_start=0.6)
    return _train(job, "autoencoder-grid64", GridAutoencoderConfig(), 32, steps, notes, weights)


def train_autoencoder16(job: Job) -> Card:
    """The source expert of super-resolution: 16 pixels, 128 numbers a picture; L1 only, there is little to perceive."""
    config = AutoencoderConfig(16, 128, (48, 96), (48, 96))
    steps = job.profile.pick(quick=60, cpu=6000, gpu=40000)
    return _train(job, "autoencoder16", config, 64, steps, "Area-averaged to 16 pixels with course_lib.data.resize.")
