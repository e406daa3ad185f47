"""Training of the class-conditional BigGAN: the old classes of class transfer, and a target of text to image."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..data import NEW_SUBGROUPS, ImageSet, load_emoji
from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..experts import load_expert
from ..gans import BigGANConfig, Discriminator, Generator, start_weights
from ..gans.class_norm import standing_statistics
from ..gans.losses import hinge_critic, hinge_generator
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss
from .gan import SCHEDULE, CodedGANMethod, GANSchedule, encode_codes
from .recipe import Job, data_hash, publish

__all__ = ["BigGANMethod", "old_classes", "score_samples", "train_biggan32"]


def old_classes(data: ImageSet) -> ImageSet:
    """The pictures whose subgroup is not held out for class transfer; ``labels["subgroup"]`` counts anew from 0."""
    names = [name for name in data.classes["subgroup"] if name not in NEW_SUBGROUPS]
    index = torch.tensor([names.index(n) if n in names else -1 for n in data.classes["subgroup"]])
    labels = index[data.labels["subgroup"]]
    kept = data.subset(labels >= 0)
    kept_labels = kept.labels | {"subgroup": labels[labels >= 0]}
    return replace(kept, labels=kept_labels, classes=kept.classes | {"subgroup": names})


class BigGANMethod(CodedGANMethod):
    """Hinge loss with a projection critic.

    Args:
        data: training pictures with ``labels["subgroup"]`` from 0.
        codes: ``(2, N, noise)``, see :func:`course_lib.recipes.gan.encode_codes`.
        config: sizes.
        schedule: and weights.
        rate: Adam's learning rate.
    """

    def __init__(
        self,
        data: ImageSet,
        codes: Tensor,
        config: BigGANConfig,
        schedule: GANSchedule = SCHEDULE,
        rate: float = 2e-4,
    ):
        generator, critic = Generator(config), Discriminator(config)
        start_weights(generator)
        start_weights(critic)
        super().__init__(data, data.labels["subgroup"], codes, generator, critic, config.size, schedule, rate)

    def generate(
        self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, samples: int = 0
    ) -> Tensor:
        return network(z, self.unwrapped("generator").embed(labels))

    def critic_loss(self, real: Tensor, fake: Tensor, labels: Tensor, step: int) -> Loss:
        real, fake = self.modules["critic"](torch.cat([real, fake]), labels.repeat(2)).float().chunk(2)
        return Loss("critic", hinge_critic(real, fake), {"real": real.mean().detach(), "fake": fake.mean().detach()})

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        return hinge_generator(self.unwrapped("critic")(fake, labels))


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
    target = load_expert("autoencoder64", job.profile.device)
    codes = encode_codes(target, train, train.labels["subgroup"], config.noise)
    method = BigGANMethod(train, codes, config)
    steps = job.profile.pick(quick=20, cpu=6000, gpu=60000)
    recipe = {"batch_size": 64, **vars(method.schedule), "classes": data.classes["subgroup"]}
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
