"""Training of the shipped MindGANs: codes of one target set each, seconds to minutes."""

from ..data import ImageSet, load_emoji
from ..evaluation.features import judge_features
from ..experts import load_expert
from ..mind2mind import (
    QUARTER,
    SMALL,
    MindConfig,
    MindMethod,
    TransferredGAN,
    encode_set,
    gaussian_baseline,
    score_transfer,
)
from ..mind2mind.shipped import KIND, new_tensors, transfer_config
from ..profiles import seed_everything
from ..training import Card
from .emoji import faces
from .recipe import Job, data_hash, publish

__all__ = ["STYLE", "train_mind2mind32", "train_mind2mind64"]

STYLE = "openmoji"
"""The near target: black outlines, flat colours."""


def train_mind2mind32(job: Job) -> Card:
    """Faces in one style, from an ALAE of faces in all five."""
    data = faces(load_emoji()).where(style=STYLE)
    settings = {"batch_size": 128, "steps": 1000, "average": 0.99}
    return _train(job, "mind2mind32", "alae32", f"faces, {STYLE}", data, SMALL, settings)


def train_mind2mind64(job: Job) -> Card:
    """Faces from the autoencoder of all emoji."""
    settings = {"batch_size": 64, "steps": 4096, "average": 0.99}
    return _train(job, "mind2mind64", "autoencoder64", "faces", faces(load_emoji()), QUARTER, settings)


def _train(
    job: Job, name: str, source: str, target: str, data: ImageSet, config: MindConfig, settings: dict[str, float]
) -> Card:
    """Published settings, and a moving average of the generator's weights, which the published code has not."""
    seed_everything(job.seed)
    expert = load_expert(source, job.profile.device)
    parts = {part: data.part(part) for part in ("train", "val", "test")}
    codes, held = (encode_set(expert, parts[part]) for part in ("train", "val"))
    recipe = settings | {"rate": 1e-3}
    method = MindMethod(codes, config, held, recipe["rate"], average=recipe["average"])
    steps = recipe.pop("steps")
    steps = job.profile.pick(quick=20, cpu=steps, gpu=5 * steps)
    history = job.run(name, method, recipe["batch_size"], steps, checkpoint_every=0)
    gan = TransferredGAN(history.averaged["generator"], expert, method.modules["critic"], codes)
    metrics, features = {}, judge_features()
    for part in ("val", "test"):
        scores = score_transfer(gan, parts[part], features, job.seed)
        metrics |= {
            f"Fréchet distance (judge features) on {part}": scores.real,
            f"auto-encoding ceiling (judge features) on {part}": scores.ceiling,
            f"Fréchet distance of codes on {part}": scores.codes,
            f"a Gaussian of the codes instead (judge features) on {part}": gaussian_baseline(
                expert, codes, parts[part], features, job.seed
            ),
        }
    card = Card(name, KIND, transfer_config(gan, source, target), recipe, data=data_hash(load_emoji()))
    card.metrics = metrics
    card.notes = f"Generator (moving average) and critic between the frozen halves of {source}, which are not in it."
    return publish(
        job, card, new_tensors(gan), history, "Fréchet distance (judge features) on val", higher=False, bits=8
    )
