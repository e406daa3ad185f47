"""Training of the hyper-modulated generator: from faces to six other classes of emoji."""

from copy import deepcopy
from dataclasses import replace

from ..data import TRANSFER_CLASSES, load_emoji, transfer_classes
from ..evaluation import Judge
from ..experts import load_expert
from ..hypermod import ConditionalCritic, HyperGenerator, TransferMethod, TransferSettings
from ..hypermod.scores import HeldOut
from ..hypermod.shipped import KIND, hyper_config, hyper_tensors
from ..profiles import seed_everything
from ..training import Card
from .emoji import encode_codes
from .recipe import Job, data_hash, publish

__all__ = ["SETTINGS", "SOURCE", "train_hypermod32"]

SOURCE = "stylegan32"
SETTINGS = TransferSettings()
_WIDTH, _RANK = 16, 8


def train_hypermod32(job: Job) -> Card:
    """Hyper-modulation of the faces' generator with all training pictures of the six classes.

    Low-rank heads, so that the file is small, copies of what surrounds the convolutions, and a style offset for each
    class, without which the classes share their colours.
    """
    seed_everything(job.seed)
    data = transfer_classes(load_emoji())
    source, critic = load_expert(SOURCE), load_expert(f"{SOURCE}-critic")
    classes = list(TRANSFER_CLASSES)
    hyper = HyperGenerator(deepcopy(source), len(classes), _WIDTH, _RANK, finetune=True, class_styles=True)
    train = data.part("train")
    settings = replace(SETTINGS, ema=0.995, reconstruction=4.0, decode_first=0.35, decay=0.25)
    target = load_expert("autoencoder64", job.profile.device)
    codes = encode_codes(target, train, train.labels["class"], hyper.config.latent)
    method = TransferMethod(train, hyper, ConditionalCritic.from_source(critic, len(classes)), settings, codes=codes)
    steps = job.profile.pick(quick=20, cpu=4000, gpu=30000)
    recipe = {"batch_size": 24, "pictures": len(train), **vars(settings)}
    history = job.run("hypermod32", method, recipe["batch_size"], steps)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(job.profile.device)
    # Together, since a class has ten pictures in one of them; settings were tried on an earlier choice of classes.
    held = HeldOut.of(data.subset(data.split > 0), judge, hyper.config.size)
    metrics = {f"{name} (judge features, mean over classes)": value for name, value in held.mean(network).items()}
    config = hyper_config(SOURCE, classes, _WIDTH, _RANK, True, True)
    card = Card("hypermod32", KIND, config, recipe, data=data_hash(data), metrics=metrics)
    card.notes = (
        f"Heads, class network, class styles, and copies of constant, noise, styles and to-RGB; the modulated "
        f"generator is {SOURCE}. Scores: held-out pictures, val and test."
    )
    primary = "kernel distance (judge features, mean over classes)"
    return publish(job, card, hyper_tensors(network), history, primary, higher=False, bits=8)
