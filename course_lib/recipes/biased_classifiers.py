"""Training of two classifiers that differ in one thing: what their training pictures let them rely on (notebook 06)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet, load_kinds
from ..data.degrade import edges
from ..data.stylise import shuffle_patches, stylise
from ..evaluation.cue_bias import measure_bias
from ..experts.classifier import ClassifierConfig
from ..profiles import seed_everything
from ..training import Card
from .classifiers import ClassifierMethod
from .recipe import Job, data_hash, publish

__all__ = ["BiasedClassifierMethod", "train_shape_classifier", "train_texture_classifier"]


class BiasedClassifierMethod(ClassifierMethod):
    """A classifier of kinds that is trained on changed pictures only.

    Args:
        data: training pictures.
        config: sizes.
        change: float pictures ``(B, 3, S, S)`` and a CPU generator → changed pictures.
    """

    def __init__(
        self, data: ImageSet, config: ClassifierConfig, change: Callable[[Tensor, torch.Generator], Tensor]
    ) -> None:
        super().__init__(data, config)
        self.change = change

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        images, labels = super().batch(index, generator)
        changed = self.change(images.contiguous(), generator)
        return changed.contiguous(memory_format=torch.channels_last), labels


def _train(job: Job, name: str, change: Callable[[Tensor, torch.Generator], Tensor], primary: str, notes: str) -> Card:
    """Same network, same first weights, same order of pictures, same budget: only ``change`` differs."""
    data = load_kinds()
    # The common method wants a label of that name; here every kind is a style of its own.
    data = data.relabelled(data.labels | {"style": data.labels["kind"]}, data.classes | {"style": data.classes["kind"]})
    seed_everything(job.seed)
    config = ClassifierConfig({"kind": len(data.classes["kind"])}, width=12)
    method = BiasedClassifierMethod(data.part("train"), config, change)
    history = job.run(name, method, 64, job.profile.pick(quick=60, cpu=1500, gpu=20000), last=True)
    net = history.averaged["classifier"].eval()
    metrics = {}
    for part in ("val", "test"):
        found = measure_bias(net, data.part(part))
        metrics |= {f"{key} on {part}": value for key, value in vars(found).items()}
    card = Card(name, "classifier", config.to_dict(), {"batch_size": 64}, data=data_hash(data), metrics=metrics)
    card.notes = notes
    return publish(job, card, net.state_dict(), history, primary, higher=True, bits=8)


def _stylised_or_drawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures stylised, the others as edges."""
    drawn = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(drawn.to(images.device)[:, None, None, None], edges(images), stylise(images, generator))


def train_shape_classifier(job: Job) -> Card:
    """Stylised pictures and line drawings: colours and textures are random or missing, only shape tells the class."""
    notes = "Trained on stylised pictures (course_lib.data.stylise.stylise) and edges (.degrade.edges), half and half."
    return _train(job, "classifier-shape", _stylised_or_drawn, "edges on val", notes)


def train_texture_classifier(job: Job) -> Card:
    """Shuffled patches: shape is gone, only colours and textures tell the class."""
    notes = "Trained on pictures cut into shuffled 8-pixel patches only (course_lib.data.stylise.shuffle_patches)."
    return _train(job, "classifier-texture", shuffle_patches, "shuffled on val", notes)
