"""Dequantisation: a small variational autoencoder turns a discrete set of class embeddings into a density."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..released.dequantiser import Dequantiser, DequantiserConfig
from ..training.method import Loss, Method

__all__ = ["DequantiserMethod", "class_distance", "nearest_class", "start_dequantiser"]


def class_distance(embeddings: Tensor) -> float:
    """Mean distance from a class embedding to the nearest other one; ``embeddings: (C, E)``.

    Raises:
        CourseError: fewer than two classes, or two that share a point.
    """
    if len(embeddings) < 2:
        raise CourseError("a distance between classes needs two of them.")
    distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(float("inf")).amin(1)
    if float(nearest.min()) == 0:
        raise CourseError("two classes have the same embedding: nothing can tell them apart.")
    return nearest.mean().item()


def nearest_class(vectors: Tensor, embeddings: Tensor) -> Tensor:
    """``int64 (B,)``: the class whose embedding ``(C, E)`` is nearest to each of ``vectors: (B, E)``."""
    return torch.cdist(vectors, embeddings).argmin(1)


def start_dequantiser(dim: int, width: int = 128, code: int = 32, seed: int = 0) -> Dequantiser:
    """A fresh network of the paper's layout (its table 5, with other widths) that can be trained.

    Args:
        dim: ``E`` of the embeddings.
        width: of the hidden layers; 4096 in the paper.
        code: numbers in its code; 128 in the paper.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dequantiser(DequantiserConfig(dim, code, width)).requires_grad_(True)


class DequantiserMethod(Method):
    """The evidence lower bound with a Gaussian likelihood of fixed width, on the class embeddings alone.

    ``‖e − ê‖² / (2 s²) + KL``: the random reconstruction ``ê`` ends up about ``s`` away from ``e`` in every direction
    that the code carries. The width decides what the flow sees, so it is given in units in which it can be judged: the
    expected length of a whole error vector of width ``s``, as a share of the mean distance between neighbouring
    classes. The original's training code is not released; this objective is ours.

    Args:
        embeddings: ``(C, E)``, of a frozen generator.
        network: of :func:`start_dequantiser`.
        spread: that share.
        rate: Adam's.
    """

    def __init__(self, embeddings: Tensor, network: Dequantiser, spread: float = 0.3, rate: float = 1e-3):
        super().__init__()
        self.embeddings = embeddings.detach().clone()
        self.width = spread * class_distance(self.embeddings) / embeddings.shape[1] ** 0.5
        self.modules = {"dequantiser": network}
        self.optimizers = {"dequantiser": torch.optim.Adam(network.parameters(), rate, fused=True)}
        self.ema, self.length = {"dequantiser": 0.99}, 1024 * len(embeddings)

    def to_device(self, device: torch.device) -> None:
        """Moves the embeddings."""
        super().to_device(device)
        self.embeddings = self.embeddings.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, E)`` of all classes in turn, and the noise for their codes."""
        network = self.unwrapped("dequantiser")
        noise = torch.randn(len(index), network.config.code_dim, generator=generator)
        return self.embeddings[index.to(self.device) % len(self.embeddings)], noise.to(self.device)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase."""
        embedding, noise = batch
        network = self.unwrapped("dequantiser")
        features = network.encoder(embedding)
        mean, log_variance = network.mu_layer(features), network.logvar_layer(features).clamp(-20.0, 10.0)
        found = network.decoder(mean + noise * (0.5 * log_variance).exp())
        error = (found - embedding).square().sum(1).mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
        yield Loss("dequantiser", error / (2 * self.width**2) + kl, {"kl": kl, "error": error.sqrt()})

    def learning_rate(self, progress: float) -> float:
        """Falls linearly to a twentieth."""
        return 1.0 - 0.95 * progress
