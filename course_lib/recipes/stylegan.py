"""Training of the unconditional StyleGAN on faces: the generator that Hyper-Modulation reuses."""

from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageSet, load_emoji
from ..evaluation import Judge
from ..experts import load_expert
from ..gans.losses import logistic_generator
from ..gans.stylegan import StyleGAN, StyleGANConfig, mix_styles
from ..gans.stylegan_critic import StyleGANCritic
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss
from .gan import SCHEDULE, CodedGANMethod, GANSchedule, encode_codes, penalised_critic_loss, score_samples
from .recipe import Job, data_hash, publish

__all__ = ["StyleGANMethod", "faces", "train_stylegan32"]

_BUSTS = ("person", "person-role", "person-gesture", "person-fantasy")


def faces(data: ImageSet) -> ImageSet:
    """The source domain: smileys, and people drawn from the chest up, in all styles."""
    names = data.classes["subgroup"]
    chosen = [k for k, name in enumerate(names) if name.startswith("face-") or name in _BUSTS]
    return data.subset(torch.isin(data.labels["subgroup"], torch.tensor(chosen)))


class StyleGANMethod(CodedGANMethod):
    """Non-saturating logistic loss with a lazy R1 penalty and style mixing.

    Args:
        data: training pictures.
        labels: ``(N,)``: what is to be drawn evenly; the networks do not see it.
        codes: ``(2, N, latent)``.
        config: sizes.
        schedule: and weights.
        rate: Adam's learning rate.
        r1: weight of the penalty, applied every ``r1_every`` steps, that many times as strong. The published 10/2
            belongs to large pictures: at 32 pixels it keeps the critic too smooth to ask for any detail.
        mixing: share of generator steps in which two styles rule one picture.
    """

    r1_every = 16

    def __init__(
        self,
        data: ImageSet,
        labels: Tensor,
        codes: Tensor,
        config: StyleGANConfig,
        schedule: GANSchedule = SCHEDULE,
        rate: float = 2e-3,
        r1: float = 0.1,
        mixing: float = 0.5,
    ):
        generator, critic = StyleGAN(config), StyleGANCritic(config)
        super().__init__(data, labels, codes, generator, critic, config.size, schedule, rate)
        self.r1, self.mixing = r1, mixing
        self.ema = {"generator": 0.998}
        mapping = list(generator.mapping.parameters())
        rest = list(generator.synthesis.parameters())
        # The mapping network moves a tenth as fast: its eight layers stand before everything else.
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": mapping, "lr": 0.1 * rate}]
        self.optimizers["generator"] = torch.optim.Adam(groups, rate, (0.0, 0.99), fused=True)

    def generate(
        self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, samples: int = 0
    ) -> Tensor:
        synthesis = self.unwrapped("generator").synthesis
        noise = synthesis.noise(len(z), generator)
        if samples and torch.rand((), generator=generator) < self.mixing:
            # Codes of known pictures keep their one style.
            other = torch.cat([z[:samples].roll(1, 0), z[samples:]])
            z = mix_styles(z, other, len(synthesis.blocks), generator)
        return network(z, noise)

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        return penalised_critic_loss(self.modules["critic"], real, fake, step, self.r1, self.r1_every)

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return logistic_generator(self.unwrapped("critic")(fake))


@torch.no_grad()
def score_faces(generator: StyleGAN, data: ImageSet, judge: Judge, seed: int = 0, truncation: float = 1.0) -> float:
    """Fréchet distance (judge features) of as many samples as ``data`` has pictures, at the generator's size."""
    device = next(generator.parameters()).device

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, generator.config.latent, generator=draws).to(device)
        return generator(z, generator.synthesis.noise(count, draws), truncation)

    return score_samples(draw, data, generator.config.size, judge, seed)


def train_stylegan32(job: Job) -> Card:
    """StyleGAN at 32 pixels on faces, all five styles; its critic is published as ``stylegan32-critic``."""
    seed_everything(job.seed)
    data, config = faces(load_emoji()), StyleGANConfig(latent=64)
    train = data.part("train")
    target = load_expert("autoencoder64", job.profile.device)
    codes = encode_codes(target, train, torch.zeros(len(train), dtype=torch.int64), config.latent)
    labels = train.labels["subgroup"].unique(return_inverse=True)[1]
    method = StyleGANMethod(train, labels, codes, config)
    steps = job.profile.pick(quick=20, cpu=8000, gpu=100000)
    recipe = {"batch_size": 32, "r1": method.r1, "mixing": method.mixing, **vars(method.schedule)}
    history = job.run("stylegan32", method, recipe["batch_size"], steps)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(job.profile.device)
    metrics = {
        f"Fréchet distance (judge features) on {part}": score_faces(network, data.part(part), judge, job.seed)
        for part in ("val", "test")
    }
    notes = "Smileys and busts of people, all styles; the critic beside it, stylegan32-critic, is of the same run."
    primary = "Fréchet distance (judge features) on val"
    for name, kind, state in (
        ("stylegan32-critic", "stylegan critic", method.modules["critic"].state_dict()),
        ("stylegan32", "stylegan", network.state_dict()),
    ):
        card = Card(name, kind, config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
        published = publish(job, card, state, history, primary, higher=False, bits=8)
    return published
