"""One layer of a classifier as the source expert (paper §4, figure 12)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..experts import Classifier

__all__ = ["LayerSource", "fit_layer", "layer_outputs"]

_SIDE = 8


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
            output = outputs[name]
            if output.ndim == 4 and output.shape[-1] > _SIDE:
                output = F.adaptive_avg_pool2d(output, _SIDE)
            found[name].append(output.flatten(1))
    return {name: torch.cat(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class LayerSource:
    """Source expert: a layer's output on its leading principal components.

    The paper reads feature maps with strided convolutions. A fixed linear map does for a comparison of layers, and
    costs a hundredth of the time.

    Attributes:
        classifier: frozen.
        name: a layer of it.
        mean: ``(F,)`` of the flattened output on the pictures it was fitted on.
        axes: ``(F, K)``: orthonormal directions.
        scale: square root of the mean variance of the K components, one number: conditions have variance 1 on average.
        kept: share of the layer's variance that the K components hold.
    """

    classifier: Classifier
    name: str
    mean: Tensor
    axes: Tensor
    scale: float
    kept: float

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (self.axes.shape[1],)

    def project(self, output: Tensor) -> Tensor:
        """Condition ``(B, K)`` of the layer's output ``(B, F)``, as :func:`layer_outputs` gives it."""
        return (output - self.mean) @ self.axes / self.scale

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
    components = min(components, output.shape[1])
    if len(output) <= components:
        raise CourseError(f"{components} principal components need more than {len(output)} pictures.")
    mean = output.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, values, axes = torch.pca_lowrank(output - mean, components, center=False)
    variance = values.square() / (len(output) - 1)
    kept = (variance.sum() / output.var(0).sum()).item()
    return LayerSource(classifier, name, mean, axes, variance.mean().sqrt().item(), kept)
