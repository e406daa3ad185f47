"""Ways between two vectors."""

import torch
from torch import Tensor

__all__ = ["slerp", "way"]


def slerp(start: Tensor, end: Tensor, amount: float | Tensor) -> Tensor:
    """Spherical interpolation between vectors ``(..., D)``; lengths are interpolated too.

    Gaussian vectors in many dimensions have nearly equal lengths, about √D. The straight line between two of them runs
    through short vectors, which a generator has hardly seen; the arc does not.

    Args:
        start, end: the vectors.
        amount: 0 gives ``start``, 1 gives ``end``; a tensor is broadcast against ``(..., 1)``.
    """
    first, second = (x.norm(dim=-1, keepdim=True) for x in (start, end))
    amount = torch.as_tensor(amount, dtype=start.dtype, device=start.device)
    length = torch.lerp(first, second, amount)
    cosine = (start * end).sum(-1, keepdim=True) / (first * second).clamp_min(1e-12)
    angle = cosine.clamp(-1, 1).arccos()
    weights = ((1 - amount) * angle).sin() / first.clamp_min(1e-12), (amount * angle).sin() / second.clamp_min(1e-12)
    arc = length * (weights[0] * start + weights[1] * end) / angle.sin().clamp_min(1e-12)
    # Between parallel vectors every way is a straight one.
    return torch.where(angle.sin() < 1e-4, torch.lerp(start, end, amount), arc)


def way(start: Tensor, end: Tensor, steps: int, spherical: bool) -> Tensor:
    """``(..., D)`` twice → ``(..., steps, D)``: from ``start`` to ``end``, both included."""
    amounts = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    start, end = start[..., None, :], end[..., None, :]
    return slerp(start, end, amounts) if spherical else torch.lerp(start, end, amounts)
