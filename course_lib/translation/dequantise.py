"""Dequantisation: a small variational autoencoder turns a discrete set of class embeddings into a density."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..released import Dequantiser, DequantiserConfig
from ..training.method import Loss, Method

__all__ = ["DequantiserMethod", "class_distance", "likelihood_width", "nearest_class", "start_dequantiser"]


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


def _linear(network: nn.Module, matrix: Tensor, offset: Tensor) -> None:
    """Sets a LeakyReLU network whose hidden layers are twice as wide as its ends to ``x ↦ matrix · x + offset``.

    The hidden layers carry ``x`` and ``−x``; from the two activations the next layer restores both.
    """
    slope = next(part.negative_slope for part in network.modules() if isinstance(part, nn.LeakyReLU))
    first, *middle, last = [part for part in network.modules() if isinstance(part, nn.Linear)]
    both = torch.cat([torch.eye(first.in_features), -torch.eye(first.in_features)])
    for layer, weight in ((first, both), *((layer, both @ both.T / (1 + slope)) for layer in middle)):
        layer.weight.copy_(weight)
        layer.bias.zero_()
    last.weight.copy_(matrix @ both.T / (1 + slope))
    last.bias.copy_(offset)


@torch.no_grad()
def start_dequantiser(embeddings: Tensor, spread: float = 0.3) -> Dequantiser:
    """A network of the paper's layout that can be trained, and that begins as the best isotropic linear autoencoder.

    Five linear layers with default weights lose their input on the way, and learn for tens of thousands of steps to let
    it through (the released weights have 20,000). This start lets it through at once: the code is the standardised
    embedding, its deviation what the width of the likelihood asks for. The code is as long as the embedding, as in the
    paper: with a shorter one all neighbours would lie on a surface, and a surface has no density either.

    Args:
        embeddings: ``(C, E)``, of a frozen generator; the hidden layers are ``2 E`` wide.
        spread: as for :class:`DequantiserMethod`.

    Raises:
        CourseError: see :func:`class_distance`.
    """
    embeddings = embeddings.detach().cpu()
    dim = embeddings.shape[1]
    width = likelihood_width(embeddings, spread)
    network = Dequantiser(DequantiserConfig(dim, dim, 2 * dim))
    mean, scale = embeddings.mean(0), embeddings.std(0, correction=0).mean()
    eye = torch.eye(dim)
    _linear(network.encoder, eye, torch.zeros(dim))
    _linear(network.mu_layer, eye / scale, -mean / scale)
    _linear(network.logvar_layer, 0 * eye, (width**2 / (width**2 + scale**2)).log().expand(dim))
    _linear(network.decoder, eye * scale, mean)
    return network.requires_grad_(True)


def likelihood_width(embeddings: Tensor, spread: float) -> float:
    """``s`` of the likelihood: an error vector with this deviation has the length ``spread`` × class distance."""
    return spread * class_distance(embeddings) / embeddings.shape[1] ** 0.5


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
        self.width = likelihood_width(self.embeddings, spread)
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
