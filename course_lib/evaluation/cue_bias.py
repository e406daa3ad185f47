"""Does a classifier go by shape or by texture? Measured by pictures whose cues disagree (Geirhos et al. 2019)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet
from ..data.changes import cue_conflict, edges, shuffle_patches
from ..experts.classifier import Classifier

__all__ = ["CueBias", "measure_bias"]


@dataclass(frozen=True)
class CueBias:
    """Shares of right answers on changed pictures, in [0, 1].

    Attributes:
        plain, edges, shuffled: accuracy on the pictures as they are, on edges alone, on shuffled 8-pixel patches.
        shape: of the decisions on cue conflicts that name the class of the shape or that of the colours, the share that
            names the shape; 0.5 is no preference.
        decided: share of cue conflicts on which one of the two classes was named at all.
    """

    plain: float
    edges: float
    shuffled: float
    shape: float
    decided: float


@torch.no_grad()
def measure_bias(classifier: Classifier, data: ImageSet, label: str = "kind", seed: int = 0) -> CueBias:
    """Scores a classifier on held-out pictures.

    The cue conflicts pair every picture with a random other one, of another class.

    Args:
        classifier: frozen, with a head called ``label``.
        data: ``N`` held-out pictures.
        label: which classes are judged.
        seed: of the patches, the pairs and the conflicts' texture.
    """
    device = next(classifier.parameters()).device
    labels = data.labels[label]
    generator = torch.Generator().manual_seed(seed)
    images = torch.cat(list(data.batches(250)))

    def answers(change: Callable[[Tensor], Tensor]) -> Tensor:
        parts = [classifier(change(part).to(device))[label].argmax(1).cpu() for part in images.split(250)]
        return torch.cat(parts)

    def accuracy(change: Callable[[Tensor], Tensor]) -> float:
        return (answers(change) == labels).float().mean().item()

    other = torch.randperm(len(data), generator=generator)
    differs = labels != labels[other]
    named = torch.cat(
        [
            classifier(cue_conflict(images[part], images[other[part]], generator).to(device))[label].argmax(1).cpu()
            for part in torch.arange(len(data)).split(250)
        ]
    )
    by_shape, by_texture = ((named == cue)[differs].float().sum() for cue in (labels, labels[other]))
    return CueBias(
        accuracy(lambda x: x),
        accuracy(edges),
        accuracy(lambda x: shuffle_patches(x, generator)),
        (by_shape / (by_shape + by_texture).clamp_min(1)).item(),
        ((by_shape + by_texture) / differs.sum().clamp_min(1)).item(),
    )
