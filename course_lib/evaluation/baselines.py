"""Simple ways to keep a picture in a few numbers: what a learned code must beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet
from ..errors import CourseError

__all__ = ["PrincipalComponents", "thumbnail", "thumbnail_shape"]


def thumbnail_shape(numbers: int) -> tuple[int, int]:
    """Height and width of the largest nearly square colour picture of at most ``numbers`` values: 128 → (6, 7).

    Raises:
        CourseError: fewer than three numbers, which is not one pixel.
    """
    if numbers < 3:
        raise CourseError(f"a colour pixel needs three numbers, not {numbers}.")
    height = int((numbers // 3) ** 0.5)
    return height, numbers // 3 // height


def thumbnail(images: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """Pictures reduced to at most ``numbers`` values by area averaging, and enlarged again by bicubic interpolation.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].

    Returns:
        The small pictures ``(B, 3, h, w)`` and the enlarged ones ``(B, 3, S, S)``.
    """
    small = F.interpolate(images, thumbnail_shape(numbers), mode="area")
    large = F.interpolate(small, images.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)
    return small, large


class PrincipalComponents:
    """The best *linear* code: the directions of largest variance of the training pictures.

    Found by subspace iteration that streams over the data, so that memory holds one batch (Halko et al. 2011).

    Args:
        data: training pictures.
        count: numbers per picture.
        passes: over the data; each brings the subspace closer to the leading one.
        generator: of the random start.

    Raises:
        CourseError: more components than pictures.
    """

    def __init__(self, data: ImageSet, count: int, passes: int = 4, generator: torch.Generator | None = None):
        if not 1 <= count <= len(data):
            raise CourseError(f"{len(data)} pictures have between 1 and {len(data)} components, not {count}.")
        self.shape = (3, data.size, data.size)
        self.mean = sum(x.flatten(1).sum(0) for x in data.batches(1000)) / len(data)
        # A few directions more than wanted make the wanted ones converge faster; they are cut off at the end.
        extra = min(count + 16, len(data))
        basis = torch.randn(self.mean.numel(), extra, generator=generator)
        for _ in range(passes):
            basis = torch.linalg.qr(basis).Q
            rows = ((x.flatten(1) - self.mean) for x in data.batches(1000))
            basis = sum(x.T @ (x @ basis) for x in rows) / len(data)
        vectors, self.variances, _ = torch.linalg.svd(basis, full_matrices=False)
        self.basis, self.variances = vectors[:, :count].contiguous(), self.variances[:count]

    def encode(self, images: Tensor) -> Tensor:
        """``(B, count)`` for pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return (images.flatten(1) - self.mean) @ self.basis

    def decode(self, code: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)``, clamped to [−1, 1]."""
        return (code @ self.basis.T + self.mean).view(-1, *self.shape).clamp(-1, 1)
