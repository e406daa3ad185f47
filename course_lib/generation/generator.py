"""One interface over all generators of the course, whatever steers them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts.latent_space import LatentSpace

__all__ = ["ConditionalGenerator"]

BATCH = 64
"""Pictures drawn at a time."""


class ConditionalGenerator(ABC):
    """Latent, class vector and noise to pictures.

    A new kind of generator fills :meth:`class_vectors` and :meth:`_pictures`, and :meth:`noise` if it takes any.

    Attributes:
        name: of the checkpoint.
        classes: names; empty for a generator without classes.
        size: side of the pictures in pixels.
        latent: length of z.
        blocks: layers that can each be given a z and a class vector of their own, from coarse to fine.
        device: where it runs; vectors that it gives and takes are on the CPU.
        space: where the network draws latents, what decodes them.
    """

    name: str
    classes: list[str]
    size: int
    latent: int
    blocks: int
    device: torch.device
    space: LatentSpace | None = None

    def labels(self, names: Sequence[str]) -> Tensor:
        """``int64 (len(names),)``: positions in :attr:`classes`.

        Raises:
            CourseError: there is no such class.
        """
        if not self.classes:
            raise CourseError(f"{self.name} has no classes: choose another checkpoint, or leave the classes out.")
        for name in names:
            if name not in self.classes:
                known = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
                raise CourseError(f"{self.name} has no class {name!r}: it has {known}.")
        return torch.tensor([self.classes.index(name) for name in names], dtype=torch.int64)

    @abstractmethod
    def class_vectors(self, labels: Tensor) -> Tensor:
        """Class indices ``(B,)`` → vectors ``(B, K)``. Any point between two of them may be drawn."""

    def vectors_of(self, names: Sequence[str]) -> Tensor:
        """Class vectors ``(len(names), K)``, see :meth:`labels` for what is raised."""
        return self.class_vectors(self.labels(names))

    def latents(self, count: int, seed: int) -> Tensor:
        """``(count, latent)``, standard normal; the first ones of a larger count are the same."""
        draws = torch.Generator().manual_seed(seed)
        # One by one: the last numbers of a tensor drawn at once depend on its size.
        return torch.stack([torch.randn(self.latent, generator=draws) for _ in range(count)])

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """Noise maps for ``count`` pictures, ``(count, …)`` each; none where the generator takes none."""
        return []

    @abstractmethod
    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        """Pictures, or latents of :attr:`space`; see :meth:`draw`. Everything is checked and on :attr:`device`."""

    @torch.no_grad()
    def draw(
        self,
        z: Tensor,
        vectors: Tensor | None = None,
        noise: Sequence[Tensor] | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Pictures ``(B, 3, size, size)`` in [−1, 1] on the CPU; equal arguments give equal pictures.

        Args:
            z: ``(B, latent)``, or one for each layer, ``(B, blocks, latent)``.
            vectors: class vectors ``(B, K)``, or one for each layer ``(B, blocks, K)``. None where the generator has no
                classes; a hyper-modulated one then draws its source domain.
            noise: of :meth:`noise`; that of seed 0 by default.
            truncation: 1 draws from the whole distribution, 0 the mean (StyleGAN: of the styles; BigGAN: z is scaled).

        Raises:
            CourseError: shapes that do not fit each other or the generator.
        """
        if z.ndim not in (2, 3) or z.shape[-1] != self.latent or (z.ndim == 3 and z.shape[1] != self.blocks):
            raise CourseError(
                f"{self.name} takes z (B, {self.latent}) or (B, {self.blocks}, {self.latent}), not {tuple(z.shape)}."
            )
        if vectors is not None and (len(vectors) != len(z) or (vectors.ndim == 3 and vectors.shape[1] != self.blocks)):
            raise CourseError(
                f"{len(z)} pictures need as many class vectors (B, K) or (B, {self.blocks}, K), not "
                f"{tuple(vectors.shape)}."
            )
        noise = self.noise(len(z), 0) if noise is None else list(noise)
        pictures = []
        for part in torch.arange(len(z)).split(BATCH):
            given = None if vectors is None else vectors[part].to(self.device)
            maps = [one[part].to(self.device) for one in noise]
            drawn = self._pictures(z[part].to(self.device), given, maps, truncation)
            drawn = drawn if self.space is None else self.space.decode(drawn)
            pictures.append(drawn.float().clamp(-1, 1).cpu())
        return torch.cat(pictures)
