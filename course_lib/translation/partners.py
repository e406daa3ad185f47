"""Pseudo pairs: partners across domains, found in latents alone, without pairs and without labels of content."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pseudo_pairs"]


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
        latents: ``(N, D)``.
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
