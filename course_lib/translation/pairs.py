"""Encoded training pairs: experts are frozen, so every picture goes through them once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet, augment
from ..errors import CourseError
from ..experts import Autoencoder

__all__ = ["Pairs", "encode_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Conditions and latents of the same pictures.

    Attributes:
        condition: ``(N, *condition_shape)``.
        mean, std: ``(N, D)``: the target posterior; a latent is drawn from it at every step, which keeps a flow
            on few pictures from learning them by heart.
    """

    condition: Tensor
    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        if not len(self.condition) == len(self.mean) == len(self.std):
            counts = f"{len(self.condition)}, {len(self.mean)} and {len(self.std)}"
            raise CourseError(f"pairs need one condition, mean and standard deviation for each picture, not {counts}.")

    def __len__(self) -> int:
        return len(self.mean)

    def to(self, device: torch.device | str) -> "Pairs":
        """The pairs on ``device``."""
        return Pairs(self.condition.to(device), self.mean.to(device), self.std.to(device))

    def subset(self, index: Tensor) -> "Pairs":
        """The pairs at ``index``, ``int64 (M,)``."""
        return Pairs(self.condition[index], self.mean[index], self.std[index])

    def latents(self, seed: int = 0) -> Tensor:
        """One sample of every picture's posterior, ``(N, D)``; the same seed gives the same latents on every device."""
        noise = torch.randn(self.mean.shape, generator=torch.Generator().manual_seed(seed))
        return self.mean + noise.to(self.mean) * self.std


@torch.no_grad()
def encode_pairs(
    data: ImageSet,
    condition: Callable[[Tensor], Tensor],
    target: Autoencoder,
    variants: int = 1,
    seed: int = 0,
    batch_size: int = 200,
    noise: float = 0.0,
) -> Pairs:
    """Runs both experts over ``data``.

    Args:
        data: pictures at the target's size.
        condition: float pictures ``(B, 3, S, S)`` → condition, detached.
        target: gives the posterior.
        variants: how often each picture is encoded; the first time as it is, the second mirrored, then with random
            affine maps and swapped colour channels, every other one mirrored.
        seed: of those.
        batch_size: pictures at a time; it changes the memory needed, not the result of the first two variants.
        noise: standard deviation of Gaussian noise that is added to every latent. A decoder that bears it spares a flow
            the finest digits: it then spends itself on what can be seen.

    Raises:
        CourseError: no picture or fewer than one variant.
    """
    if variants < 1 or not len(data):
        raise CourseError(f"there is nothing to encode: {len(data)} pictures, {variants} variants.")
    generator = torch.Generator().manual_seed(seed)
    device = next(target.parameters()).device
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for variant in range(variants):
        for images in data.batches(batch_size):
            images = images.to(device)
            if variant % 2:
                images = images.flip(-1)
            if variant > 1:
                images = augment.recolour(augment.affine(images, generator), generator)
            posterior = target.posterior(images)
            std = (posterior.log_variance.exp() + noise**2).sqrt()
            parts.append((condition(images), posterior.mean, std))
    return Pairs(*(torch.cat(column) for column in zip(*parts, strict=True)))
