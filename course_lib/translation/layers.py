"""One layer of a classifier as the source expert (paper §4, figure 12)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..experts import Classifier
from .components import Components, flat

__all__ = ["LayerSource", "fit_layer", "layer_outputs"]


@torch.no_grad()
def layer_outputs(
    classifier: Classifier, names: Sequence[str], pictures: Tensor, batch_size: int = 250
) -> dict[str, Tensor]:
    """Several layers in one pass over the pictures.

    Args:
        classifier: frozen.
        names: among ``classifier.layers``.
        pictures: ``(N, 3, S, S)`` in [−1, 1].
        batch_size: pictures at a time.

    Returns:
        name → ``(N, F)``; feature maps are averaged to at most 8×8 and flattened.

    Raises:
        CourseError: there is no such layer.
    """
    unknown = [name for name in names if name not in classifier.layers]
    if unknown:
        raise CourseError(f"the classifier has no layer {unknown[0]!r}: choose among {', '.join(classifier.layers)}.")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in pictures.split(batch_size):
        maps = classifier.maps(part)
        pooled = F.relu(classifier.norm(maps[-1])).mean((2, 3))
        logits = torch.cat([classifier.heads[head](pooled) for head in classifier.config.heads], 1)
        outputs = dict(zip(classifier.layers, [*maps, pooled, logits], strict=True))
        for name in names:
            found[name].append(flat(outputs[name]))
    return {name: torch.cat(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class LayerSource:
    """Source expert: a layer's output on its leading principal components.

    Attributes:
        classifier: frozen.
        name: a layer of it.
        components: fitted on the layer's output, as :func:`layer_outputs` gives it.
    """

    classifier: Classifier
    name: str
    components: Components

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (self.components.axes.shape[1],)

    @property
    def kept(self) -> float:
        """Share of the layer's variance that the K components hold."""
        return self.components.kept

    def project(self, output: Tensor) -> Tensor:
        """Condition ``(B, K)`` of the layer's output ``(B, F)``, as :func:`layer_outputs` gives it."""
        return self.components(output)

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, K)`` of images in [−1, 1]."""
        return self.project(layer_outputs(self.classifier, [self.name], x)[self.name])


def fit_layer(classifier: Classifier, name: str, output: Tensor, components: int = 128, seed: int = 0) -> LayerSource:
    """Finds the principal components of a layer.

    Args:
        classifier: frozen.
        name: of the layer.
        output: ``(N, F)`` of training pictures, from :func:`layer_outputs`; a thousand are enough.
        components: ``K``; fewer where the layer has fewer numbers.
        seed: of the randomised decomposition.

    Raises:
        CourseError: fewer pictures than components.
    """
    return LayerSource(classifier, name, Components.fit(output, components, seed))
