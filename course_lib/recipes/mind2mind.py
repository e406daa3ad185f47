"""Training of the shipped MindGANs: one on an ALAE's codes, two on main directions of an autoencoder's; minutes."""

from dataclasses import dataclass
from functools import cache

from ..data import ImageSet, fresh_kinds, fresh_people, load_kinds, load_people
from ..evaluation import Judge
from ..evaluation.features import judge_features
from ..experts import TargetExpert
from ..mind2mind import MainDirections, MindConfig, MindMethod, TransferredGAN, encode_set, load_halves, score_transfer
from ..mind2mind.transfer import KIND, new_tensors
from ..profiles import seed_everything
from ..training import Card
from .recipe import Job, data_hash, publish

__all__ = ["NEAR", "SIZES", "SOURCE", "TARGETS", "Target", "train_far", "train_near", "train_style"]

SOURCE, NEAR = "avatar-alae", "micah"
SIZES = MindConfig(64, 64, (128, 256), (256, 128))
"""For codes of 64 numbers, an eighth of the published 512: narrower, too, and one layer less."""


@dataclass(frozen=True)
class Target:
    """What a shipped MindGAN draws.

    Attributes:
        kind: of :func:`load_kinds`; a people style has its 2,544 training pictures of :func:`load_people`.
        source: the frozen expert.
        directions: main directions of its codes that are kept; 0 for the codes themselves.
        sizes, batch_size, steps: of MindGAN and its training.
    """

    kind: str
    source: str
    directions: int
    sizes: MindConfig
    batch_size: int
    steps: int

    def train(self) -> ImageSet:
        """Training pictures."""
        people = load_people()
        if self.kind in people.classes["style"]:
            return people.part("train").where(style=self.kind)
        return load_kinds().part("train").where(kind=self.kind)

    def unseen(self) -> ImageSet:
        """Pictures that are in no file, drawn for scores: 792 people or 400 things."""
        return _unseen(self.kind)

    def expert(self, device: str = "cpu") -> TargetExpert:
        """The frozen halves."""
        expert = load_halves(self.source, device)
        return MainDirections.fit(expert, self.train(), self.directions) if self.directions else expert


@cache
def _unseen(kind: str) -> ImageSet:
    people = kind in load_people().classes["style"]
    return fresh_people(1, 9, (kind,)) if people else fresh_kinds(400, 9, (kind,))


TARGETS = {
    "avatar-mind2mind": Target(NEAR, SOURCE, 0, SIZES, 128, 4000),
    "avatar-mind2mind-style": Target(
        "big-smile", "avatar-autoencoder", 128, MindConfig(128, 64, (256, 512), (512, 256)), 64, 2500
    ),
    "avatar-mind2mind-far": Target("planets", "avatar-autoencoder", 64, SIZES, 64, 3000),
}


def train_near(job: Job) -> Card:
    """People in a style that the ALAE knows."""
    return _train(job, "avatar-mind2mind")


def train_style(job: Job) -> Card:
    """People in a style that it does not know, on an autoencoder."""
    return _train(job, "avatar-mind2mind-style")


def train_far(job: Job) -> Card:
    """Planets, on an autoencoder."""
    return _train(job, "avatar-mind2mind-far")


def _train(job: Job, name: str) -> Card:
    """Published settings, and a moving average of the generator's weights, which the published code has not."""
    seed_everything(job.seed)
    target = TARGETS[name]
    expert, data, unseen = target.expert(job.profile.device), target.train(), target.unseen()
    codes, held = encode_set(expert, data), encode_set(expert, unseen)
    recipe = {"batch_size": target.batch_size, "average": 0.99, "rate": 1e-3, "directions": target.directions}
    method = MindMethod(codes, target.sizes, held, recipe["rate"], average=recipe["average"])
    steps = job.profile.pick(quick=20, cpu=target.steps, gpu=4 * target.steps)
    history = job.run(name, method, target.batch_size, steps, checkpoint_every=0)
    gan = TransferredGAN(history.averaged["generator"], expert, method.modules["critic"], codes)
    found = score_transfer(gan, codes, unseen, judge_features(), job.seed)
    seen = Judge.load().predict(gan.sample(len(unseen), job.seed), "kind")
    config = {"source": target.source, "target": target.kind, "networks": target.sizes.to_dict()}
    card = Card(name, KIND, config, recipe, data=data_hash(data))
    card.metrics = {
        "Fréchet distance": found["Mind2Mind"],
        "Fréchet distance of the ceiling": found["ceiling"],
        "Fréchet distance of a Gaussian of the codes": found["Gaussian"],
        "Fréchet distance of codes": found["codes"],
        "read as the target": (seen == load_kinds().classes["kind"].index(target.kind)).float().mean().item(),
    }
    card.notes = (
        f"Generator (moving average) and critic between the frozen halves of {target.source}, which are not in it."
    )
    return publish(job, card, new_tensors(gan), history, "Fréchet distance", higher=False)
