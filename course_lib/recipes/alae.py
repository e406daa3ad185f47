"""Training of ALAE on faces: the source whose decoder and encoder Mind2Mind freezes."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import ImageSet, load_emoji
from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..experts import load_expert
from ..gans.alae import ALAE
from ..gans.alae_config import ALAEConfig
from ..gans.alae_layers import equalised_groups
from ..gans.losses import latent_reciprocity, logistic_generator
from ..gans.stylegan import mix_styles
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, frozen
from .gan import SCHEDULE, CodedGANMethod, GANSchedule, encode_codes, penalised_critic_loss, score_samples
from .recipe import Job, data_hash, publish
from .stylegan import faces

__all__ = ["ALAEMethod", "score_alae", "train_alae32"]

_HALF_LIFE = 10_000
"""Pictures after which a weight counts half in the moving average, as published."""


class ALAEMethod(CodedGANMethod):
    """ALAE's three steps after a start that decodes known codes.

    Published, from the first step on: the critic's step moves E and D, the generator's G and F, and the reciprocity
    step E, G and F. That takes millions of pictures before E has anything to read. Here, for the first share of the
    budget, G ∘ F decodes the known code of each picture (see :class:`GANSchedule`), and E learns to read the style of
    that code off the real picture: reciprocity on real data, which later steps keep on a quarter of the batch.

    Args:
        data: training pictures.
        labels: ``(N,)``: what is to be drawn evenly; the networks do not see it.
        codes: ``(2, N, latent)``.
        config: sizes.
        schedule: and weights.
        rate: Adam's learning rate; F and D move a tenth as fast.
        r1: γ/2, applied every ``r1_every`` steps, that many times as strong. The published 10/2 belongs to large
            pictures, as in :class:`course_lib.recipes.stylegan.StyleGANMethod`.
        mixing: share of steps in which two styles rule a picture; 0.9 as published.
        batch_size: only for the decay of the moving average.
    """

    r1_every = 16

    def __init__(
        self,
        data: ImageSet,
        labels: Tensor,
        codes: Tensor,
        config: ALAEConfig,
        schedule: GANSchedule = SCHEDULE,
        rate: float = 2e-3,
        r1: float = 0.1,
        mixing: float = 0.5,
        batch_size: int = 32,
    ):
        network = ALAE(config)
        super().__init__(data, labels, codes, network.generator, network.encoder, config.size, schedule, rate)
        self.config, self.r1, self.mixing = config, r1, mixing
        # Only the last size is drawn: the entrances and exits of the others get no gradient, which DDP would miss.
        network.generator.decoder.to_rgb[:-1].requires_grad_(False)
        network.encoder.from_rgb[1:].requires_grad_(False)
        self.modules = {"generator": network.generator, "encoder": network.encoder, "score": network.score}
        for module in self.modules.values():
            module.to(memory_format=torch.channels_last)
        self.optimizers = {
            name: torch.optim.Adam([group for part in parts for group in equalised_groups(part, rate)], fused=True)
            for name, parts in (("critic", (network.encoder, network.score)), ("generator", (network.generator,)))
        }
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["betas"] = (0.0, 0.99)
        self.ema = dict.fromkeys(self.modules, 0.5 ** (batch_size / _HALF_LIFE))

    def draw(self, network: nn.Module, z: Tensor, generator: torch.Generator, mixed: int = 0) -> tuple[Tensor, Tensor]:
        """Pictures and styles of noise vectors; two styles a picture for the first ``mixed``, by chance."""
        decoder = self.unwrapped("generator").decoder
        noise = decoder.noise(len(z), generator)
        if mixed and torch.rand((), generator=generator) < self.mixing:
            other = torch.cat([z[:mixed].roll(1, 0), z[mixed:]])
            z = mix_styles(z, other, self.config.slots, generator)
        return network(z, noise)

    def generate(
        self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, samples: int = 0
    ) -> Tensor:
        return self.draw(network, z, generator, samples)[0]

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Until ``adversarial_start`` decoding and reading alone, then the three published steps."""
        images, _, codes = batch
        share = self.schedule.code_noise
        codes = (1 - share**2) ** 0.5 * codes + share * self.noise(len(codes), generator)
        if self.progress >= self.schedule.critic_start:
            yield self._critic_step(images, generator, step)
        if self.progress < self.schedule.adversarial_start:
            yield from self._decode_and_read(images, codes, generator)
            return
        yield self._generator_step(images, codes, generator)
        yield self._reciprocity_step(images, codes, generator)

    def _decode_and_read(self, images: Tensor, codes: Tensor, generator: torch.Generator) -> Iterator[Loss]:
        found, w = self.draw(self.modules["generator"], codes, generator)
        w = w.detach()
        error = (found - images).abs().mean()
        yield Loss("generator", error, {"reconstruction": error.detach()})
        if self.progress < self.schedule.critic_start:
            read = latent_reciprocity(self.modules["encoder"](images), w)
            yield Loss("critic", read, {"read": read.detach()})

    def _critic_step(self, images: Tensor, generator: torch.Generator, step: int) -> Loss:
        with torch.no_grad(), self.autocast():
            z = self.noise(len(images), generator)
            fake, _ = self.draw(self.unwrapped("generator"), z, generator, len(z))
        encoder, score = self.modules["encoder"], self.modules["score"]
        real, fake = self._changed(images, generator), self._changed(fake, generator)
        return penalised_critic_loss(lambda x: score(encoder(x)), real, fake, step, self.r1, self.r1_every)

    def _generator_step(self, images: Tensor, codes: Tensor, generator: torch.Generator) -> Loss:
        count, known = len(images), len(images) // 4
        z = torch.cat([self.noise(count, generator), codes[:known]])
        found, _ = self.draw(self.modules["generator"], z, generator, count)
        encoder, score = self.unwrapped("encoder"), self.unwrapped("score")
        with frozen(encoder), frozen(score), self.autocast():
            value = logistic_generator(score(encoder(self._changed(found[:count], generator))))
        error = (found[count:] - images[:known]).abs().mean()
        return Loss("generator", value + self.schedule.reconstruction * error, {"reconstruction": error.detach()})

    def _reciprocity_step(self, images: Tensor, codes: Tensor, generator: torch.Generator) -> Loss:
        """One style a picture, noise on, half a batch; beside it real pictures whose code's style E must read."""
        count, known = len(images) // 2, len(images) // 4
        fake, w = self.draw(self.modules["generator"], self.noise(count, generator), generator)
        with torch.no_grad(), self.autocast():
            known_w = self.unwrapped("generator").styles(codes[:known])
        found = self.modules["encoder"](torch.cat([fake, images[:known]]))
        value, read = latent_reciprocity(found[:count], w), latent_reciprocity(found[count:], known_w)
        scalars = {"reciprocity": value.detach(), "read": read.detach()}
        return Loss("critic", value + read, scalars, also=("generator",))


@torch.no_grad()
def score_alae(network: ALAE, data: ImageSet, judge: Judge, seed: int = 0) -> dict[str, float]:
    """Scores on held-out pictures (judge features).

    Returns:
        ``samples``: Fréchet distance of samples; ``reconstructions``: of G(E(x)), the ceiling for whatever is trained
        on top; ``reciprocity``: mean (E(G(w)) − w)² in shares of the variance of w.
    """
    device, size = network.generator.mean.device, network.config.size

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, network.latent_dim, generator=draws).to(device)
        return network.generator(z, network.generator.decoder.noise(count, draws))[0]

    real = torch.cat(list(data.batches(250, size)))
    decoded = torch.cat([network.decode(network.encode(part.to(device))).cpu() for part in real.split(250)])
    z = torch.randn(250, network.latent_dim, generator=torch.Generator().manual_seed(seed)).to(device)
    w = network.generator.styles(z)
    return {
        "samples": score_samples(draw, data, size, judge, seed),
        "reconstructions": frechet_distance(judge.features(real), judge.features(decoded)),
        "reciprocity": float(F.mse_loss(network.encode(network.decode(w)), w) / w.var(0).mean()),
    }


def train_alae32(job: Job) -> Card:
    """ALAE at 32 pixels on faces, all five styles."""
    seed_everything(job.seed)
    data, config = faces(load_emoji()), ALAEConfig()
    train = data.part("train")
    target = load_expert("autoencoder64", job.profile.device)
    codes = encode_codes(target, train, torch.zeros(len(train), dtype=torch.int64), config.latent)
    labels = train.labels["subgroup"].unique(return_inverse=True)[1]
    recipe = {"batch_size": 32, "r1": 0.1, "mixing": 0.5, "rate": 2e-3}
    method = ALAEMethod(train, labels, codes, config, **recipe)
    steps = job.profile.pick(quick=20, cpu=6000, gpu=100000)
    history = job.run("alae32", method, recipe["batch_size"], steps)
    network = ALAE(config)
    for name in method.modules:
        getattr(network, name).load_state_dict(history.averaged[name].state_dict())
    network.generator.set_mean()
    network = network.eval().to(job.profile.device)
    judge = Judge.load().to(job.profile.device)
    metrics = {}
    for part in ("val", "test"):
        scores = score_alae(network, data.part(part), judge, job.seed)
        metrics |= {
            f"Fréchet distance (judge features) on {part}": scores["samples"],
            f"Fréchet distance (judge features) of reconstructions on {part}": scores["reconstructions"],
        }
    metrics["latent reciprocity error, share of variance"] = scores["reciprocity"]
    notes = "Smileys and busts of people, all styles. F, G, E and D; the moving average of all four."
    recipe |= {"r1_every": method.r1_every, **vars(method.schedule)}
    card = Card("alae32", "alae", config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
    primary = "Fréchet distance (judge features) on val"
    return publish(job, card, network.state_dict(), history, primary, higher=False, bits=8)
