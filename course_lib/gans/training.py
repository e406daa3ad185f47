"""What trainings of these generators share: losses, the gradient penalty, and known noise vectors, called codes.

A code is the latent of a real picture, made to look like the noise that a generator is fed with.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CodeSpace", "class_codes", "encode_mirrored", "gaussian_codes", "hinge_critic", "hinge_generator"]
__all__ += ["latent_reciprocity", "logistic_critic", "logistic_generator", "r1_penalty"]


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 − D(x)) + mean relu(1 + D(G(z))): what the critic minimises (Lim and Ye 2017)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−mean D(G(z))."""
    return -fake.mean()


def logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(−D(x)) + mean softplus(D(G(z))): the original critic's loss (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """mean softplus(−D(G(z))), the non-saturating loss."""
    return F.softplus(-fake).mean()


def latent_reciprocity(found: Tensor, w: Tensor) -> Tensor:
    """mean (E(G(w)) − w)² over batch and dimensions: ALAE's autoencoder loss, which looks at styles, not at pixels.

    ``found (B, latent)`` are styles read off pictures, ``w`` those that made them. The target is detached; w also made
    the picture that E read, so its mapping learns too, through the picture.
    """
    return F.mse_loss(found.float(), w.detach().float())


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² on real pictures (Mescheder et al. 2018); ``images`` must require a gradient. Usual weight 10/2."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@dataclass(frozen=True)
class CodeSpace:
    """How a latent becomes a code: inside each class codes have mean zero and about unit covariance.

    A generator that learned to decode such codes reads new pictures only if their codes are made in the same space.
    """

    directions: Tensor  # (D, dims): the main directions of the latents around their class means
    common: Tensor  # (dims, dims): their covariance along these, over all classes

    @classmethod
    def fit(cls, latent: Tensor, labels: Tensor, dims: int) -> "CodeSpace":
        """The space of pictures with latents ``(N, D)`` and labels ``(N,)`` from 0, for codes of ``dims`` numbers, D at
        most.
        """
        centred = _centred(latent, labels)
        common, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        # Fewer pictures than directions leave some without any variance; a floor keeps the covariance invertible.
        return cls(directions[:, -dims:], common[-dims:].clamp_min(1e-6 * common[-1]).diag())

    def codes(self, latent: Tensor, labels: Tensor, prior: float = 30.0) -> Tensor:
        """Codes of pictures with latents ``(N, D)`` and labels ``(N,)`` from 0: ``(N, dims)``.

        The class mean is taken away, what is left is projected and whitened with the covariance of the class, shrunk
        towards that of all classes as if ``prior`` more pictures had that one.
        """
        codes, common = _centred(latent, labels) @ self.directions.double(), self.common.double()
        for label in labels.unique():
            member = labels == label
            part = codes[member]
            covariance = (part.T @ part + prior * common) / (len(part) + prior)
            codes[member] = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), part.T, upper=False).T
        return codes.to(latent.dtype)


def _centred(latent: Tensor, labels: Tensor) -> Tensor:
    centred = latent.double().clone()
    for label in labels.unique():
        centred[labels == label] -= centred[labels == label].mean(0)
    return centred


def class_codes(latent: Tensor, labels: Tensor, dims: int, prior: float = 30.0) -> Tensor:
    """Codes ``(N, dims)`` of pictures in the space that they span themselves, see :class:`CodeSpace`."""
    return CodeSpace.fit(latent, labels, dims).codes(latent, labels, prior)


@torch.no_grad()
def encode_mirrored(encode: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """Latents ``(2 N, D)`` on the CPU: of N pictures in order, then of their mirror images."""
    both = [(encode(part).cpu(), encode(part.flip(-1)).cpu()) for part in batches]
    return torch.cat([plain for plain, _ in both] + [mirrored for _, mirrored in both])


def gaussian_codes(latent: Tensor, dims: int, rounds: int = 60, seed: int = 0) -> Tensor:
    """Codes ``(N, dims)`` of latents ``(N, D)`` that are distributed like N(0, I), neighbours staying neighbours.

    Principal components are bent until they are normal: every coordinate is replaced by the normal quantile of its
    rank, then all are turned by a random rotation, and so on. Source: Laparra et al. 2011, "Iterative Gaussianization".
    """
    draws, centred = torch.Generator().manual_seed(seed), latent.double() - latent.double().mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    codes = centred @ directions[:, -dims:] / values[-dims:].clamp_min(1e-12).sqrt()
    for _ in range(rounds):
        ranks = codes.argsort(0).argsort(0)
        codes = torch.special.ndtri((ranks.double() + 0.5) / len(codes))
        turn, _ = torch.linalg.qr(torch.randn(dims, dims, generator=draws, dtype=torch.float64))
        codes = codes @ turn
    return codes.to(latent.dtype)
