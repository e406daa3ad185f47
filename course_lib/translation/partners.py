"""Pseudo pairs: partners across domains, found without pairs; in latents, or in what a frozen classifier sees."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet
from ..experts import Classifier

__all__ = ["content_features", "content_layers", "pseudo_pairs"]


@torch.no_grad()
def content_features(classifier: Classifier, data: ImageSet, batch_size: int = 250) -> Tensor:
    """What is where in each picture, ``(N, F)``: a late and a low layer of the classifier, each of unit length.

    A late layer says which things are seen in which place, a low one how they look there. On the bundled training part
    two thirds of the partners found in them are the same emoji, and half of those found in latents.
    """
    device = next(classifier.parameters()).device
    parts = []
    for images in data.batches(batch_size):
        layers = content_layers(classifier.maps(images.to(device)))
        parts.append(torch.cat([F.normalize(layer, dim=1) for layer in layers], 1))
    return torch.cat(parts)


def content_layers(maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of a classifier's four stages what is seen where, and how it looks there: the last and the second, ``(B, F)``."""
    _, low, _, late = (stage.float() for stage in maps)
    return late.flatten(1), F.adaptive_avg_pool2d(low, late.shape[2:]).flatten(1)


def _mutual(first: Tensor, second: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    first, second = (F.normalize(x - x.mean(0), dim=1) for x in (first, second))
    similarity = first @ second.T
    k = min(neighbours, *similarity.shape)
    # Cross-domain similarity local scaling: a picture that is close to everything ("hub") is nobody's partner.
    similarity = (
        2 * similarity
        - similarity.topk(k, 1).values.mean(1, keepdim=True)
        - similarity.topk(k, 0).values.mean(0, keepdim=True)
    )
    there, back = similarity.argmax(1), similarity.argmax(0)
    chosen = (back[there] == torch.arange(len(first), device=first.device)).nonzero()[:, 0]
    return chosen, there[chosen]


def pseudo_pairs(latents: Tensor, labels: Tensor, neighbours: int = 10) -> tuple[Tensor, Tensor]:
    """Pictures of two domains that are each other's nearest neighbours once the domains' means lie on each other.

    Args:
        latents: ``(N, D)``, or other features.
        labels: ``int64 (N,)``, the domains.
        neighbours: for the local scaling of similarities.

    Returns:
        Two ``int64 (P,)``: positions of partners, for every pair of domains.

    References:
        Conneau et al., "Word Translation Without Parallel Data", 2018 (mutual neighbours, CSLS).
    """
    first, second = [], []
    members = [(labels == value).nonzero()[:, 0].to(latents.device) for value in labels.unique()]
    for k, one in enumerate(members):
        for other in members[k + 1 :]:
            i, j = _mutual(latents[one], latents[other], neighbours)
            first.append(one[i])
            second.append(other[j])
    return torch.cat(first), torch.cat(second)
